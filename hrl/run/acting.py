"""Let a trained policy act in environments of the user's own program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from envs import PixelVectorEnv, Suite, make_vec
from envs.adapters.gymnasium import SingleEnv
from hrl.config import RunConfig
from hrl.data.nonfinite import check_rows
from hrl.data.observation import Observation, PolicyState, reset_state
from hrl.run.hardware import choose_device
from hrl.run.load import LoadedRun, load_policy_file, load_run


class ActingPolicy:
    """Act greedily in one environment or in many side by side, and keep the policy's memory.

    Args:
        run: the policy with what it was trained as.

    Attributes:
        config: the configuration of its run.
        suite: what it was trained on.
        frames: control steps that it was trained for.
    """

    def __init__(self, run: LoadedRun) -> None:
        self.config: RunConfig = run.config
        self.suite: Suite = run.suite
        self.frames: int = run.frames
        self._policy = run.policy
        self._device = choose_device(run.config.device)
        self._state: PolicyState | None = None
        self._num_envs = 0
        size = run.config.image_size
        self._shapes: dict[str, tuple[int, ...]] = {}
        if run.config.observation != "state":
            self._shapes["pixels"] = (size, size, 3 * run.config.frame_stack)
        if run.config.observation != "pixels":
            self._shapes["state"] = (run.suite.state_size,)
        self._shapes["task"] = (run.suite.task_size,)
        self._shapes["action_mask"] = (run.suite.action_size,)

    @torch.inference_mode()
    def act(self, observation: Mapping[str, np.ndarray], done: bool | np.ndarray) -> np.ndarray:
        """Return the actions for an observation, in [-1, 1].

        Args:
            observation: of a vector environment, each entry [env, ...], or of a single environment.
            done: where this observation is the first one of an episode: one value for all
                environments, or [env]. It is True after `reset`, and `terminated | truncated` after
                a step of a vector environment, which begins the next episode by itself.

        Returns:
            [env, action], or [action] for a single environment.

        Raises:
            ValueError: an entry that is missing or has another shape than in training, images that
                are not uint8, `done` of another shape, or a number of environments that changed
                within an episode.
            NonFiniteQuantity: an action is not finite, as those of damaged weights are.
        """
        arrays = self._arrays(observation)
        first = next(iter(self._shapes))
        single = arrays[first].ndim == len(self._shapes[first])
        if single:
            arrays = {key: value[None] for key, value in arrays.items()}
        count = len(arrays[first])
        self._check(arrays, count)
        begins = _begins(done, count)
        state = self._begin(count, torch.from_numpy(begins).to(self._device))
        seen = Observation.from_arrays(arrays, self._device)
        action, self._state = self._policy.act(seen, state, None)
        found: np.ndarray = action.float().cpu().numpy()
        check_rows({"action": found}, arrays)
        return found[0] if single else found

    def make_vec_env(self, num_envs: int, split: str = "train", seed: int = 0) -> PixelVectorEnv:
        """Return a vector environment of the suite, observed as in training.

        Args:
            num_envs: environments side by side; tasks are assigned to them round-robin.
            split: whose tasks are played.
            seed: of the episodes.
        """
        return make_vec(
            self.suite,
            num_envs,
            tasks=self.suite.tasks(split),
            seed=seed,
            frame_stack=self.config.frame_stack,
            image_size=self.config.image_size,
            observation=self.config.observation,
        )

    def make_env(self, split: str = "train", task: int = 0, seed: int = 0) -> SingleEnv:
        """Return one Gymnasium environment of the suite, observed as in training.

        Args:
            split: of the task.
            task: its place in the split.
            seed: of the episodes.
        """
        env = make_vec(
            self.suite,
            1,
            tasks=[self.suite.tasks(split)[task]],
            seed=seed,
            frame_stack=self.config.frame_stack,
            image_size=self.config.image_size,
            observation=self.config.observation,
        )
        return SingleEnv(env)

    def _begin(self, count: int, begins: torch.Tensor) -> PolicyState:
        """Return the state with which to act: the initial one where an episode begins."""
        initial = self._policy.initial_state(count)
        if self._state is None or (count != self._num_envs and bool(begins.all())):
            self._num_envs = count
            return initial
        if count != self._num_envs:
            raise ValueError(
                f"the observation is of {count} environments and the one before was of "
                f"{self._num_envs}: give done=True where all of them begin an episode"
            )
        # An episode begins without anything of the one before, as it does in an evaluation; what
        # a policy keeps across episodes in training (`persistent_keys`) is not kept.
        return reset_state(None, self._state, initial, begins)

    def _arrays(self, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the entries that a policy sees, as arrays of the types that it sees."""
        arrays = {key: np.asarray(observation[key]) for key in self._shapes if key in observation}
        self._refuse_missing(next(iter(self._shapes)), arrays)
        if "pixels" in arrays and arrays["pixels"].dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 from 0 to 255, not {arrays['pixels'].dtype}")
        for key in ("state", "task"):
            if key in arrays:
                arrays[key] = arrays[key].astype(np.float32)
        return arrays

    def _refuse_missing(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        if key not in arrays:
            needed = ", ".join(self._shapes)
            raise ValueError(f"the observation has no {key!r}; it needs {needed}")

    def _check(self, arrays: Mapping[str, np.ndarray], count: int) -> None:
        """Refuse entries that are not [env, ...] with the shapes of training."""
        for key, expected in self._shapes.items():
            self._refuse_missing(key, arrays)
            found = arrays[key].shape
            if found == (count, *expected):
                continue
            advice = (
                f": give the environment image_size={self.config.image_size} and "
                f"frame_stack={self.config.frame_stack}"
            )
            raise ValueError(
                f"{key} have the shape {found[1:]}, and this policy was trained on {expected}"
                f"{advice}"
                if key == "pixels"
                else f"{key} has the shape {found}, not {(count, *expected)}"
            )


def _begins(done: bool | np.ndarray, count: int) -> np.ndarray:
    """Return [env], where an episode begins."""
    begins = np.asarray(done)
    if begins.shape not in ((), (count,)):
        raise ValueError(
            f"done has the shape {begins.shape}: give one value, or one for each of {count} "
            "environments"
        )
    return np.broadcast_to(begins.astype(bool), (count,)).copy()


def load_policy(path: str | Path, device: str = "auto") -> ActingPolicy:
    """Return a trained policy that acts.

    Args:
        path: a run folder, or a `policy.safetensors` without its folder.
        device: where it computes: auto, cpu, cuda or cuda:NUMBER.

    Raises:
        ConfigError: no run folder, one without a checkpoint, or a configuration of another version.
        CheckpointError: the file is not a whole policy file.
    """
    found = Path(path)
    run = load_run(found, device) if found.is_dir() else load_policy_file(found, device)
    return ActingPolicy(run)
