"""Make the vector environment that a suite asks for."""

from collections.abc import Sequence

import torch

from envs.external.family import ExternalFamily
from envs.simulation.backends import WARP, choose_physics
from envs.suites import Suite, load_suite
from envs.tasks import Task
from envs.vector.base import EnvOptions, PixelVectorEnv
from envs.vector.external import ExternalVectorEnv
from envs.vector.mujoco import MujocoVectorEnv
from envs.vector.multi_body import MultiBodyVectorEnv
from envs.vector.warp import WarpMultiBodyVectorEnv, WarpVectorEnv


def make_vec(
    suite: Suite | str,
    num_envs: int,
    tasks: Sequence[Task] | None = None,
    seed: int = 0,
    stream: str = "train",
    frame_stack: int = 1,
    image_size: int = 64,
    threads: int | None = None,
    random_initial_episode_step: bool = False,
    evaluation: bool = False,
    physics: str = "auto",
    device: str | torch.device = "cpu",
    observation: str = "pixels",
    first_env: int = 0,
    total_envs: int | None = None,
) -> PixelVectorEnv:
    """Make a vector environment of one suite.

    Args:
        suite: scene, action repeat and tasks; or the name of a suite, as `load_suite` takes it.
        num_envs: number of worlds.
        tasks: tasks to follow, of the suite's family; the training split by default.
        seed: run seed, a non-negative integer.
        stream: name of the random stream, such as "train": streams share no random numbers.
        frame_stack: frames in an observation.
        image_size: height and width in pixels.
        threads: worker threads; by default one for every core, or a single one for suites whose
            steps take no longer with one (point masses before a fixed camera).
        random_initial_episode_step: begin the first episodes part of the way to their time limits,
            so that resets are spread out.
        evaluation: play the tasks' evaluation episodes: where a task's e-th episode starts depends
            on `seed`, the task's own `evaluation_seed` and e alone, not on the stream, the world,
            or the tasks and worlds beside it.
        physics: what simulates: `mujoco`, on the CPU; `warp`, MuJoCo Warp on `device`; `auto`,
            which is `warp` on a GPU for scenes that it can simulate there, else `mujoco`.
        device: that MuJoCo Warp simulates on: cpu, cuda or cuda:NUMBER.
        observation: "pixels"; "state", the body's own state without images; or "both". States are
            refused where the suite has none (see `Suite.state_size`).
        first_env: of several processes that share `total_envs` worlds, the number of this one's
            first world: its worlds have the tasks and the random numbers of those of one process.
        total_envs: worlds of all these processes; None for `num_envs`.

    Raises:
        ValueError: an argument is out of range; the message names it and what is valid.
    """
    suite = load_suite(suite) if isinstance(suite, str) else suite
    options = EnvOptions(
        seed=seed,
        stream=stream,
        frame_stack=frame_stack,
        image_size=image_size,
        threads=threads,
        random_initial_episode_step=random_initial_episode_step,
        evaluation=evaluation,
        physics=choose_physics(physics, suite.scenes(), device),
        device=str(device),
        observation=observation,
        first_env=first_env,
        total_envs=total_envs,
    )
    arguments = (suite, num_envs, tasks, options)
    if isinstance(suite.family, ExternalFamily):
        return ExternalVectorEnv(*arguments)
    if options.physics == WARP:
        return WarpMultiBodyVectorEnv(*arguments) if suite.mixed else WarpVectorEnv(*arguments)
    return MultiBodyVectorEnv(*arguments) if suite.mixed else MujocoVectorEnv(*arguments)
