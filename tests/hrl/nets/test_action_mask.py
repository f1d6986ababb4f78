"""Actions of bodies that use fewer numbers than others: padding is 0, counts for nothing and
teaches nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from envs import load_suite
from hrl.agents.actor_critic import ActorCriticConfig, ContinuousActor
from hrl.agents.base import AgentSpec
from hrl.agents.director import Director, DirectorConfig
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.skills import Skills, SkillsConfig
from hrl.data.observation import Observation
from hrl.nets import ActionMask, BoundedNormal, Gaussian
from tests.fakes import model_setting, randomise, replayed, small_setting

# A large body with three actuators and a small one with one, told apart by the sign of the task's
# first number.
TASKS, MASKS = (
    torch.tensor([[-1.0, 0.0], [1.0, 0.0]]),
    torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]),
)
SMALL, LARGE = torch.tensor([[1.0, 0.3]] * 4), torch.tensor([[-1.0, 0.3]] * 4)
BATCH, LENGTH = 2, 3


def padded(spec: AgentSpec) -> AgentSpec:
    return replace(spec, padding=(TASKS, MASKS))


def mask(*, small: bool) -> torch.Tensor:
    return MASKS[int(small)].expand(4, 3)


def on_policy(kind: str) -> PPO | Skills:
    spec = padded(small_setting(task_size=2, action_size=3))
    torch.manual_seed(0)
    return PPO(PPOConfig(), spec) if kind == "ppo" else Skills(SkillsConfig(skill_duration=1), spec)


def model_based(kind: str, gradient: str = "reinforce") -> Dreamer | Director:
    level, spec = ActorCriticConfig(layers=1), padded(model_setting(action_size=3))
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


def seen(task: torch.Tensor) -> Observation:
    pixels = np.random.default_rng(0).integers(0, 256, (len(task), 16, 16, 3), np.uint8)
    return Observation(torch.from_numpy(pixels), task)


def output_rows(actor: nn.Module) -> torch.Tensor:
    """Whether the last layer's weights take gradient, [output]."""
    layers = [layer for layer in actor.modules() if isinstance(layer, nn.Linear)]
    assert layers[-1].weight.grad is not None
    return layers[-1].weight.grad.abs().sum(1) > 0


def test_every_task_of_a_mixed_suite_gets_the_mask_of_its_body() -> None:
    suite = load_suite("mixed_speed")
    padding = suite.padding()
    assert padding is not None
    masks = ActionMask(*(torch.from_numpy(rows) for rows in padding))
    sizes = {"walker": 6, "cheetah": 6, "quadruped": 12}
    for task in (task for split in suite.splits for task in suite.tasks(split)):
        told = torch.from_numpy(suite.family.task_vector(task))
        expected = [
            float(number < sizes[task.family.split("_")[0]]) for number in range(suite.action_size)
        ]
        assert masks(told).tolist() == expected
        assert masks(told.expand(5, 2, -1)).tolist() == [[expected] * 2] * 5


def test_bodies_of_one_size_have_no_padding() -> None:
    for name in ("walker_speed", "point_mass", "jaco"):
        assert load_suite(name).padding() is None
    assert small_setting().build_action_mask() is None


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
    actor = randomise(ContinuousActor(5, 2, 4, 8, 3, config, ActionMask(TASKS, MASKS)))
    inputs = torch.randn(4, 5)
    policy = actor(inputs, torch.cat([LARGE[:3], SMALL[:1]]))
    entropy = actor.normalised_entropy(policy)
    expected = [entropy[:, 0].mean(), entropy[:3, 1].mean(), entropy[:3, 2].mean()]
    torch.testing.assert_close(actor.average(policy, entropy), torch.stack(expected))
    policy = actor(inputs, SMALL)
    entropy = actor.normalised_entropy(policy)
    assert actor.average(policy, entropy)[1:].tolist() == [config.entropy_target] * 2
    torch.testing.assert_close(actor.average(policy, entropy)[0], entropy[:, 0].mean())


@pytest.mark.parametrize("kind", ["ppo", "skills", "dreamer", "director"])
def test_padding_of_an_action_is_zero_and_the_rest_is_not(kind: str) -> None:
    agent = on_policy(kind) if kind in ("ppo", "skills") else model_based(kind)
    for task, used in ((SMALL, 1), (LARGE, 3)):
        for generator in (None, torch.Generator().manual_seed(0)):
            action = agent.act(seen(task), agent.initial_state(4), generator)[0]
            assert action.shape == (4, 3)
            assert not action[:, used:].any()
            assert (action[:, :used] != 0).all()


@pytest.mark.parametrize("kind", ["ppo", "skills"])
def test_on_policy_losses_are_blind_to_padding(kind: str) -> None:
    """Whatever stands there, the loss is the same; its weights learn from the large body's actions
    alone."""
    for task, small in ((SMALL, True), (LARGE, False)):
        agent = on_policy(kind)
        agent.config = replace(agent.config, entropy_coefficient=0.1)
        generator = torch.Generator().manual_seed(0)
        _, _, records = agent.explore(seen(task), agent.initial_state(4), generator)
        batch = {key: value.detach() for key, value in records.items()} | {"task": task}
        for name in ("value", "skill_value", "manager_value"):
            batch |= {
                f"{name}_advantage": torch.randn(4, generator=generator),
                f"{name}_target": torch.zeros(4),
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
    for task, small in ((SMALL, True), (LARGE, False)):
        agent = model_based(kind, gradient)
        batch = replayed(agent.spec, BATCH, LENGTH)
        batch["task"] = task[0].expand_as(batch["task"]).clone()
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
    batch["task"] = torch.stack([SMALL[0], LARGE[0]])[:, None].expand_as(batch["task"]).clone()
    states = agent.world_model.observe(
        batch, torch.rand(BATCH, LENGTH, 4), agent.config.world_model_loss
    ).states
    seen = agent._imagine(agent.starts(batch, states))
    small = torch.tensor([True] * LENGTH + [False] * LENGTH)  # starts, sequence by sequence
    assert (seen.actions[..., 1:] == 0).all(-1).all(0).tolist() == small.tolist()
    view, level = (
        (seen, agent.actor_critic)
        if isinstance(agent, Dreamer)
        else (agent._worker_trajectory(seen)[0], agent.worker)
    )
    policy = level.actor(view.inputs[:-1], view.task)
    padded_rows = (view.actions[..., 1:] == 0).all(-1)
    assert torch.equal((policy.mean[..., 1:] == 0).all(-1), padded_rows)
    assert torch.equal((policy.log_prob(view.actions)[..., 1:] == 0).all(-1), padded_rows)
    assert 0 < padded_rows.float().mean() < 1
