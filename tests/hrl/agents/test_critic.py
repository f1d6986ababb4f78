"""Value learning of on-policy agents: any unit of reward, and metrics that say how well it goes."""

import math

import pytest
import torch

from hrl.agents.on_policy import critic_metrics, measure_gradient
from hrl.agents.on_policy_learner import OnPolicyLearner
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.skills import Skills, SkillsConfig
from tests.fakes import ToyReach, small_setting


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_explained_variance_of_perfect_constant_and_opposite_predictions():
    returns = draws(100)
    decided = torch.arange(100) % 3 == 0
    junk = torch.where(decided, 0.0, 1e6)  # no influence
    for predictions, expected in ((returns, 1.0), (0 * returns, 0.0), (-returns, -3.0)):
        metrics = critic_metrics(predictions + junk, returns - junk, decided)
        assert float(metrics["explained_variance"]) == pytest.approx(expected, abs=1e-5)
        spread = returns[decided].std(correction=0)
        torch.testing.assert_close(metrics["return_std"], spread)
    assert float(critic_metrics(returns, torch.ones(100), decided)["explained_variance"]) == 0
    nowhere = torch.zeros_like(decided)
    assert all(value.isnan() for value in critic_metrics(returns, returns, nowhere).values())


def test_measured_gradients_are_those_of_separate_backward_passes():
    inputs = draws(6, 4).requires_grad_()
    features, metrics = inputs * 2, {}
    losses = [
        (measure_gradient(features, name, metrics) ** power).sum()
        for name, power in (("cube", 3), ("square", 2))
    ]
    sum(losses).backward()
    for name, power in (("cube", 3), ("square", 2)):
        alone = power * features.detach() ** (power - 1)
        torch.testing.assert_close(metrics[name], alone.norm())
    expected = 2 * (3 * features.detach() ** 2 + 2 * features.detach())
    torch.testing.assert_close(inputs.grad, expected)
    measure_gradient(features.detach(), "cut", metrics)
    assert float(metrics["cut"]) == 0


class ScaledReach(ToyReach):
    """The toy with another unit of reward."""

    factor = 1.0

    def step(self, actions):
        observation, reward, *rest = super().step(actions)
        return observation, (reward * self.factor).astype(reward.dtype), *rest


METHODS = pytest.mark.parametrize(("agent", "config"), [(PPO, PPOConfig), (Skills, SkillsConfig)])


def learner(agent: type, config: type, factor: float = 1.0) -> OnPolicyLearner:
    torch.manual_seed(0)
    env = ScaledReach(8, 6)
    env.factor = factor
    chosen, spec = config(n_steps=8), small_setting()
    return OnPolicyLearner(agent(chosen, spec), chosen, spec, env, ["toy"], 2)


@METHODS
def test_the_unit_of_reward_changes_nothing_that_is_learned(agent, config):
    """The whole learner: the same weights to the bit (a power of two scales floats exactly)."""
    one, scaled = learner(agent, config), learner(agent, config, factor=64.0)
    for _ in range(4):
        metrics = [trained.iterate() for trained in (one, scaled)]
    assert metrics[1]["value/reward_scale"] == 64 * metrics[0]["value/reward_scale"]
    assert metrics[1]["loss/value"] == metrics[0]["loss/value"]
    for mine, other in zip(one.module.parameters(), scaled.module.parameters(), strict=True):
        assert torch.equal(mine, other)


@METHODS
def test_the_critic_learns_returns_of_scaled_rewards(agent, config):
    """Against a slow loop over the rollout, with lambda 1 and decisions at every step."""
    trained = learner(agent, config)
    name = "value" if agent is PPO else "skill_value"
    with torch.no_grad():
        rollout = trained.collector.collect(trained.policy, 8)
        metrics = trained.estimate_advantages(rollout)
    scale = float(trained.reward_scale.scale())
    steps, bootstrap = rollout.steps, rollout.steps[f"{name}_bootstrap"]
    weight = 0.99 * 0.95
    for env in range(8):
        error_sum, following = 0.0, float(rollout.last_values[name][env])
        for time in reversed(range(8)):
            is_end = bool(steps["done"][time, env])
            after = float(bootstrap[time, env]) if is_end else following
            value = float(steps[name][time, env])
            error = float(steps["reward"][time, env]) / scale + 0.99 * after - value
            error_sum = error + (0.0 if is_end else weight * error_sum)
            assert float(steps[f"{name}_return"][time, env]) == pytest.approx(
                value + error_sum, rel=1e-4, abs=1e-5
            )
            following = value
    flat = [steps[key].flatten() for key in (name, f"{name}_return")]
    expected = 1 - float((flat[1] - flat[0]).var()) / float(flat[1].var())
    assert float(metrics["value/explained_variance"]) == pytest.approx(expected, rel=1e-4)


@METHODS
def test_the_scale_is_saved_and_continued(agent, config):
    whole, first = learner(agent, config), learner(agent, config)
    for _ in range(3):
        whole.iterate()
        first.iterate()
    state = first.state_dict()
    second = learner(agent, config)
    second.load_state_dict(state)
    assert torch.equal(second.reward_scale.sums, whole.reward_scale.sums)
    assert torch.equal(second.reward_scale.scale(), whole.reward_scale.scale())


@METHODS
def test_metrics_tell_how_values_and_policies_do(agent, config):
    metrics = learner(agent, config).iterate()
    expected = {
        "value/explained_variance",
        "value/return_std",
        "value/reward_scale",
        "policy/kl",
        "policy/clip_fraction",
        "encoder/gradient_from_policy",
        "encoder/gradient_from_value",
    }
    if agent is Skills:
        expected |= {
            "manager/explained_variance",
            "manager/return_std",
            "manager/kl",
            "manager/clip_fraction",
            "encoder/gradient_from_manager_policy",
            "encoder/gradient_from_manager_value",
        }
    assert expected <= metrics.keys()
    assert all(metrics[key] > 0 for key in expected if "gradient" in key)


@METHODS
def test_gradients_are_measured_at_the_encoders_features_alone(agent, config, monkeypatch):
    """Both methods log the same quantity, without the embedding of the task."""
    sizes = set()

    def measured(features, name, metrics):
        sizes.add(features.shape[-1])
        return measure_gradient(features, name, metrics)

    monkeypatch.setattr(f"{agent.__module__}.measure_gradient", measured)
    trained = learner(agent, config)
    trained.iterate()
    assert sizes == {trained.module.encoder.features}


def test_a_rollout_without_decisions_has_no_metrics_of_the_managers_critic():
    """Decisions of 12 steps, rollouts of 4: every third one has decisions; all numbers are
    finite."""
    torch.manual_seed(0)
    chosen, spec = SkillsConfig(n_steps=4, skill_duration=12), small_setting()
    trained = OnPolicyLearner(Skills(chosen, spec), chosen, spec, ScaledReach(8, 60), ["toy"], 2)
    lines = [trained.iterate() for _ in range(6)]
    have = ["manager/explained_variance" in metrics for metrics in lines]
    assert have == [True, False, False, True, False, False]
    assert all(math.isfinite(value) for metrics in lines for value in metrics.values())
    assert all(bool(torch.isfinite(p).all()) for p in trained.module.parameters())
