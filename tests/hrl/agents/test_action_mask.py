"""Actions of bodies that use fewer numbers than others: padding is 0, counts for nothing and
teaches nothing, whatever the task vector says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hrl.agents.actor_critic import ActorCriticConfig, ContinuousActor
from hrl.agents.director import Director, DirectorConfig
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.agents.model_based import ModelBasedLearner
from hrl.agents.on_policy_learner import OnPolicyLearner
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.skills import Skills, SkillsConfig
from hrl.data.observation import Observation
from hrl.nets.bounded_normal import BoundedNormal
from hrl.nets.gaussian import Gaussian
from hrl.ranks import ONE_RANK
from tests.fakes import ToyReach, model_setting, randomise, replayed, seen, small_setting

# A small body with one actuator and a large one with three, both with the same task vector.
SMALL = torch.tensor([True, False, False])
LARGE = torch.tensor([True, True, True])
BATCH, LENGTH = 2, 3


def mask(*, small: bool) -> torch.Tensor:
    return (SMALL if small else LARGE).float().expand(4, 3)


def on_policy(kind: str) -> PPO | Skills:
    spec = small_setting(task_size=2, action_size=3)
    torch.manual_seed(0)
    return PPO(PPOConfig(), spec) if kind == "ppo" else Skills(SkillsConfig(skill_duration=1), spec)


def model_based(kind: str, gradient: str = "reinforce") -> Dreamer | Director:
    level, spec = ActorCriticConfig(layers=1), model_setting(action_size=3)
    sizes = {
        "batch_size": BATCH,
        "sequence_length": LENGTH,
        "horizon": 4,
        "action_gradient": gradient,
    }
    torch.manual_seed(0)
    if kind == "dreamer":
        return randomise(Dreamer(DreamerConfig(**sizes, policy=level), spec))
    return randomise(
        Director(DirectorConfig(**sizes, skill_duration=2, manager=level, worker=level), spec)
    )


def observation(body: torch.Tensor) -> Observation:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    return seen(torch.from_numpy(pixels), torch.full((4, 2), 0.3), body.expand(4, 3))


def output_rows(actor: nn.Module) -> torch.Tensor:
    """Whether the last layer's weights take gradient, [output]."""
    layers = [layer for layer in actor.modules() if isinstance(layer, nn.Linear)]
    assert layers[-1].weight.grad is not None
    return layers[-1].weight.grad.abs().sum(1) > 0


def test_a_masked_gaussian_is_one_of_fewer_dimensions() -> None:
    torch.manual_seed(0)
    mean, log_std, value = torch.randn(3, 4, 3)
    masked = Gaussian(mean, log_std).masked(mask(small=True))
    narrow = Gaussian(mean[:, :1], log_std[:, :1])
    torch.testing.assert_close(masked.log_prob(value), narrow.log_prob(value[:, :1]))
    torch.testing.assert_close(masked.entropy(), narrow.entropy())
    draw = masked.sample(torch.Generator().manual_seed(0))
    assert (draw[:, 0] != mean[:, 0]).all()
    assert not draw[:, 1:].any()
    assert Gaussian(mean, log_std).masked(None) == Gaussian(mean, log_std)


def test_a_masked_bounded_normal_is_one_of_fewer_dimensions() -> None:
    torch.manual_seed(0)
    parameters, value = torch.randn(4, 6), torch.randn(4, 3)
    masked = BoundedNormal(parameters, 0.1, 1.0, mask(small=True))
    other = BoundedNormal(torch.randn(4, 6), 0.1, 1.0, mask(small=True))
    narrow = BoundedNormal(parameters[:, [0, 3]], 0.1, 1.0)
    assert not masked.mean[:, 1:].any()
    assert not masked.sample(value)[:, 1:].any()
    for ours, theirs in (
        (masked.sample(value), narrow.sample(value[:, :1])),
        (masked.log_prob(value), narrow.log_prob(value[:, :1])),
        (masked.entropy(), narrow.entropy()),
        (masked.normalised_entropy(), narrow.normalised_entropy()),
    ):
        torch.testing.assert_close(ours[:, :1], theirs)
        assert not ours[:, 1:].any()
    assert not masked.kl(other)[:, 1:].any()
    assert (masked.kl(other)[:, 0] > 0).all()


def test_entropies_are_averaged_over_the_states_that_have_the_dimension() -> None:
    """Three states of the large body and one of the small one; then the small one's alone."""
    torch.manual_seed(0)
    config = ActorCriticConfig(layers=1)
    actor = randomise(ContinuousActor(5, 2, 4, 8, 3, config))
    inputs, task = torch.randn(4, 5), torch.randn(4, 2)
    policy = actor(inputs, task, torch.stack([LARGE] * 3 + [SMALL]))
    entropy = actor.normalised_entropy(policy)
    expected = [entropy[:, 0].mean(), entropy[:3, 1].mean(), entropy[:3, 2].mean()]
    torch.testing.assert_close(actor.average(policy, entropy, ONE_RANK), torch.stack(expected))
    policy = actor(inputs, task, SMALL.expand(4, 3))
    entropy = actor.normalised_entropy(policy)
    assert actor.average(policy, entropy, ONE_RANK)[1:].tolist() == [config.entropy_target] * 2
    torch.testing.assert_close(actor.average(policy, entropy, ONE_RANK)[0], entropy[:, 0].mean())


@pytest.mark.parametrize("kind", ["ppo", "skills", "dreamer", "director"])
def test_padding_of_an_action_is_zero_and_the_rest_is_not(kind: str) -> None:
    agent = on_policy(kind) if kind in ("ppo", "skills") else model_based(kind)
    for body, used in ((SMALL, 1), (LARGE, 3)):
        for generator in (None, torch.Generator().manual_seed(0)):
            action = agent.act(observation(body), agent.initial_state(4), generator)[0]
            assert action.shape == (4, 3)
            assert not action[:, used:].any()
            assert (action[:, :used] != 0).all()


@pytest.mark.parametrize("kind", ["ppo", "skills"])
def test_on_policy_losses_are_blind_to_padding(kind: str) -> None:
    """Whatever stands there, the loss is the same; its weights learn from the large body's actions
    alone."""
    for body, small in ((SMALL, True), (LARGE, False)):
        agent = on_policy(kind)
        agent.config = replace(agent.config, entropy_coefficient=0.1)
        generator = torch.Generator().manual_seed(0)
        shown = observation(body)
        _, _, records = agent.explore(shown, agent.initial_state(4), generator)
        batch = {key: value.detach() for key, value in records.items()}
        batch |= {"task": shown.task, "action_mask": shown.action_mask}
        for name in ("value", "skill_value", "manager_value"):
            batch |= {
                f"{name}_advantage": torch.randn(4, generator=generator),
                f"{name}_return": torch.zeros(4),
            }
        loss = agent.loss(batch)[0]
        batch["raw_action"] = batch["raw_action"] + torch.tensor([0.0, 1.0, 1.0])
        assert torch.equal(agent.loss(batch)[0], loss) == small
        loss.backward()
        actor = agent.actor if isinstance(agent, PPO) else agent.skills
        rows = output_rows(actor).reshape(-1, 2, 3).any(0)
        assert rows.tolist() == [[True, not small, not small]] * 2


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
@pytest.mark.parametrize("kind", ["dreamer", "director"])
def test_imagined_actions_are_padded_too_and_teach_nothing(kind: str, gradient: str) -> None:
    for body, small in ((SMALL, True), (LARGE, False)):
        agent = model_based(kind, gradient)
        batch = replayed(agent.spec, BATCH, LENGTH)
        batch["action_mask"] = body.expand_as(batch["action_mask"])
        agent.loss(batch)[0].backward()
        level = agent.actor_critic if isinstance(agent, Dreamer) else agent.worker
        assert (
            output_rows(level.actor.net.dense).reshape(2, 3).tolist()
            == [[True, not small, not small]] * 2
        )
        states = agent.world_model.observe(
            batch, torch.rand(BATCH, LENGTH, 4), agent.config.world_model_loss
        ).states
        actions = agent._imagine(agent.starts(batch, states)).actions
        assert actions[..., 0].all()
        assert actions[..., 1:].any() != small


@pytest.mark.parametrize("kind", ["dreamer", "director"])
def test_in_one_batch_every_row_has_the_mask_of_its_own_body(kind: str) -> None:
    """Through imagination, and where a worker's segments lie side by side."""
    agent = model_based(kind)
    batch = replayed(agent.spec, BATCH, LENGTH)
    batch["action_mask"] = torch.stack([SMALL, LARGE])[:, None].expand_as(batch["action_mask"])
    states = agent.world_model.observe(
        batch, torch.rand(BATCH, LENGTH, 4), agent.config.world_model_loss
    ).states
    imagined = agent._imagine(agent.starts(batch, states))
    small = torch.tensor([True] * LENGTH + [False] * LENGTH)  # starts, sequence by sequence
    assert (imagined.actions[..., 1:] == 0).all(-1).all(0).tolist() == small.tolist()
    view, level = (
        (imagined, agent.actor_critic)
        if isinstance(agent, Dreamer)
        else (agent._worker_trajectory(imagined)[0], agent.worker)
    )
    policy = level.actor(view.inputs[:-1], view.task, view.action_mask)
    padded_rows = (view.actions[..., 1:] == 0).all(-1)
    assert torch.equal((policy.mean[..., 1:] == 0).all(-1), padded_rows)
    assert torch.equal((policy.log_prob(view.actions)[..., 1:] == 0).all(-1), padded_rows)
    assert 0 < padded_rows.float().mean() < 1


class TwoBodies(ToyReach):
    """Two environments with the same task vector, whose bodies have 2 and 6 actuators."""

    def __init__(self) -> None:
        super().__init__(2, length=4, targets=(0.5, 0.5), action_size=6)
        self.action_mask[0, 2:] = False


def test_bodies_with_equal_task_vectors_are_told_apart_in_a_rollout() -> None:
    config, spec = PPOConfig(n_steps=8), small_setting(action_size=6)
    torch.manual_seed(0)
    learner = OnPolicyLearner(PPO(config, spec), config, spec, TwoBodies(), ["toy"], 1)
    with torch.no_grad():
        steps = learner.collector.collect(learner.policy, config.n_steps).steps
    assert (steps["task"] == 0.5).all()
    assert steps["action_mask"].sum(-1).tolist() == [[2, 6]] * 8
    assert ((steps["raw_action"] != 0) == steps["action_mask"]).all()


def test_bodies_with_equal_task_vectors_are_told_apart_in_the_replay() -> None:
    config = DreamerConfig(batch_size=2, sequence_length=3, policy=ActorCriticConfig(layers=1))
    spec = model_setting(task_size=1, action_size=6)
    torch.manual_seed(0)
    learner = ModelBasedLearner(Dreamer(config, spec), config, spec, TwoBodies(), ["toy"], 1)
    with torch.no_grad():
        learner.collector.collect(learner.policy, 12)
    columns = learner.replay.sample(8, torch.Generator().manual_seed(0)).columns
    used = columns["action_mask"].sum(-1)
    assert set(used[:, 0].tolist()) == {2, 6}
    assert (used == used[:, :1]).all(), "a sequence is of one body"
    assert not columns["action"][~columns["action_mask"]].any()
    assert columns["action"][columns["action_mask"]].any()
