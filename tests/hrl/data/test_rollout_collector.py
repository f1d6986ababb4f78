"""The collector, with an agent and an environment that assert their contract at every step."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from hrl.data.observation import reset_state
from hrl.data.rollout import Rollout
from hrl.data.rollout_collector import RolloutCollector
from tests.fakes import CounterAgent, CounterEnv, ToyReach

ENVS, LENGTH = 4, 5


def collected(steps: int = 40, pieces: int = 4) -> Rollout:
    collector = RolloutCollector(
        CounterEnv(ENVS, LENGTH), ["counting"], seed=0, device=torch.device("cpu")
    )
    agent = CounterAgent()
    rollouts = [collector.collect(agent, steps // pieces) for _ in range(pieces)]
    joined = {
        key: torch.cat([r.steps.get(key, torch.zeros_like(r.steps["reward"])) for r in rollouts])
        for key in rollouts[0].steps | rollouts[-1].steps
    }
    return Rollout(joined, rollouts[-1].last_values)


def test_the_reward_stored_with_a_step_is_the_one_it_earned():
    """`CounterEnv` pays t + 1 for the step taken from the image t."""
    steps = collected().steps
    torch.testing.assert_close(steps["reward"], steps["shown"].float() + 1)


def test_images_are_stored_only_as_the_policy_records_them():
    """A policy that records patches must not pay for the images beside them."""
    assert set(collected().steps) == {
        "task",
        "action_mask",
        "shown",
        "age",
        "action",
        "reward",
        "done",
        "value_bootstrap",
    }


def test_episodes_end_where_the_environment_says():
    steps = collected().steps
    shown = steps["shown"].long()
    limits = LENGTH + torch.arange(ENVS)
    assert torch.equal(steps["done"], shown + 1 == limits)


def test_only_time_limits_bootstrap_and_from_the_last_observation():
    """Even environments are truncated at their limit; the counting agent values the image t at 1000
    + t."""
    steps = collected().steps
    done, even = steps["done"], (torch.arange(ENVS) % 2 == 0).expand_as(steps["done"])
    limits = (LENGTH + torch.arange(ENVS)).float().expand_as(steps["reward"])
    expected = torch.where(done & even, 1000.0 + limits, 0.0)
    torch.testing.assert_close(steps["value_bootstrap"], expected)


def test_the_value_ahead_is_that_of_the_observation_not_yet_acted_on():
    rollout = collected()
    last = rollout.steps["shown"][-1].float()
    following = torch.where(rollout.steps["done"][-1], 0.0, last + 1)
    torch.testing.assert_close(rollout.last_values["value"], 1000.0 + following)


def test_pieces_make_the_same_experience_as_one_rollout():
    whole, cut = collected(pieces=1), collected(pieces=5)
    for key, value in whole.steps.items():
        torch.testing.assert_close(cut.steps[key], value, rtol=0, atol=0)


def test_a_continued_collector_goes_on_to_the_bit():
    def run(interrupted: bool) -> dict[str, torch.Tensor]:
        env = ToyReach(3)
        collector = RolloutCollector(env, ["t"], seed=5, device=torch.device("cpu"))
        agent = _Noise()
        collector.collect(agent, 7)
        if interrupted:
            state = collector.state_dict()
            collector = RolloutCollector(env, ["t"], seed=5, device=torch.device("cpu"))
            collector.load_state_dict(state)
        return collector.collect(agent, 7).steps

    first, second = run(interrupted=False), run(interrupted=True)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_collector_continues_on_its_own_device():
    """A checkpoint's tensors are in host memory; a device without memory stands for a GPU."""
    collector = RolloutCollector(ToyReach(3), ["t"], seed=5, device=torch.device("cpu"))
    collector.collect(_Noise(), 2)
    elsewhere = RolloutCollector(ToyReach(3), ["t"], seed=5, device=torch.device("meta"))
    elsewhere.load_state_dict(collector.state_dict())
    state = elsewhere.state_dict()
    assert all(
        value.is_meta for part in ("observation", "policy") for value in state[part].values()
    )


def test_memory_of_a_rollout_that_is_done_with_changes_nothing_but_where_the_next_one_lies():
    def second(reuse: bool) -> tuple[Rollout, Rollout]:
        env = CounterEnv(ENVS, LENGTH)
        collector = RolloutCollector(env, ["counting"], seed=0, device=torch.device("cpu"))
        first = collector.collect(CounterAgent(), 12)
        old = {key: torch.full_like(value, 7) for key, value in first.steps.items()}
        first.steps.update(old)  # whatever it holds
        return first, collector.collect(CounterAgent(), 12, old if reuse else None)

    (_, new), (old, reused) = second(reuse=False), second(reuse=True)
    assert new.steps.keys() == reused.steps.keys()
    for key, value in new.steps.items():
        torch.testing.assert_close(reused.steps[key], value, rtol=0, atol=0)
        assert reused.steps[key].data_ptr() == old.steps[key].data_ptr()
        assert value.data_ptr() != old.steps[key].data_ptr()
    bootstrap = new.steps["value_bootstrap"]
    assert (bootstrap == 0).any(), "steps without a time limit have no value to bootstrap from"
    assert (bootstrap > 0).any()


def test_memory_that_does_not_fit_is_left_alone():
    env = CounterEnv(ENVS, LENGTH)
    collector = RolloutCollector(env, ["counting"], seed=0, device=torch.device("cpu"))
    steps = collector.collect(CounterAgent(), 4).steps
    before = {key: value.clone() for key, value in steps.items()}
    longer = collector.collect(CounterAgent(), 6, steps)
    assert all(len(value) == 6 for value in longer.steps.values())
    assert all(torch.equal(steps[key], value) for key, value in before.items())


def test_minibatches_cover_every_step_once():
    rollout = collected()
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(40 * ENVS).reshape(40, ENVS)
    rollout.steps["index"] = index
    batches = list(rollout.minibatches(32, generator))
    assert [len(batch["index"]) for batch in batches] == [32] * 5
    together = torch.cat([batch["index"] for batch in batches])
    assert torch.equal(together.sort().values, index.flatten())
    assert not torch.equal(together, index.flatten()), "they are shuffled"
    first = batches[0]
    assert torch.equal(first["reward"], rollout.steps["reward"].flatten()[first["index"]])


def test_other_autoresets_are_refused():
    env = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")])
    with pytest.raises(ValueError, match="SAME_STEP"):
        RolloutCollector(env, ["t"], 0, torch.device("cpu"))


def test_a_reward_that_is_not_finite_stops_the_run():
    class Broken(ToyReach):
        def _advance(self, actions):
            reward, done = super()._advance(actions)
            reward[2] = np.nan
            return reward, done

    collector = RolloutCollector(Broken(4), ["t"], 0, torch.device("cpu"))
    with pytest.raises(FloatingPointError, match=r"reward of environments \[2\] is not finite"):
        collector.collect(_Noise(), 1)


def test_states_are_reset_only_where_episodes_ended():
    state = {"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor([5, 6])}
    initial = {"a": torch.zeros(2, 2), "b": torch.zeros(2, dtype=torch.int64)}
    after = reset_state(object(), state, initial, torch.tensor([False, True]))
    assert after["a"].tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert after["b"].tolist() == [5, 0]


class _Noise:
    """Uniform actions from the generator that the collector hands over."""

    def initial_state(self, num_envs):
        return {"total": torch.zeros(num_envs)}

    def explore(self, observation, state, generator):
        action = torch.rand(len(observation.task), 1, generator=generator) * 2 - 1
        return (
            action,
            {"total": state["total"] + action[:, 0]},
            {"action": action, "total": state["total"]},
        )

    def bootstrap_values(self, observation, state):
        return {"value": state["total"]}
