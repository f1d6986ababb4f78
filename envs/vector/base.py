"""Define the vector environment that agents meet: pixels and a task in, actions out, many worlds.

`PixelVectorEnv` does all that is the same wherever worlds are simulated: arguments, spaces, seeds,
the assignment of tasks, the ends of episodes, the stack of frames, the saved state.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from envs.external.families import task_family
from envs.families.family import EpisodeTask
from envs.suites import Suite
from envs.tasks import Task, require_count
from envs.vector.episodes import Episodes, episode_rng, evaluation_rng

Observation = dict[str, np.ndarray]

# A task vector is "about [-1, 1]": held-out tasks may lie outside what was trained on.
TASK_LIMIT = 2.0
# Nearly all draws of a policy in [-1, 1] with noise lie within it.
CHOICE_LIMIT = 10.0
OBSERVATIONS = ("pixels", "state", "both")
SMALLEST_IMAGE = 8
LARGEST_IMAGE = 1024


@dataclass(frozen=True, kw_only=True)
class EnvOptions:
    """Say how to make a vector environment; each option is explained at `make_vec`.

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
    physics: str
    device: str
    observation: str = "pixels"
    first_env: int = 0
    total_envs: int | None = None

    def __post_init__(self) -> None:
        if self.observation not in OBSERVATIONS:
            raise ValueError(
                f"observation must be one of {', '.join(OBSERVATIONS)}, got {self.observation!r}"
            )
        require_count(self.frame_stack, "frame_stack", 1)
        check_image_size(self.image_size)
        check_seed(self.seed)
        if self.threads is not None:
            require_count(self.threads, "threads", 1)


class Transition(NamedTuple):
    """Store the outcome of one agent step, for every world.

    Attributes:
        rewards: sums over the control steps.
        success: worlds that were successful in any of the control steps.
        terminated: worlds whose episodes ended in a terminal state.
        truncated: worlds whose episodes were cut off, by a time limit or because they are lost.
        lost: worlds whose simulation is lost, so that there is no image of their last state.
    """

    rewards: Float32[np.ndarray, " env"]
    success: Bool[np.ndarray, " env"]
    terminated: Bool[np.ndarray, " env"]
    truncated: Bool[np.ndarray, " env"]
    lost: Bool[np.ndarray, " env"]


class PixelVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray], ABC):
    """Step `num_envs` worlds, each of which follows one of `tasks` and is seen through a camera.

    Observations: "pixels" uint8 [env, size, size, 3 * frame_stack], oldest frame first, the first
    frame of an episode repeated; "task" float32 [env, task_size]; "action_mask" bool
    [env, action_size], True for an actuator of the world's body and False for padding, which has no
    effect. With `observation="both"` there is "state" float32 [env, state_size] too, the body's own
    (`Family.state`, or what an external environment itself observes, flattened); with "state" there
    are no "pixels", and nothing is drawn but what `render_frames` is asked for.

    Actions: float32 [env, action_size] in [-1, 1], clipped. Where the largest number of an action
    chooses among discrete ones, the space is [-10, 10] and nothing is clipped, because the order of
    clipped numbers would be lost.

    An episode that ends is followed by the world's next one within the same step
    (`AutoresetMode.SAME_STEP`): the observation is the new episode's first. The old one's last is
    in `infos["final_obs"]`, which holds, as in Gymnasium's own vector environments, one observation
    a world, and None where no episode ended. `infos` has "task_index" int64 and "success" bool of
    the transition, and where an episode ended "episode_statistics": "return" float64, "length"
    int64 in control steps, "success" bool (at any step), "steps_to_success" int64 in control steps
    (0 without one), "partial" bool (a first episode that began part of the way), and where tasks
    draw layouts "layout", its name, and "path_length" int64 in cells. `_final_obs` and
    `_episode_statistics` are masks of where an episode ended. The key "episode" is left to
    Gymnasium's `RecordEpisodeStatistics`, whose lengths count agent steps.

    A time limit truncates an episode. External environments terminate episodes, and so do native
    families whose episodes end with a success (`Family.ends_with_success`); elsewhere `terminated`
    is always False, so that every episode end is to be bootstrapped.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  as Gymnasium declares it
        "render_modes": ["rgb_array"],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    render_mode = "rgb_array"

    def __init__(
        self,
        suite: Suite,
        num_envs: int,
        tasks: tuple[Task, ...],
        options: EnvOptions,
        hold_steps: Sequence[int],
        bodies: Sequence[int] | None = None,
    ) -> None:
        """Keep the arguments and make the spaces.

        Args:
            suite: scene, action repeat and the tasks that size the spaces.
            num_envs: number of worlds.
            tasks: tasks to follow, as `check_tasks` returns them.
            options: of `make_vec`.
            hold_steps: see `Episodes`.
            bodies: see `Episodes`.

        Raises:
            ValueError: `num_envs` is out of range, or a task vector is.
        """
        self.tasks = tasks
        self.num_envs = require_count(num_envs, "num_envs", 1)
        self.frame_stack = options.frame_stack
        self.image_size = options.image_size
        self.action_repeat = suite.action_repeat
        self._options = options
        self._seed = options.seed
        others = (options.first_env, options.total_envs)
        self._episodes = Episodes(tasks, self.num_envs, hold_steps, bodies, *others)
        suite.check_observation(options.observation)
        self._shows_images = options.observation != "state"
        state_size = 0 if options.observation == "pixels" else suite.state_size
        self._states = np.zeros((self.num_envs, state_size), np.float32)
        side = self.image_size * self._shows_images
        self._pixels = np.zeros((self.num_envs, side, side, 3 * self.frame_stack), np.uint8)
        # Of the tasks, and of the worlds' episodes.
        self._task_vectors = _task_vectors(suite, tasks)
        self._vectors = self._task_vectors[self._episodes.task_index]
        self._episode_tasks: list[EpisodeTask | None] = [None] * self.num_envs
        self._action_masks = _action_masks(suite, tasks)
        self._action_limit = CHOICE_LIMIT if suite.discrete_actions else 1.0
        self._make_spaces()

    @abstractmethod
    def _start_episodes(self, worlds: Int64[np.ndarray, " started"]) -> None:
        """Put these worlds into the first states of their episodes.

        For each world draw from `_episode_rng`, and call `_choose_initial_step` with the generator
        after the numbers that the start state depends on. Call `_set_episode` where what the task
        says differs between its episodes.
        """

    @abstractmethod
    def _simulate(
        self, actions: Float64[np.ndarray, "env action"], task_index: Int64[np.ndarray, " env"]
    ) -> Transition:
        """Advance every world by one agent step and count it in `self._episodes`."""

    @abstractmethod
    def _draw(
        self,
        out: UInt8[np.ndarray, "drawn size size 3"],
        worlds: Int64[np.ndarray, " drawn"] | None = None,
    ) -> None:
        """Draw the present state of all worlds, or of the listed ones, into `out`."""

    @abstractmethod
    def _read_states(self) -> Float32[np.ndarray, "env state"]:
        """Return the present state of every world, of a lost one the last that it had.

        Only called where the observation has a state.
        """

    @abstractmethod
    def _image(self, index: int, size: int) -> UInt8[np.ndarray, "size size 3"]:
        """Return an image of one world at another size."""

    @abstractmethod
    def _simulation_state(self) -> dict[str, np.ndarray]:
        """Return the part of `state_dict` that belongs to the simulation."""

    @abstractmethod
    def _load_simulation_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `_simulation_state`, whose keys and shapes have been checked."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every world.

        Args:
            seed: a run seed, whose first episode is started; None: the next episode.
            options: "episode": the number of the episode to start, counted from 0.

        Raises:
            ValueError: a negative or non-integer seed or number, or another option.
            ExternalEnvError: an external environment raised an error; the message names it.
        """
        self._set_seed_and_episode(seed, options)
        everywhere = np.ones(self.num_envs, bool)
        self._begin(everywhere)
        self._look(everywhere)
        infos = {"task_index": self._episodes.task_index, "success": np.zeros(self.num_envs, bool)}
        return self._observation(), infos

    def step(
        self, actions: Float32[np.ndarray, "env action"]
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one agent step: `action_repeat` control steps under one action, then an image.

        Raises:
            ValueError: actions of the wrong shape or not finite, or no `reset` before.
            SimulationError: a world's state has left what can be simulated.
            ExternalEnvError: an external environment raised an error; the message names it.
        """
        values = self._checked_actions(actions)
        index = self._episodes.task_index
        transition = self._simulate(values, index)
        ended = transition.terminated | transition.truncated
        infos: dict[str, Any] = {"task_index": index, "success": transition.success}
        if ended.any():
            infos |= self._begin_next(ended, transition.lost, index)
        else:
            self._look(ended)
        return (
            self._observation(),
            transition.rewards,
            transition.terminated,
            ended & ~transition.terminated,
            infos,
        )

    def render(self) -> tuple[np.ndarray, ...]:
        """Return the present image of every world, as Gymnasium's vector environments do."""
        return tuple(self.render_frames(index) for index in range(self.num_envs))

    def render_frames(self, index: int, size: int = 128) -> UInt8[np.ndarray, "size size 3"]:
        """Return an image of one world, for videos.

        Raises:
            ValueError: there is no such world, or the size is out of range.
        """
        if not 0 <= index < self.num_envs:
            raise ValueError(f"index must be from 0 to {self.num_envs - 1}, got {index}")
        return self._image(index, check_image_size(size))

    def partial_returns(self) -> dict[str, float]:
        """Return the mean return so far of the running episodes, by the name of their task."""
        index = self._episodes.task_index
        returns = self._episodes.returns
        return {
            task.name: float(returns[index == place].mean())
            for place, task in enumerate(self.tasks)
            if (index == place).any()
        }

    def take_counts(self) -> dict[str, int]:
        """Return what was counted since the last call, by metric name; nothing by default."""
        return {}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return all that the future depends on.

        Continuing from it is bit-identical to never having stopped, except for external
        environments (see `ExternalVectorEnv`).
        """
        own = {
            "seed": np.array(self._seed),
            "tasks": self._task_names(),
        }
        if self._shows_images:
            own["pixels"] = self._pixels.copy()
        if self._states.size:
            own["states"] = self._states.copy()
        return own | self._episodes.state_dict() | self._simulation_state()

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `state_dict` of an environment made with the same arguments.

        Only seed and threads may differ.

        Raises:
            ValueError: a key is missing or does not fit this environment; the message names it.
        """
        self._check_state(state)
        self._seed = int(state["seed"])
        if self._shows_images:
            self._pixels = np.array(state["pixels"])
        if self._states.size:
            self._states = np.array(state["states"])
        self._episodes.load_state_dict(state)
        self._load_simulation_state(state)
        self._vectors = self._task_vectors[self._episodes.task_index]
        # What tasks say in single episodes is drawn again, from the same random numbers.
        if (self._episodes.number >= 0).all():
            for env in range(self.num_envs):
                self._set_episode(env, self._recall_episode(env))

    def _make_spaces(self) -> None:
        action_shape = self._action_masks.shape[1:]
        shown: dict[str, spaces.Space[Any]] = {}
        if self._shows_images:
            shown["pixels"] = spaces.Box(0, 255, self._pixels.shape[1:], np.uint8)
        if self._states.size:
            shown["state"] = spaces.Box(-np.inf, np.inf, self._states.shape[1:], np.float32)
        task = spaces.Box(-TASK_LIMIT, TASK_LIMIT, self._task_vectors.shape[1:], np.float32)
        mask = spaces.Box(0, 1, action_shape, np.bool_)  # type: ignore[arg-type]  # bool is allowed
        self.single_observation_space = spaces.Dict({**shown, "task": task, "action_mask": mask})
        self.single_action_space = spaces.Box(
            -self._action_limit, self._action_limit, action_shape, np.float32
        )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _set_seed_and_episode(self, seed: int | None, options: dict[str, Any] | None) -> None:
        """Take over the arguments of `reset`."""
        given = dict(options or {})
        episode = require_count(given.pop("episode", 0), "option 'episode'", 0)
        if given:
            raise ValueError(
                f"reset takes the option 'episode' alone, got {', '.join(map(repr, given))}"
            )
        if seed is not None:
            self._seed = check_seed(seed)
        if seed is not None or options:
            self._episodes.number[:] = episode - 1

    def _checked_actions(self, actions: np.ndarray) -> Float64[np.ndarray, "env action"]:
        """Return the actions within their space; raise ValueError where they cannot be taken."""
        if self._episodes.number[0] < 0:
            raise ValueError("call reset() before the first step()")
        values = np.asarray(actions, np.float64)
        if values.shape != self.action_space.shape:
            raise ValueError(
                f"actions must have shape {self.action_space.shape}, got {values.shape}"
            )
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise ValueError(f"actions must be finite; they are not in worlds {bad.tolist()}")
        return np.clip(values, -self._action_limit, self._action_limit)

    def _begin(self, mask: Bool[np.ndarray, " env"]) -> None:
        """Begin the next episode of the worlds in `mask`."""
        self._episodes.begin(mask)
        self._vectors[mask] = self._task_vectors[self._episodes.task_index[mask]]
        self._start_episodes(np.flatnonzero(mask))

    def _begin_next(
        self,
        ended: Bool[np.ndarray, " env"],
        lost: Bool[np.ndarray, " env"],
        task_index: Int64[np.ndarray, " env"],
    ) -> dict[str, Any]:
        """Begin the episodes after those that have ended, and return the infos of the latter."""
        last = self._last_stacks(ended, lost)
        vectors = self._vectors.copy()
        last_states = self._present_states()
        statistics = self._episodes.statistics() | self._episode_columns()
        statistics["partial"] |= lost
        self._begin(ended)
        self._look(ended)
        final = np.full(self.num_envs, None, object)
        for world, pixels in zip(np.flatnonzero(ended), last, strict=True):
            task = task_index[world]
            final[world] = {
                **self._shown(pixels, last_states[world].copy()),
                "task": vectors[world],
                "action_mask": self._action_masks[task].copy(),
            }
        masks = {"_episode_statistics": ended.copy(), "_final_obs": ended.copy()}
        return {"episode_statistics": statistics, "final_obs": final, **masks}

    def _episode_rng(self, env: int) -> np.random.Generator:
        """Return the random numbers of the episode that a world is in."""
        if not self._options.evaluation:
            rank = int(self._episodes.rank[env])
            number = int(self._episodes.number[env])
            return episode_rng(self._seed, self._stream(env), rank, number)
        task = self.tasks[self._episodes.task_index[env]]
        number = int(self._episodes.task_episode[env])
        return evaluation_rng(self._seed, task.evaluation_seed, number)

    def _set_episode(self, env: int, episode: EpisodeTask | None) -> None:
        """Take over what the task of a world says in its present episode, where it says it anew."""
        self._episode_tasks[env] = episode
        if episode is not None:
            self._vectors[env] = episode.task_vector

    def _recall_episode(self, env: int) -> EpisodeTask | None:
        """Return what the task of a world says in its present episode, after a state was loaded."""
        return None

    def _episode_columns(self) -> dict[str, np.ndarray]:
        """Return the layouts and path lengths of the episodes, where any of them has a layout."""
        if not any(self._episode_tasks):
            return {}
        named = [(one.layout, one.path_length) if one else ("", 0) for one in self._episode_tasks]
        layouts, lengths = zip(*named, strict=True)
        return {"layout": np.array(layouts), "path_length": np.array(lengths, np.int64)}

    def _stream(self, env: int) -> str:
        """Return the name of a world's random stream."""
        return self._options.stream

    def _choose_initial_step(self, env: int, rng: np.random.Generator) -> None:
        """Let a world's first episode begin part of the way, where that was asked for."""
        if self._options.random_initial_episode_step and self._episodes.number[env] == 0:
            self._episodes.set_initial_step(env, rng.random(), self.action_repeat)

    def _place_distractors(self) -> None:
        """Move distractors to where they are now; nothing where there are none."""

    def _look(self, fresh: Bool[np.ndarray, " env"]) -> None:
        """Take new images and states: worlds in `fresh` show nothing older than these."""
        if self._shows_images:
            self._pixels = self._stack_new_frame(fresh)
        self._states = self._present_states()

    def _present_states(self) -> Float32[np.ndarray, "env state"]:
        return self._read_states() if self._states.size else self._states

    def _shown(self, pixels: np.ndarray, state: np.ndarray) -> Observation:
        """Return those of an image and a state that are observed."""
        images = {"pixels": pixels} if self._shows_images else {}
        return {**images, "state": state} if self._states.size else images

    def _stack_new_frame(self, fresh: Bool[np.ndarray, " env"]) -> np.ndarray:
        """Return the stacks after a new image: worlds in `fresh` show nothing older than it."""
        pixels = np.empty_like(self._pixels)
        # Dropping the oldest frame is a shift by three bytes of the whole memory; what this moves
        # from one pixel into the place of its neighbour's newest frame is overwritten by that
        # frame.
        pixels.reshape(-1)[:-3] = self._pixels.reshape(-1)[3:]
        self._draw(pixels[..., -3:])
        if fresh.any() and self.frame_stack > 1:
            pixels[fresh] = np.tile(pixels[fresh][..., -3:], self.frame_stack)
        return pixels

    def _last_stacks(
        self, ended: Bool[np.ndarray, " env"], lost: Bool[np.ndarray, " env"]
    ) -> UInt8[np.ndarray, "ended size size channel"]:
        """Return the last stacks of the worlds that have ended; of a lost one, what it last had."""
        worlds = np.flatnonzero(ended)
        stacks = self._pixels[worlds]
        drawn = worlds[~lost[worlds]]
        if len(drawn) and self._shows_images:
            newest = np.empty((len(drawn), self.image_size, self.image_size, 3), np.uint8)
            self._draw(newest, drawn)
            older = self._pixels[drawn][..., 3:]
            stacks[~lost[worlds]] = np.concatenate([older, newest], axis=-1)
        return stacks

    def _observation(self) -> Observation:
        # A copy: the next stack is made from this one, and whoever gets an observation may write
        # into it.
        index = self._episodes.task_index
        return {
            **self._shown(self._pixels.copy(), self._states.copy()),
            "task": self._vectors.copy(),
            "action_mask": self._action_masks[index],
        }

    def _check_state(self, state: dict[str, np.ndarray]) -> None:
        """Raise ValueError unless a state fits this environment as a whole."""
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

    def _task_names(self) -> np.ndarray:
        """Return the tasks' names as bytes, because a state has numeric arrays only."""
        return np.frombuffer(", ".join(task.name for task in self.tasks).encode(), np.uint8)


def check_tasks(suite: Suite, tasks: Sequence[Task] | None) -> tuple[Task, ...]:
    """Return the tasks to follow: those given, or the suite's training tasks.

    Raises:
        ValueError: there are none, or they cannot run side by side in this suite.
    """
    chosen = suite.tasks("train") if tasks is None else tuple(tasks)
    if not chosen:
        raise ValueError("tasks must name at least one task")
    if not suite.mixed and task_family(chosen[0]) is not suite.family:
        raise ValueError(f"task {chosen[0].name!r} has another scene than suite {suite.name!r}")
    # A suite of just these tasks passes exactly when they can run side by side.
    replace(suite, splits={"train": chosen})
    return chosen


def check_image_size(size: int) -> int:
    """Return the size; raise ValueError where images cannot have it."""
    return require_count(size, "image_size", SMALLEST_IMAGE, LARGEST_IMAGE)


def check_seed(seed: int) -> int:
    """Return the seed; raise ValueError where it does not fit into a saved 64-bit integer."""
    return require_count(seed, "seed", 0, 2**63 - 1)


def _task_vectors(suite: Suite, tasks: Sequence[Task]) -> Float32[np.ndarray, "task task_size"]:
    """Return every task's vector; raise ValueError for one out of the observation's bounds."""
    family = suite.family
    vectors = np.stack([family.task_vector(task) for task in tasks]).astype(np.float32)
    far = np.flatnonzero(np.abs(vectors).max(axis=1) > TASK_LIMIT)
    if len(far):
        name = tasks[far[0]].name
        raise ValueError(f"the task vector of {name!r} lies outside [-{TASK_LIMIT}, {TASK_LIMIT}]")
    return vectors


def _action_masks(suite: Suite, tasks: Sequence[Task]) -> Bool[np.ndarray, "task action"]:
    """Return for every task True where a number of an action moves its body, False for padding."""
    used = np.array([suite.actuator_count(task) for task in tasks])
    return np.asarray(np.arange(suite.action_size) < used[:, None])
