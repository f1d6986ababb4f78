"""The vector environment that agents meet: pixels and a task vector in, actions out, many worlds at
once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float32, Float64, UInt8

from envs.families import resolve
from envs.families.family import TaskFamily
from envs.simulation.distractors import places
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState
from envs.simulation.variation import variant
from envs.suites import Suite
from envs.tasks import Task, require_count
from envs.vector.episodes import Episodes, episode_rng, evaluation_rng

Observation = dict[str, np.ndarray]

# A task vector is "about [-1, 1]": held-out tasks may lie outside what was trained on.
TASK_LIMIT = 2.0
SMALLEST_IMAGE, LARGEST_IMAGE = 8, 1024
# Seconds on the paths of distractors within which an episode begins: another stretch of them in
# every episode.
DRIFT = 1000.0


@dataclass(frozen=True, kw_only=True)
class EnvOptions:
    """How a vector environment is made; each is explained at `make_vec`.

    Raises:
        ValueError: one is out of range; the message names it and what is valid.
    """

    seed: int
    stream: str
    frame_stack: int
    image_size: int
    threads: int | None
    random_initial_episode_step: bool
    evaluation: bool

    def __post_init__(self) -> None:
        require_count(self.frame_stack, "frame_stack", 1)
        checked_image_size(self.image_size)
        checked_seed(self.seed)
        if self.threads is not None:
            require_count(self.threads, "threads", 1)


class PixelVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """`num_envs` worlds of one scene, each following one of `tasks`, seen through a camera.

    Observations: "pixels" uint8 [env, size, size, 3 * frame_stack], oldest frame first, the first
        frame of an episode
    repeated; "task" float32 [env, task_size]; "action_mask" bool [env, action_size], True for an
        actuator of the world's body and False for padding. Actions: float32 [env, actuator] in
        [-1, 1], clipped.

    An episode that reaches its time limit is truncated and the world starts its next one within the
    same step (`AutoresetMode.SAME_STEP`): the observation is the new episode's first, the old one's
    last is `infos["final_obs"]`. `infos` has "task_index" int64 and "success" bool of the
    transition, and with a mask (`_final_obs`, `_episode`) where an episode ended, "episode":
    "return" float64, "length" int64 in control steps, "success" bool (at any step),
    "steps_to_success" int64 in control steps (0 without one), "partial" bool (a staggered first
    episode, which began part of the way).

    Nothing here terminates; `terminated` is False throughout, so every episode end is to be
    bootstrapped.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    render_mode = "rgb_array"

    def __init__(
        self, suite: Suite, num_envs: int, tasks: Sequence[Task] | None, options: EnvOptions
    ) -> None:
        self._take(suite, num_envs, checked_tasks(suite, tasks), options)
        self._family = resolve(self.tasks[0])
        self._vectors = task_vectors([self._family] * len(self.tasks), self.tasks)
        self._goals = torch.from_numpy(np.stack([self._family.goal(task) for task in self.tasks]))
        scene, kinds = self._family.scene, [(task.dynamics, task.vision) for task in self.tasks]
        distinct = list(dict.fromkeys(kinds))
        self._variants = torch.tensor([distinct.index(kind) for kind in kinds])
        variants = [variant(scene.model, scene.camera, *kind) for kind in distinct]
        self._distractors = np.array([int(task.vision.distractors) for task in self.tasks])
        self._distance = np.array([task.vision.distance for task in self.tasks])
        self._drift = np.zeros(self.num_envs)
        self._physics = MujocoPhysics(
            scene,
            self.num_envs,
            self.image_size,
            options.threads,
            variants,
            int(self._distractors.max()),
        )
        self._episodes = Episodes(self.tasks, self.num_envs, self._family.hold_steps)
        self._start = InitialState.of(self._physics.model, self.num_envs)
        self._model_seeds = torch.zeros(self.num_envs, dtype=torch.int64)
        self._start.model_seeds = self._model_seeds
        self._pixels = np.zeros(
            (self.num_envs, self.image_size, self.image_size, 3 * self.frame_stack), np.uint8
        )
        self._centre, self._half_range = _actuator_ranges(self._physics.model)
        self._make_spaces([self._physics.model.nu] * len(self.tasks), self._physics.model.nu)
        self._seconds = float(self._physics.model.opt.timestep * scene.substeps)
        self.metadata = {**self.metadata, "render_fps": 1 / (self._seconds * self.action_repeat)}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict]:
        """Start an episode in every world: the next one, or with `seed` the first one of that run
        seed.

        Args:
            options: "episode": the number of the episode to start, counted from 0.

        Raises:
            ValueError: a negative or non-integer seed or number, or another option.
        """
        self._take_seed(seed, options)
        everywhere = np.ones(self.num_envs, bool)
        self._begin(everywhere)
        self._pixels = self._render_stack(everywhere)
        infos = {"task_index": self._episodes.task_index, "success": np.zeros(self.num_envs, bool)}
        return self._observation(), infos

    def step(
        self, actions: Float32[np.ndarray, "env actuator"]
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One agent step: `action_repeat` control steps under one action, then an image.

        Raises:
            ValueError: actions of the wrong shape or not finite.
            SimulationError: a world's state has left what can be simulated.
        """
        control, index = self._control(actions), self._episodes.task_index
        rewards, success = self._simulate(control, self._goals[index])
        infos: dict[str, Any] = {"task_index": index, "success": success}
        ended = self._episodes.ended
        if not ended.any():
            self._pixels = self._render_stack(ended)
            return self._observation(), rewards, np.zeros_like(ended), ended, infos
        last = self._last_pixels(ended)
        infos |= {"episode": self._episodes.statistics(), "_episode": ended.copy()}
        self._begin(ended)
        self._pixels = self._render_stack(ended)
        infos |= {"final_obs": self._final(ended, last, index), "_final_obs": ended.copy()}
        return self._observation(), rewards, np.zeros_like(ended), ended, infos

    def render(self) -> tuple[np.ndarray, ...]:
        """The present image of every world, as Gymnasium's vector environments give it."""
        return tuple(self.render_frames(index) for index in range(self.num_envs))

    def render_frames(self, index: int, size: int = 128) -> UInt8[np.ndarray, "height width 3"]:
        """An image of one world, for videos. Raises ValueError for a world or a size there cannot
        be.
        """
        if not 0 <= index < self.num_envs:
            raise ValueError(f"index must be from 0 to {self.num_envs - 1}, got {index}")
        self._set_distractors()
        return self._physics.image(index, checked_image_size(size))

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that the future depends on: continuing from it is bit-identical to never having
        stopped.
        """
        return {**self._own_state(), "drift": self._drift.copy(), "physics": self._physics.state()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `state_dict` of an environment made with the same arguments (seed and
        threads may differ).

        Raises:
            ValueError: a key is missing or does not fit this environment; the message names it.
        """
        self._load_own_state(state)
        self._drift = np.array(state["drift"])
        self._physics.load_state(np.asarray(state["physics"]))

    def close_extras(self, **kwargs: Any) -> None:
        """Give back the threads (called by `close`)."""
        self._physics.close()

    def _take(
        self, suite: Suite, num_envs: int, tasks: tuple[Task, ...], options: EnvOptions
    ) -> None:
        """What every kind of environment remembers of its arguments."""
        self.tasks, self.num_envs = tasks, require_count(num_envs, "num_envs", 1)
        self.frame_stack, self.image_size = options.frame_stack, options.image_size
        self.action_repeat = suite.action_repeat
        self._options, self._seed = options, options.seed

    def _take_seed(self, seed: int | None, options: dict[str, Any] | None) -> None:
        """What `reset` was given."""
        given = dict(options or {})
        episode = require_count(given.pop("episode", 0), "option 'episode'", 0)
        if given:
            raise ValueError(
                f"reset takes the option 'episode' alone, got {', '.join(map(repr, given))}"
            )
        if seed is not None:
            self._seed = checked_seed(seed)
        if seed is not None or options:
            self._episodes.number[:] = episode - 1

    def _own_state(self) -> dict[str, np.ndarray]:
        """All but what simulates."""
        own = {
            "seed": np.array(self._seed),
            "pixels": self._pixels.copy(),
            "tasks": self._task_names(),
        }
        return own | self._episodes.state_dict()

    def _load_own_state(self, state: dict[str, np.ndarray]) -> None:
        """Takes `_own_state` out of a state that fits this environment as a whole."""
        own = self.state_dict()
        missing = [key for key in own if key not in state]
        if missing:
            raise ValueError(f"state has no key {missing[0]!r}; it needs {', '.join(own)}")
        if not np.array_equal(state["tasks"], own["tasks"]):
            names = [str(bytes(names), "utf-8") for names in (state["tasks"], own["tasks"])]
            raise ValueError(f"state 'tasks' are {names[0]}, but this environment's are {names[1]}")
        for key, values in own.items():
            if state[key].shape != values.shape:
                raise ValueError(
                    f"state {key!r} must have shape {values.shape}, got {state[key].shape}"
                )
        self._seed = int(state["seed"])
        self._pixels = np.array(state["pixels"])
        self._episodes.load_state_dict(state)

    def _make_spaces(self, used: Sequence[int], actions: int) -> None:
        """Make the spaces and the action masks of tasks whose bodies use so many of `actions`."""
        self._masks = np.arange(actions) < np.array(used)[:, None]
        pixels = spaces.Box(0, 255, self._pixels.shape[1:], np.uint8)
        task = spaces.Box(-TASK_LIMIT, TASK_LIMIT, self._vectors.shape[1:], np.float32)
        mask = spaces.Box(0, 1, (actions,), np.bool_)  # type: ignore[arg-type]  # bool is allowed
        self.single_observation_space = spaces.Dict(
            {"pixels": pixels, "task": task, "action_mask": mask}
        )
        self.single_action_space = spaces.Box(-1.0, 1.0, (actions,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _require_reset(self) -> None:
        if self._episodes.number[0] < 0:
            raise ValueError("call reset() before the first step()")

    def _control(self, actions: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self._centre + self._half_range * self._checked_actions(actions))

    def _checked_actions(self, actions: np.ndarray) -> Float64[np.ndarray, "env action"]:
        """Within [-1, 1]."""
        self._require_reset()
        values = np.asarray(actions, np.float64)
        if values.shape != self.action_space.shape:
            raise ValueError(
                f"actions must have shape {self.action_space.shape}, got {values.shape}"
            )
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise ValueError(f"actions must be finite; they are not in worlds {bad.tolist()}")
        return np.clip(values, -1, 1)

    def _simulate(
        self, control: torch.Tensor, goals: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        total, success = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        for _ in range(self.action_repeat):
            self._physics.step(control)
            reward = self._family.reward(self._physics, goals)
            holding = self._family.holding(self._physics, goals, reward)
            total += reward.numpy()
            success |= self._episodes.advance(reward.numpy(), holding.numpy())
        return total.astype(np.float32), success

    def _begin(self, mask: Bool[np.ndarray, " env"]) -> None:
        self._episodes.begin(mask)
        index = self._episodes.task_index
        self._start.variants = self._variants[index]
        for env in np.flatnonzero(mask):
            rng = self._episode_rng(int(env))
            start = self._family.start(self.tasks[index[env]], rng)
            self._start.joint_positions[env] = torch.from_numpy(start.joint_positions)
            self._start.joint_velocities[env] = torch.from_numpy(start.joint_velocities)
            self._start.mocap_positions[env] = torch.from_numpy(start.mocap_positions)
            self._model_seeds[env] = start.model_seed
            if self._options.random_initial_episode_step and self._episodes.number[env] == 0:
                self._episodes.random_initial_episode_step(
                    int(env), rng.random(), self.action_repeat
                )
            self._drift[env] = rng.random() * DRIFT
        self._physics.reset(torch.from_numpy(mask), self._start)

    def _episode_rng(self, env: int) -> np.random.Generator:
        """The random numbers of the episode that a world is in."""
        if not self._options.evaluation:
            return episode_rng(
                self._seed, self._options.stream, env, int(self._episodes.number[env])
            )
        task = self.tasks[self._episodes.task_index[env]]
        return evaluation_rng(
            self._seed, task.evaluation_seed, int(self._episodes.task_episode[env])
        )

    def _render_stack(self, fresh: Bool[np.ndarray, " env"]) -> np.ndarray:
        """The stacks after a new image: worlds in `fresh` show nothing older than it."""
        pixels = np.empty_like(self._pixels)
        # Dropping the oldest frame is a shift by three bytes of the whole memory; what this moves
        # from one pixel into the place of its neighbour's newest frame is overwritten by that
        # frame.
        pixels.reshape(-1)[:-3] = self._pixels.reshape(-1)[3:]
        self._set_distractors()
        self._physics.render(torch.from_numpy(pixels[..., -3:]))
        if fresh.any() and self.frame_stack > 1:
            pixels[fresh] = np.tile(pixels[fresh][..., -3:], self.frame_stack)
        return pixels

    def _set_distractors(self) -> None:
        """Moves distractors to where they are now."""
        if self._distractors.any():
            index, seconds = (
                self._episodes.task_index,
                self._drift + self._episodes.clock * self._seconds,
            )
            shown = np.arange(self._distractors.max()) < self._distractors[index, None]
            self._physics.set_distractors(
                places(self._family.scene, shown, seconds, self._distance[index])
            )

    def _last_pixels(self, ended: Bool[np.ndarray, " env"]) -> np.ndarray:
        """The last stacks of the worlds that have ended, [ended, height, width, channel]."""
        worlds = np.flatnonzero(ended)
        newest = np.empty((len(worlds), self.image_size, self.image_size, 3), np.uint8)
        self._set_distractors()
        self._physics.render(torch.from_numpy(newest), torch.from_numpy(worlds))
        return np.concatenate([self._pixels[worlds][..., 3:], newest], axis=-1)

    def _final(self, ended: np.ndarray, last: np.ndarray, index: np.ndarray) -> Observation:
        final = self._observation()
        final["pixels"][ended] = last
        final["task"][ended] = self._vectors[index[ended]]
        final["action_mask"][ended] = self._masks[index[ended]]
        return final

    def _observation(self) -> Observation:
        # A copy: the next stack is made from this one, and whoever gets an observation may write
        # into it.
        index = self._episodes.task_index
        return {
            "pixels": self._pixels.copy(),
            "task": self._vectors[index],
            "action_mask": self._masks[index],
        }

    def _task_names(self) -> np.ndarray:
        """Names as bytes: a state holds numeric arrays only, which every file format can keep."""
        return np.frombuffer(", ".join(task.name for task in self.tasks).encode(), np.uint8)


def checked_tasks(suite: Suite, tasks: Sequence[Task] | None) -> tuple[Task, ...]:
    """The tasks to follow. Raises ValueError where there are none, or where they cannot run side by
    side.
    """
    chosen = suite.tasks("train") if tasks is None else tuple(tasks)
    if not chosen:
        raise ValueError("tasks must name at least one task")
    if not suite.mixed and resolve(chosen[0]) is not suite.family:
        raise ValueError(f"task {chosen[0].name!r} has another scene than suite {suite.name!r}")
    # A suite of just these tasks passes exactly when they can run side by side.
    replace(suite, splits={"train": chosen})
    return chosen


def checked_image_size(size: int) -> int:
    return require_count(size, "image_size", SMALLEST_IMAGE, LARGEST_IMAGE)


def checked_seed(seed: int) -> int:
    # What is saved of a run is an array of 64-bit integers.
    return require_count(seed, "seed", 0, 2**63 - 1)


def task_vectors(
    families: Sequence[TaskFamily], tasks: Sequence[Task]
) -> Float32[np.ndarray, "task size"]:
    """What each task's family says of it. Raises ValueError for one out of the observation's
    bounds.
    """
    pairs = zip(families, tasks, strict=True)
    vectors = np.stack([family.task_vector(task) for family, task in pairs]).astype(np.float32)
    far = [
        task.name
        for task, vector in zip(tasks, vectors, strict=True)
        if np.abs(vector).max() > TASK_LIMIT
    ]
    if far:
        raise ValueError(
            f"the task vector of {far[0]!r} lies outside [-{TASK_LIMIT}, {TASK_LIMIT}]"
        )
    return vectors


def _actuator_ranges(model: Any) -> tuple[np.ndarray, np.ndarray]:
    low, high = model.actuator_ctrlrange.T
    return (low + high) / 2, (high - low) / 2
