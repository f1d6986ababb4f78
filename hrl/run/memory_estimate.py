"""What training, an evaluation or a film takes beside weights: known from the configuration, before
it is taken.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from envs import Suite
from envs.external.family import WORKER_BYTES, ExternalFamily
from envs.external.worker_pool import worlds_held
from envs.simulation.terrain import has_terrain
from hrl.config import RunConfig
from hrl.evaluation.episodes import worlds_at_once
from hrl.evaluation.policy_video import SIZE
from hrl.run.checkpoints import KEEP
from hrl.run.memory import DiskEstimate, GpuMemoryEstimate, MemoryEstimate

# Bytes: the ray tracer's own, and those of one world's simulation and images (measured: 0.23 to
# 0.69 MiB).
RENDERER, WORLD = 64 * 2**20, 3 * 2**18
# Besides, where every world has its own terrain: model, mesh and its tree (measured: 6 to 7 MiB).
TERRAIN = 8 * 2**20


def memory_estimates(config: RunConfig, suite: Suite, device: torch.device) -> list[MemoryEstimate]:
    """Memory that training takes, by name, in bytes: the machine's, and the GPU's where the learner
    computes on one.

    Weights do not count, nor what has their size (gradients, moments): at 50 million parameters
    about a GiB.
    """
    image = _image(config)
    machine = MemoryEstimate()
    learner = GpuMemoryEstimate(device) if device.type == "cuda" else machine
    machine.add("observations", 3 * config.num_envs * image)
    if hasattr(config.agent, "n_minibatches"):
        rollout = config.agent.n_steps * config.num_envs * image
        # Kept as the encoder reads it: in float32, or in half of that. The library's is in the
        # machine's memory always.
        (machine if config.agent.name == "sb3_ppo" else learner).add(
            "rollout (agent.n_steps, num_envs)", 4 * rollout
        )
        # A shuffled part of it, and the stem's maps, forward and backward.
        learner.add("minibatch (agent.n_minibatches)", 8 * rollout // config.agent.n_minibatches)
    if holds_replay(config):
        beside_learner = getattr(config.agent, "replay_on", "host") == "device"
        (learner if beside_learner else machine).add(
            f"replay (agent.{_capacity_key(config)})", replay_size(config, suite)
        )
        if beside_learner and learner is not machine:
            machine.add("replay, while it is saved", replay_size(config, suite))
    if hasattr(config.agent, "replay_capacity"):
        learner.add("update (agent.batch_size, agent.sequence_length)", _update_size(config))
    dealt = len(suite.tasks("train"))
    machine.add("simulation and rendering", simulation_size(config, suite, config.num_envs, dealt))
    if config.evaluation.every:
        worlds = worlds_at_once(suite, dealt, config.evaluation.episodes)
        machine.add("evaluation", worlds * 3 * image + simulation_size(config, suite, worlds))
    return [machine] if learner is machine else [machine, learner]


def acting_memory_estimate(
    config: RunConfig, suite: Suite, worlds: int, film_steps: int = 0
) -> MemoryEstimate:
    """Memory that a policy takes to act in so many worlds at once, by name, in bytes.

    Args:
        film_steps: agent steps of the longest film, all of whose images are kept until it is
            written.
    """
    image = _image(config)
    budget = MemoryEstimate()
    budget.add("observations", 3 * worlds * image)
    # Patches in float32, and the stem's maps.
    budget.add("policy", 6 * worlds * image)
    budget.add("simulation and rendering", simulation_size(config, suite, worlds))
    # A quarter more for the panel of the manager's commands.
    budget.add("record_video", film_steps * SIZE**2 * 3 * 5 // 4)
    return budget


def checkpoint_disk_estimate(config: RunConfig, suite: Suite, folder: Path) -> DiskEstimate:
    """Disk space that a run's checkpoints take in its folder, by what is in them, in bytes.

    The last `KEEP` are kept, and while one is saved its file lies beside them. Those that are there
    already make room.
    """
    budget = DiskEstimate(folder, there=_size(folder / "checkpoints"))
    files = KEEP + 1
    # The environment's and the learner's last observation.
    budget.add(f"{files} checkpoints' observations", files * 2 * config.num_envs * _image(config))
    if holds_replay(config):
        budget.add(
            f"{files} checkpoints' replay (agent.{_capacity_key(config)})",
            files * replay_size(config, suite),
        )
    return budget


def simulation_size(config: RunConfig, suite: Suite, worlds: int, tasks: int = 1) -> int:
    """Bytes of so many worlds of a suite, with what draws them; of an external suite, its worker
    processes too.

    Args:
        tasks: that are dealt out to the worlds in turn; 1 where each keeps its own, as in
            evaluations.
    """
    family = suite.family
    if isinstance(family, ExternalFamily):
        workers = min(worlds, config.threads or len(os.sched_getaffinity(0)))
        return workers * WORKER_BYTES + worlds_held(worlds, tasks, workers) * family.world_bytes
    own = TERRAIN if any(has_terrain(scene) for scene in suite.scenes()) else 0
    return RENDERER + worlds * (WORLD + own)


def holds_replay(config: RunConfig) -> bool:
    """Whether the agent learns from a replay."""
    return bool(_capacity_key(config))


def replay_size(config: RunConfig, suite: Suite) -> int:
    """Bytes of a full replay.

    Our own keeps one image a step, and latents. The library's keeps transitions, each of two
    observations, an action, a reward and two flags. Both round down to as many steps of every
    environment.
    """
    if hasattr(config.agent, "replay_capacity"):
        sizes = config.network.world_model
        row = (
            _image(config)
            + 4 * (suite.task_size + suite.action_size + 1)
            + 2
            + 2 * sizes.deter
            + sizes.groups
        )
        return int(config.agent.replay_capacity // config.num_envs * config.num_envs * row)
    transitions = max(config.agent.buffer_size // config.num_envs, 1) * config.num_envs
    observation = _image(config) + 4 * suite.task_size + suite.action_size
    return int(transitions * (2 * observation + 4 * (suite.action_size + 3)))


# Private functions.


def _capacity_key(config: RunConfig) -> str:
    """The key of the agent that says how large its replay is; empty where it has none."""
    return next(
        (key for key in ("replay_capacity", "buffer_size") if hasattr(config.agent, key)), ""
    )


def _update_size(config: RunConfig) -> int:
    """What an update of a world model keeps for its backward pass, about: images and maps, imagined
    features.
    """
    sizes, starts = (
        config.network.world_model,
        config.agent.batch_size * config.agent.sequence_length,
    )
    maps = 6 * 4 * _image(config) if sizes.strided else (10 + 2 * sizes.depth) * 4 * _image(config)
    imagined = (
        (config.agent.horizon + 1)
        * (6 * (sizes.features + sizes.deter) + 30 * sizes.units + 6 * 255)
        * 4
    )
    return int(starts * (maps + imagined))


def _image(config: RunConfig) -> int:
    """Bytes of one observation's stack of images."""
    return config.image_size**2 * 3 * config.frame_stack


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
