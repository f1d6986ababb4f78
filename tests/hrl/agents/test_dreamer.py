"""Where gradients of the flat method with a world model go, by likelihood and through the imagined
steps."""

import pytest
import torch

from hrl.agents.actor_critic import ActorCriticConfig, Trajectory
from hrl.agents.conditioning import ConditioningConfig
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.agents.parts import modules_by_name
from hrl.agents.world_model_agent import model_loss
from tests.fakes import model_setting, randomise, reached, replayed

BATCH, LENGTH = 3, 4
SILENT = ActorCriticConfig(layers=1, entropy="fixed", entropy_scale=0.0)


def dreamer(**changes: object) -> Dreamer:
    torch.manual_seed(0)
    config = DreamerConfig(
        **(
            {"batch_size": BATCH, "sequence_length": LENGTH, "horizon": 4, "policy": SILENT}
            | changes
        )
    )
    return randomise(Dreamer(config, model_setting()))


def losses(agent: Dreamer) -> dict[str, torch.Tensor]:
    """The terms of `Dreamer.loss`, each on its own."""
    torch.manual_seed(1)
    batch = replayed(model_setting(), BATCH, LENGTH)
    noise = torch.rand(BATCH, LENGTH, agent.spec.world_model.groups)
    observed = agent.world_model.observe(batch, noise, agent.config.world_model_loss)
    total, metrics = agent.actor_critic.loss(agent._imagine(agent.starts(batch, observed.states)))
    terms = {"world_model": model_loss(observed)[0], "critic": metrics["critic_loss"]}
    return terms | {"actor": total - metrics["critic_loss"]}


def imagined(agent: Dreamer) -> Trajectory:
    """What an update imagines from the states of a replayed batch."""
    batch = replayed(model_setting(), BATCH, LENGTH)
    states = agent.world_model.observe(
        batch, torch.rand(BATCH, LENGTH, 4), agent.config.world_model_loss
    ).states
    return agent._imagine(agent.starts(batch, states))


@pytest.mark.parametrize("bonus", [0.0, 0.1])
@pytest.mark.parametrize("preset", ["none", "everywhere"])
@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
@pytest.mark.parametrize("term", ["world_model", "critic", "actor"])
def test_each_loss_reaches_exactly_its_own_module(term, gradient, preset, bonus):
    conditioning = ConditioningConfig(preset=preset)
    agent = dreamer(action_gradient=gradient, conditioning=conditioning, exploration_bonus=bonus)
    losses(agent)[term].backward()
    expected = {"world_model", "rewards"} if term == "world_model" else {term}
    assert reached(modules_by_name(agent.parts())) == expected


def test_through_the_dynamics_every_reward_moves_the_actor():
    """A reward depends on the action before it, through the model's step; the first state on
    none."""
    agent = dreamer(action_gradient="dynamics")
    seen = imagined(agent)
    actor = list(agent.actor_critic.actor.parameters())
    for reward in seen.rewards["task"]:
        gradients = torch.autograd.grad(reward.sum(), actor, retain_graph=True, allow_unused=True)
        assert any(gradient is not None and bool(gradient.any()) for gradient in gradients)
    assert not seen.continues.requires_grad


def test_through_the_dynamics_the_exploration_bonus_moves_the_actor_as_the_task_does():
    """Every bonus depends on the actions before it; the autoencoder, whose error it is, gets no
    gradient."""
    agent = dreamer(action_gradient="dynamics", exploration_bonus=0.1)
    seen = imagined(agent)
    actor = list(agent.actor_critic.actor.parameters())
    goals = list(agent.goals.parameters())
    for reward in seen.rewards["exploration"]:
        found = torch.autograd.grad(
            reward.sum(), [*actor, *goals], retain_graph=True, allow_unused=True
        )
        moved, still = found[: len(actor)], found[len(actor) :]
        assert any(gradient is not None and bool(gradient.any()) for gradient in moved)
        assert all(gradient is None for gradient in still)


def test_by_likelihood_nothing_is_kept_of_the_way_back():
    agent = dreamer(exploration_bonus=0.1)
    seen = imagined(agent)
    assert not any(
        part.requires_grad
        for part in (seen.inputs, seen.actions, *seen.rewards.values(), seen.continues)
    )


def test_an_unknown_gradient_is_refused():
    with pytest.raises(
        ValueError, match=r"action_gradient is 'both'; choose from reinforce, dynamics"
    ):
        DreamerConfig(action_gradient="both")


@pytest.mark.parametrize("imag_last", [0, 2])
def test_the_replay_value_loss_trains_critic_and_world_model_alone(imag_last):
    agent = dreamer(replay_value_scale=0.3, imag_last=imag_last)
    batch = replayed(model_setting(), BATCH, LENGTH)
    noise = torch.rand(BATCH, LENGTH, agent.spec.world_model.groups)
    observed = agent.world_model.observe(batch, noise, agent.config.world_model_loss)
    shown = agent._replayed(batch, observed.differentiable_states)
    assert shown is not None
    assert shown.inputs.shape[:2] == (BATCH, imag_last or LENGTH)
    states = agent.starts(batch, observed.states)
    torch.testing.assert_close(shown.inputs.flatten(0, 1).detach(), states.states.features())
    trajectory = agent._imagine(states)
    critics = agent.actor_critic.critics
    agent.actor_critic._replay_value_loss(
        "task", critics["task"], shown, trajectory.rewards["task"][0].detach()
    ).backward()
    assert reached(modules_by_name(agent.parts())) == {"world_model", "critic"}
    assert "policy/task/replay_value_loss" in agent.loss(batch)[1]


def test_a_replayed_return_needs_two_states():
    with pytest.raises(ValueError, match=r"replay_value_scale is 0\.3.*must not be 1"):
        DreamerConfig(replay_value_scale=0.3, imag_last=1)
