"""A rollout that is collected on the simulator's device is the one that is collected by arrays."""

import pytest
import torch
from torch import Tensor

from envs import PixelVectorEnv, make_vec
from envs.families.point_mass import PointMass
from hrl.data import env_steps
from hrl.data.env_steps import DeviceSteps, HostSteps
from hrl.data.nonfinite import NonFiniteQuantity
from hrl.data.observation import Observation, PolicyState
from hrl.data.replay_buffer import Column, ReplayBuffer
from hrl.data.replay_collector import ReplayCollector, replay_columns
from hrl.data.rollout import Rollout
from hrl.data.rollout_collector import RolloutCollector
from tests.envs.small import short_suite
from tests.hrl.same import assert_same

# Kernels of a scene are compiled by the first test that needs them, once a machine.
pytestmark = pytest.mark.timeout(1200)

ENVS = 4
CPU = torch.device("cpu")


class Looking:
    """Act by the brightness of the newest image, and keep the images themselves."""

    def initial_state(self, num_envs: int) -> PolicyState:
        return {"age": torch.zeros(num_envs)}

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        bright = observation.pixels[..., -3:].float().mean((1, 2)) / 255
        action = 2 * bright[:, :2] - 1
        aged = {"age": state["age"] + 1}
        return action, aged, {"action": action, "shown": observation.pixels, **aged}

    def bootstrap_values(self, observation: Observation, state: PolicyState) -> dict[str, Tensor]:
        return {"value": observation.pixels.float().mean((1, 2, 3)) + state["age"]}


class Remembering(Looking):
    """The same, with a latent beside each action."""

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        action, aged, _ = super().explore(observation, state, generator)
        return action, aged, {"latent": aged["age"]}


def replay_collector() -> ReplayCollector:
    env = environment()
    latents = {"latent": Column((), torch.float32)}
    columns = replay_columns(env.single_observation_space.spaces, 2, latents)
    replay = ReplayBuffer(columns, ENVS, 64 * ENVS, 2, CPU)
    return ReplayCollector(env, replay, [task.name for task in env.tasks], 0, CPU)


def collector() -> RolloutCollector:
    env = environment()
    return RolloutCollector(env, [task.name for task in env.tasks], seed=0, device=CPU)


def environment() -> PixelVectorEnv:
    return make_vec(
        short_suite("point_mass"),
        ENVS,
        frame_stack=2,
        image_size=16,
        random_initial_episode_step=True,
        physics="warp",
    )


@pytest.fixture(params=[False, True], ids=["time_limits", "terminal_states"])
def is_terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether points that are in the east end their episodes, beside the time limits."""
    if request.param:
        monkeypatch.setattr(PointMass, "ends_with_success", True)
        monkeypatch.setattr(PointMass, "hold_steps", 2)
        monkeypatch.setattr(
            PointMass,
            "holding",
            lambda self, physics, goal, reward: physics.fields["qpos"][:, 0] > 0,
        )
    return bool(request.param)


def test_both_ways_collect_the_same(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    on_device = collector()
    assert isinstance(on_device._env_steps, DeviceSteps)
    monkeypatch.setattr(env_steps, "_with_number", lambda device: None)
    by_arrays = collector()
    assert isinstance(by_arrays._env_steps, HostSteps)
    ended = 0
    for _ in range(3):
        rollouts: list[Rollout] = [each.collect(Looking(), 7) for each in (on_device, by_arrays)]
        found, expected = rollouts
        assert found.steps.keys() == expected.steps.keys()
        for name, values in expected.steps.items():
            assert torch.equal(found.steps[name], values), name
        assert torch.equal(found.last_values["value"], expected.last_values["value"])
        episodes = on_device.take_episodes()
        assert episodes == by_arrays.take_episodes()
        ended += sum(len(returns) for returns in episodes.values())
        done = found.steps["done"]
        bootstrapped = found.steps["value_bootstrap"] != 0
        assert bootstrapped.any()
        assert (done & ~bootstrapped).any() == is_terminal
    assert ended > 2 * ENVS


def test_both_ways_remember_the_same(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    on_device = replay_collector()
    assert isinstance(on_device._env_steps, DeviceSteps)
    monkeypatch.setattr(env_steps, "_with_number", lambda device: None)
    by_arrays = replay_collector()
    assert isinstance(by_arrays._env_steps, HostSteps)
    found, expected = (each.collect(Remembering(), 20) for each in (on_device, by_arrays))
    assert found == expected
    assert sum(map(len, found.values())) > 2 * ENVS
    assert_same(on_device.replay.state_dict(), by_arrays.replay.state_dict())
    assert_same(on_device.state_dict(), by_arrays.state_dict())


def test_an_action_that_is_not_finite_is_reported_with_what_was_seen() -> None:
    found = collector()

    class Failing(Looking):
        def explore(self, *given: object) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
            action, state, records = super().explore(*given)  # type: ignore[arg-type]
            return action * float("nan"), state, records

    with pytest.raises(NonFiniteQuantity, match="control that is not finite") as caught:
        found.collect(Failing(), 1)
    assert {"pixels", "action", "policy_state.age"} <= set(caught.value.batch)
