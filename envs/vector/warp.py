"""Simulate many worlds with MuJoCo Warp; observations stay on its device."""

from abc import ABC
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from typing_extensions import override

from envs.simulation.mujoco_warp import WarpPhysics
from envs.suites import Suite
from envs.tasks import Task
from envs.vector.base import EnvOptions, Observation, PixelVectorEnv
from envs.vector.mujoco import MujocoVectorEnv
from envs.vector.mujoco_worlds import MujocoWorlds
from envs.vector.multi_body import MultiBodyVectorEnv

# Counters that `Episodes` has on the host and these worlds on their device.
_COUNTERS = ("returns", "held", "first_success")
# Columns of an episode's statistics that are counted there.
_OF_REWARDS = ("return", "success", "steps_to_success")


class EndedEpisodes(NamedTuple):
    """Hold what is known of the episodes that ended in a step.

    Attributes:
        envs: int64 [ended], numbers of their worlds, on the host.
        rows: the same, on the device.
        terminated: those that ended in a terminal state, on the host.
        final: their last observations, as `DeviceStep.observation` has them.
        returns: sums of rewards.
        first_success: control steps until the first success, 0 without one.
        columns: of `PixelVectorEnv`'s "episode_statistics", those that the host knows without
            asking, such as "length"; [env], on the host.
    """

    envs: Int64[np.ndarray, " ended"]
    rows: Int64[Tensor, " ended"]
    terminated: Bool[np.ndarray, " ended"]
    final: dict[str, Tensor]
    returns: Float[Tensor, " ended"]
    first_success: Int64[Tensor, " ended"]
    columns: dict[str, np.ndarray]


class DeviceStep(NamedTuple):
    """Store the outcome of one agent step, in tensors on the simulator's device.

    Attributes:
        observation: "pixels", "task" and "action_mask" of every world; the next step overwrites the
            pixels.
        rewards: float32 [env], sums over the control steps.
        success: bool [env], worlds that were successful in any of the control steps.
        terminated: bool [env], worlds whose episodes a success ended; always False for families
            whose episodes do not end so.
        truncated: bool [env], worlds whose time limit ended their episodes.
        ended: the episodes that ended; None where none did.
    """

    observation: dict[str, Tensor]
    rewards: Float[Tensor, " env"]
    success: Bool[Tensor, " env"]
    terminated: Bool[Tensor, " env"]
    truncated: Bool[Tensor, " env"]
    ended: EndedEpisodes | None


class WarpBody:
    """Hold the worlds of one body on the device, in the order of a vector environment's worlds.

    Args:
        worlds: simulated by MuJoCo Warp.
        envs: numbers of these worlds in the vector environment.
        frames: images in a frame stack.

    Attributes:
        worlds: as given.
        envs: as given.
        rows: the same, on the device.
        physics: the simulator.
        stack: the images that are observed.
        goals: goals of the worlds' episodes, on the device.
    """

    def __init__(self, worlds: MujocoWorlds, envs: Int64[np.ndarray, " world"], frames: int):
        assert isinstance(worlds.physics, WarpPhysics)
        self.worlds = worlds
        self.envs = envs
        self.physics = worlds.physics
        self.rows = self.upload(envs)
        self.stack = self.physics.frame_stack(frames)
        self._centre, self._half_range = (
            self.upload(numbers).float() for numbers in worlds.actuator_ranges
        )
        self.upload_goals()

    def control(self, actions: Float[Tensor, "world action"]) -> Float[Tensor, "world actuator"]:
        """Return the controls, in actuator units, of actions in [-1, 1], padded ones included."""
        control: Tensor = self._centre + self._half_range * actions[:, : len(self._centre)]
        return control

    def upload_goals(self) -> None:
        """Copy the goals to the device, which change when episodes begin."""
        self.goals = self.physics.upload(self.worlds.goals).float()

    def upload(self, values: np.ndarray) -> Tensor:
        """Return an array as a tensor on the device, without waiting for it."""
        return self.physics.upload(torch.from_numpy(values))


class TensorVectorEnv(PixelVectorEnv, ABC):
    """Step with torch tensors on the simulator's device or, as all others, with numpy.

    `reset_tensors` and `step_tensors` neither copy to the host nor wait for the device: time limits
    are known to the host, which draws the initial states of episodes and uploads them. `reset` and
    `step` return copies of the same as numpy arrays. Where a success ends episodes
    (`Family.ends_with_success`), which only the device knows of, each step asks it once, after all
    of the step has been launched, and waits for the answer.

    Attributes:
        device: of the tensors.
    """

    device: torch.device

    def _keep(
        self, bodies: Sequence[WarpBody], ends_with_success: Bool[np.ndarray, " env"]
    ) -> None:
        """Keep the bodies, and make the counters; to be called once, after the worlds were made.

        Args:
            bodies: that every world has one of.
            ends_with_success: worlds whose episodes a success ends.
        """
        self._warp_bodies = bodies
        self.device = bodies[0].physics.device
        zeros = torch.zeros(self.num_envs, dtype=torch.float64, device=self.device)
        self._returns = zeros
        self._held = zeros.long()
        self._first_success = zeros.long()
        self._elapsed = zeros.long()
        self._nowhere = zeros.bool()
        self._hold_steps = self._upload(self._episodes.hold_steps)
        self._can_terminate = bool(ends_with_success.any())
        self._terminates = self._upload(ends_with_success)
        self._tasks_of_worlds: dict[str, Tensor] = {}
        # One body's images are observed where they are drawn, those of several are put together.
        self._stacks = bodies[0].stack.pixels
        if len(bodies) > 1:
            shape = (self.num_envs, *self._stacks.shape[1:])
            self._stacks = self._stacks.new_zeros(shape)

    def reset_tensors(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Start an episode in every world and return the observation; see `reset`."""
        self._set_seed_and_episode(seed, options)
        everywhere = np.ones(self.num_envs, bool)
        self._begin(everywhere)
        self._draw_first(self._upload(everywhere))
        return self._observe()

    def step_tensors(self, actions: Float[Tensor, "env action"]) -> DeviceStep:
        """Take one agent step; see `step`.

        Actions that are not finite are noted on the device, like states.

        Raises:
            SimulationError: a world's state has left what can be simulated, in this step or, on a
                GPU, in an earlier one.
        """
        controls = self._controls(actions)
        rewards = torch.zeros_like(self._returns)
        success = self._nowhere
        for _ in range(self.action_repeat):
            reward, holding = self._advance(controls)
            rewards = rewards + reward
            success = success | self._count(reward, holding)
        self._push_images()
        terminated, succeeded = self._terminated(success)
        ended = succeeded | self._episodes.ended
        truncated = self._nowhere
        finished = None
        if ended.any():
            mask = self._upload(ended)
            truncated = mask & ~terminated
            finished = self._begin_ended(ended, succeeded, mask)
        return DeviceStep(
            self._observe(), rewards.float(), success, terminated, truncated, finished
        )

    def episode_tasks(self) -> Int64[np.ndarray, " env"]:
        """Return the number of every world's task, on the host, a new array."""
        return self._episodes.task_index

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        observation = self.reset_tensors(seed=seed, options=options)
        infos = {"task_index": self._episodes.task_index, "success": np.zeros(self.num_envs, bool)}
        return _arrays(observation), infos

    @override
    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        values = self._checked_actions(actions)
        index = self._episodes.task_index
        found = self.step_tensors(torch.from_numpy(values).float())
        infos = {"task_index": index, "success": found.success.cpu().numpy()}
        if found.ended is not None:
            infos |= self._infos_of(found.ended)
        outcome = (found.rewards, found.terminated, found.truncated)
        rewards, terminated, truncated = (values.cpu().numpy().copy() for values in outcome)
        return _arrays(found.observation), rewards, terminated, truncated, infos

    @override
    def partial_returns(self) -> dict[str, float]:
        self._download_counters()
        return super().partial_returns()

    @override
    def state_dict(self) -> dict[str, np.ndarray]:
        self._download_counters()
        if self._shows_images:
            self._pixels = self._stacks.cpu().numpy()
        self._states = self._present_states()
        return super().state_dict()

    @override
    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        super().load_state_dict(state)
        if self._shows_images:
            self._stacks.copy_(torch.from_numpy(self._pixels))
            for body in self._several_bodies:
                body.stack.pixels.copy_(self._stacks.index_select(0, body.rows))
        for name in _COUNTERS:
            getattr(self, f"_{name}").copy_(self._upload(getattr(self._episodes, name)))
        self._elapsed.copy_(self._upload(self._episodes.step - self._episodes.initial_step))
        self._upload_tasks()

    # Private methods.

    @property
    def _several_bodies(self) -> Sequence[WarpBody]:
        """Return the bodies if there are several of them, whose worlds are apart, else none."""
        return self._warp_bodies if len(self._warp_bodies) > 1 else ()

    def _controls(self, actions: Float[Tensor, "env action"]) -> list[Tensor]:
        """Return the controls of every body's worlds, of actions, which are clipped."""
        clipped = actions.to(self.device).clamp(-self._action_limit, self._action_limit)
        if not self._several_bodies:
            return [self._warp_bodies[0].control(clipped)]
        return [body.control(clipped.index_select(0, body.rows)) for body in self._warp_bodies]

    def _advance(
        self, controls: Sequence[Tensor]
    ) -> tuple[Float[Tensor, " env"], Bool[Tensor, " env"]]:
        """Take one control step; return the rewards and where the success condition holds."""
        found = [
            body.worlds.advance_tensors(control, body.goals)
            for body, control in zip(self._warp_bodies, controls, strict=True)
        ]
        if not self._several_bodies:
            return found[0]
        rewards = torch.zeros_like(self._returns)
        holding = torch.zeros_like(self._nowhere)
        for body, (reward, held) in zip(self._warp_bodies, found, strict=True):
            rewards.index_copy_(0, body.rows, reward.to(rewards.dtype))
            holding.index_copy_(0, body.rows, held)
        return rewards, holding

    def _observe(self) -> dict[str, Tensor]:
        observed = dict(self._tasks_of_worlds)
        if self._shows_images:
            observed["pixels"] = self._stacks
        return observed

    def _push_images(self) -> None:
        """Append an image of the present states to the stacks, where images are observed."""
        if self._shows_images:
            self._place_distractors()
            for body in self._warp_bodies:
                body.stack.push()
            self._gather_stacks()

    def _draw_first(self, mask: Bool[Tensor, " env"]) -> None:
        """Draw the first images of the episodes of some worlds, where images are observed."""
        if self._shows_images:
            self._place_distractors()
            for body in self._warp_bodies:
                body.stack.fill(mask.index_select(0, body.rows))
            self._gather_stacks()

    def _gather_stacks(self) -> None:
        for body in self._several_bodies:
            self._stacks.index_copy_(0, body.rows, body.stack.pixels)

    @override
    def _begin(self, mask: Bool[np.ndarray, " env"]) -> None:
        super()._begin(mask)
        chosen = self._upload(mask)
        for counter in (self._returns, self._held, self._first_success, self._elapsed):
            counter.masked_fill_(chosen, 0)
        self._upload_tasks()

    def _upload_tasks(self) -> None:
        """Copy to the device what the worlds' tasks are, which changes when episodes begin."""
        index = self._episodes.task_index
        self._tasks_of_worlds = {
            "task": self._upload(self._vectors),
            "action_mask": self._upload(self._action_masks[index]),
        }
        for body in self._warp_bodies:
            body.upload_goals()

    def _count(
        self, reward: Float[Tensor, " env"], holding: Bool[Tensor, " env"]
    ) -> Bool[Tensor, " env"]:
        """Count one control step as `Episodes.advance` does, on both sides."""
        self._episodes.step += 1
        self._elapsed += 1
        self._returns += reward
        self._held = torch.where(holding, self._held + 1, 0)
        success = self._held >= self._hold_steps
        first = success & (self._first_success == 0)
        self._first_success = torch.where(first, self._elapsed, self._first_success)
        return success

    def _terminated(
        self, success: Bool[Tensor, " env"]
    ) -> tuple[Bool[Tensor, " env"], Bool[np.ndarray, " env"]]:
        """Return the worlds whose episodes a success has ended, on the device and on the host."""
        if not self._can_terminate:
            return self._nowhere, np.zeros(self.num_envs, bool)
        terminated = success & self._terminates
        return terminated, terminated.cpu().numpy()

    def _begin_ended(
        self,
        ended: Bool[np.ndarray, " env"],
        succeeded: Bool[np.ndarray, " env"],
        mask: Bool[Tensor, " env"],
    ) -> EndedEpisodes:
        """Begin the episodes after those that have ended, and return what is known of the latter.

        The stacks show the last states when this is called.

        Args:
            ended: worlds whose episodes have ended.
            succeeded: those of them whose episodes a success has ended.
            mask: `ended`, on the device.
        """
        envs = np.flatnonzero(ended)
        rows = self._upload(envs)
        statistics = self._episodes.statistics() | self._episode_columns()
        finished = EndedEpisodes(
            envs,
            rows,
            succeeded[envs],
            {name: values.index_select(0, rows) for name, values in self._observe().items()},
            self._returns.index_select(0, rows),
            self._first_success.index_select(0, rows),
            {name: values for name, values in statistics.items() if name not in _OF_REWARDS},
        )
        self._begin(ended)
        self._draw_first(mask)
        return finished

    def _infos_of(self, ended: EndedEpisodes) -> dict[str, Any]:
        """Return the infos of episodes that ended, as `PixelVectorEnv` describes them."""
        returns = np.zeros(self.num_envs)
        returns[ended.envs] = ended.returns.cpu().numpy()
        steps = np.zeros(self.num_envs, np.int64)
        steps[ended.envs] = ended.first_success.cpu().numpy()
        counted = {"return": returns, "success": steps > 0, "steps_to_success": steps}
        statistics = {**ended.columns, **counted}
        final = np.full(self.num_envs, None, object)
        arrays = _arrays(ended.final)
        for row, env in enumerate(ended.envs):
            final[env] = {name: values[row] for name, values in arrays.items()}
        mask = np.isin(np.arange(self.num_envs), ended.envs)
        masks = {"_episode_statistics": mask, "_final_obs": mask.copy()}
        return {"episode_statistics": statistics, "final_obs": final, **masks}

    def _download_counters(self) -> None:
        for name in _COUNTERS:
            setattr(self._episodes, name, getattr(self, f"_{name}").cpu().numpy().copy())

    def _upload(self, values: np.ndarray) -> Tensor:
        return self._warp_bodies[0].upload(values)


class WarpVectorEnv(TensorVectorEnv, MujocoVectorEnv):
    """Simulate worlds of one scene on a device.

    Attributes:
        physics: the simulator.
        stack: the images that are observed.
    """

    def __init__(
        self, suite: Suite, num_envs: int, tasks: Sequence[Task] | None, options: EnvOptions
    ) -> None:
        """Make the worlds; for the arguments see `envs.make_vec`.

        Raises:
            ValueError: an argument is out of range.
        """
        super().__init__(suite, num_envs, tasks, options)
        self._body = WarpBody(self._worlds, np.arange(self.num_envs), self.frame_stack)
        self.physics = self._body.physics
        self.stack = self._body.stack
        ends = np.full(self.num_envs, self._worlds.family.ends_with_success)
        self._keep([self._body], ends)

    def control(self, actions: Float[Tensor, "env action"]) -> Float[Tensor, "env actuator"]:
        """Return the controls, in actuator units, of actions, which are clipped."""
        return self._controls(actions)[0]

    @override
    def _observe(self) -> dict[str, Tensor]:
        observed = super()._observe()
        if self._states.size:
            observed["state"] = self._worlds.family.state(self.physics).float()
        return observed


class WarpMultiBodyVectorEnv(TensorVectorEnv, MultiBodyVectorEnv):
    """Simulate worlds of several scenes on a device, each body by a simulator of its own.

    The images of all bodies are copied, on the device, into one frame stack.
    """

    def __init__(
        self, suite: Suite, num_envs: int, tasks: Sequence[Task] | None, options: EnvOptions
    ) -> None:
        """Make the worlds; for the arguments see `envs.make_vec`.

        Raises:
            ValueError: an argument is out of range, or so few worlds that a body has none.
        """
        super().__init__(suite, num_envs, tasks, options)
        bodies = [WarpBody(body.worlds, body.envs, self.frame_stack) for body in self._bodies]
        self._keep(bodies, self._end_with_success)


def _arrays(tensors: dict[str, Tensor]) -> Observation:
    """Return copies on the host, into which whoever gets them may write."""
    return {name: values.cpu().numpy().copy() for name, values in tensors.items()}
