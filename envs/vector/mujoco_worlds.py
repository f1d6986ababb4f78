"""Simulate and draw many worlds of one body, which follow tasks of one family."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8

from envs.families.family import EpisodeTask, Family
from envs.simulation.backends import make_physics
from envs.simulation.distractors import distractor_positions
from envs.simulation.physics import InitialState
from envs.simulation.variation import variant
from envs.tasks import Task
from envs.vector.base import EnvOptions

# Seconds on the paths of distractors within which an episode begins: another stretch of them in
# every episode.
LONGEST_DISTRACTOR_START = 1000.0


class MujocoWorlds:
    """Simulate worlds of one body.

    Args:
        family: of all tasks.
        tasks: tasks that the worlds may follow.
        num_worlds: number of worlds.
        options: image size, threads, and what simulates.

    Attributes:
        physics: the simulator.
        family: as given.
        goals: goals of the worlds' episodes, [world, goal].
        actuator_ranges: the centre and half of the range of every actuator's control.
        distractor_start: seconds on the paths of distractors at which each world's episode began.
    """

    def __init__(
        self,
        family: Family,
        tasks: Sequence[Task],
        num_worlds: int,
        options: EnvOptions,
    ) -> None:
        self.family = family.for_tasks(tasks)
        self._tasks = tasks
        self._task_goals = torch.from_numpy(np.stack([self.family.goal(task) for task in tasks]))
        self.goals = self._task_goals[:1].repeat(num_worlds, 1)
        scene = self.family.scene
        kinds = [(task.dynamics, task.vision) for task in tasks]
        distinct = list(dict.fromkeys(kinds))
        self._variants = torch.tensor([distinct.index(kind) for kind in kinds])
        variants = [variant(scene.model, scene.camera, *kind) for kind in distinct]
        self._distractors = np.array([int(task.vision.distractors) for task in tasks])
        self._distance = np.array([task.vision.distance for task in tasks])
        self.distractor_start = np.zeros(num_worlds)
        most = int(self._distractors.max())
        self.physics = make_physics(
            options.physics,
            scene,
            num_worlds,
            options.image_size,
            options.device,
            options.threads,
            variants,
            most,
        )
        self._start = InitialState.of(self.physics.model, num_worlds)
        self._model_seeds = torch.zeros(num_worlds, dtype=torch.int64)
        self._start.model_seeds = self._model_seeds
        self.actuator_ranges = _actuator_ranges(self.physics.model)
        self.seconds = float(self.physics.model.opt.timestep * scene.substeps)

    def choose_start(self, world: int, task: int, rng: np.random.Generator) -> EpisodeTask | None:
        """Draw the state in which a world's next episode of a task starts.

        Returns:
            What the task says in this episode, or None if it says the same in all of them.
        """
        start = self.family.start(self._tasks[task], rng)
        self._set_goal(world, task, start.episode)
        self._start.joint_positions[world] = torch.from_numpy(start.joint_positions)
        self._start.joint_velocities[world] = torch.from_numpy(start.joint_velocities)
        self._start.mocap_positions[world] = torch.from_numpy(start.mocap_positions)
        self._model_seeds[world] = start.model_seed
        return start.episode

    def recall_episode(self, world: int, task: int, rng: np.random.Generator) -> EpisodeTask | None:
        """Return what `choose_start` returned, and set the goal, where the state was loaded.

        Args:
            world: number of the world.
            task: number of its task.
            rng: random numbers of the episode that the world is in, from their beginning.
        """
        episode = self.family.start(self._tasks[task], rng).episode
        self._set_goal(world, task, episode)
        return episode

    def choose_distractor_start(self, world: int, rng: np.random.Generator) -> None:
        """Draw where on their paths distractors are when a world's next episode starts."""
        self.distractor_start[world] = rng.random() * LONGEST_DISTRACTOR_START

    def start(
        self, worlds: Int64[np.ndarray, " started"], tasks: Int64[np.ndarray, " env"]
    ) -> None:
        """Put some worlds into the states that were chosen for them.

        Args:
            worlds: numbers of these worlds.
            tasks: number of the task of every world.
        """
        mask = torch.zeros(self.physics.num_worlds, dtype=torch.bool)
        mask[torch.from_numpy(worlds)] = True
        self._start.variants = self._variants[tasks]
        self.physics.reset(mask, self._start)

    def control(self, actions: Float64[np.ndarray, "world action"]) -> torch.Tensor:
        """Return the controls, in actuator units, of actions in [-1, 1]."""
        centre, half_range = self.actuator_ranges
        return torch.from_numpy(centre + half_range * actions)

    def advance(
        self, control: torch.Tensor
    ) -> tuple[Float64[np.ndarray, " world"], Bool[np.ndarray, " world"]]:
        """Take one control step; return the rewards and where the success condition holds."""
        # A simulator on a GPU has its fields, and so its rewards, there and in its own precision.
        goals = self.goals.to(self.physics.fields["qpos"])
        reward, holding = self.advance_tensors(control, goals)
        return reward.cpu().numpy(), holding.cpu().numpy()

    def advance_tensors(
        self, control: torch.Tensor, goals: Float[torch.Tensor, "world goal"]
    ) -> tuple[Float[torch.Tensor, " world"], Bool[torch.Tensor, " world"]]:
        """Do the same with goals, rewards and conditions on the simulator's device."""
        self.physics.step(control)
        reward = self.family.reward(self.physics, goals)
        return reward, self.family.holding(self.physics, goals, reward)

    def states(self) -> Float32[np.ndarray, "world state"]:
        """Return the present states that agents may observe."""
        return self.family.state(self.physics).cpu().numpy().astype(np.float32)

    def place_distractors(
        self, tasks: Int64[np.ndarray, " world"], steps: Int64[np.ndarray, " world"]
    ) -> None:
        """Move distractors to where they are now.

        Args:
            tasks: number of the task of every world.
            steps: control steps since the start of every world's episode.
        """
        if not self._distractors.any():
            return
        shown = np.arange(self._distractors.max()) < self._distractors[tasks, None]
        seconds = self.distractor_start + steps * self.seconds
        where = distractor_positions(self.family.scene, shown, seconds, self._distance[tasks])
        self.physics.set_distractors(where)

    def draw(
        self,
        out: UInt8[np.ndarray, "drawn size size 3"],
        worlds: Int64[np.ndarray, " drawn"] | None = None,
    ) -> None:
        """Draw all worlds, or the listed ones, into `out`."""
        listed = None if worlds is None else torch.from_numpy(worlds)
        self.physics.render(torch.from_numpy(out), listed)

    def _set_goal(self, world: int, task: int, episode: EpisodeTask | None) -> None:
        own = None if episode is None else torch.from_numpy(episode.goal)
        self.goals[world] = self._task_goals[task] if own is None else own


def _actuator_ranges(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre and half of the range of every actuator's control."""
    low, high = model.actuator_ctrlrange.T
    return (low + high) / 2, (high - low) / 2
