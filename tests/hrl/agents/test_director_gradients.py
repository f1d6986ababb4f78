"""Where gradients of the hierarchical method go, and its parts."""

from dataclasses import replace

import pytest
import torch

from hrl.agents.actor_critic import ActorCriticConfig
from hrl.agents.conditioning import ConditioningConfig
from hrl.agents.director import Director
from hrl.agents.world_model_agent import model_loss
from tests.fakes import reached
from tests.hrl.small_directors import BATCH, COUNT, LENGTH, director, labelled, rows, states

SILENT = ActorCriticConfig(layers=1, entropy="fixed", entropy_scale=0.0)


def losses(agent: Director, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The terms of `Director.loss`, each on its own; of the levels' those of actors and critics
    too."""
    torch.manual_seed(1)
    observed = agent.world_model.observe(
        batch, torch.rand(BATCH, LENGTH, 4), agent.config.world_model_loss
    )
    terms = {"world_model": model_loss(observed)[0]}
    terms["goal_autoencoder"] = agent.goals.loss(observed.states.deter, batch["task"][:, 1:])[0]
    imagined = agent._imagine(agent.starts(batch, observed.states))
    trajectories = {
        "worker": agent._worker_trajectory(imagined)[0],
        "manager": agent._manager_trajectory(imagined),
    }
    for name, trajectory in trajectories.items():
        total, metrics = getattr(agent, name).loss(trajectory)
        terms |= {
            f"{name}_critics": metrics["critic_loss"],
            f"{name}_actor": total - metrics["critic_loss"],
        }
    return terms


def modules(agent: Director) -> dict[str, torch.nn.Module]:
    levels = {"worker": agent.worker, "manager": agent.manager}
    actors = {f"{name}_actor": level.actor for name, level in levels.items()}
    critics = {f"{name}_critics": level.critics for name, level in levels.items()}
    return {"world_model": agent.world_model, "goal_autoencoder": agent.goals, **actors, **critics}


TERMS = [
    "world_model",
    "goal_autoencoder",
    "worker_actor",
    "worker_critics",
    "manager_actor",
    "manager_critics",
]


@pytest.mark.parametrize("preset", ["none", "everywhere"])
@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
@pytest.mark.parametrize("term", TERMS)
def test_each_loss_reaches_exactly_its_own_module(term, gradient, preset):
    agent = director(
        action_gradient=gradient,
        conditioning=ConditioningConfig(preset=preset),
        task_reward_to_worker=0.5,
    )
    losses(agent, rows())[term].backward()
    assert reached(modules(agent)) == {term}


def test_the_goal_autoencoder_never_moves_the_states_that_it_reads():
    """Nor does the bonus that is made of it."""
    agent, deter = (
        director(),
        torch.linspace(-1, 1, COUNT * 3 * 32).reshape(COUNT, 3, 32).requires_grad_(),
    )
    task = torch.zeros(COUNT, 3, 2)
    agent.goals.loss(deter, task)[0].backward()
    assert deter.grad is None
    assert not agent.goals.exploration_reward(deter, task).requires_grad


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_the_loss_trains_every_parameter_and_is_the_sum_of_its_terms(gradient, precision):
    """In bfloat16 too: autocast must not hand on weights that were cast where nothing was to be
    differentiated."""
    agent = director(action_gradient=gradient, conditioning=ConditioningConfig(preset="everywhere"))
    agent.spec = replace(agent.spec, autocast=precision)
    torch.manual_seed(2)
    loss, metrics, latents = agent.loss(rows())
    loss.backward()
    dead = [
        name
        for name, p in agent.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert dead == []
    parts = [
        value
        for name, value in metrics.items()
        if name in ("worker/actor_loss", "worker/critic_loss")
    ]
    parts += [
        value
        for name, value in metrics.items()
        if name in ("manager/actor_loss", "manager/critic_loss")
    ]
    names = ("dynamics", "representation", "image", "reward", "continue")
    parts += [metrics[f"world_model/{name}"] for name in names]
    coded = metrics["goal_autoencoder/weight"] * metrics["goal_autoencoder/divergence"]
    parts += [metrics["goal_autoencoder/reconstruction"], coded]
    assert float(loss.detach()) == pytest.approx(float(torch.stack(parts).detach().sum()), rel=1e-4)
    assert latents["deter"].shape == (BATCH, LENGTH, 32)
    assert all(bool(torch.isfinite(value).all()) for value in metrics.values())


def test_through_the_dynamics_the_goal_alone_moves_the_worker():
    """With no bonus on entropy: what is left is the reward's gradient through the imagined
    steps."""
    agent = director(action_gradient="dynamics", worker=SILENT)
    losses(agent, rows())["worker_actor"].backward()
    assert all(bool(p.grad.any()) for p in agent.worker.actor.parameters())


def watch_actions(agent: Director) -> list[torch.Tensor]:
    """Fills with the actions of imagined steps, each as it goes into its step."""
    taken: list[torch.Tensor] = []
    imagine = agent.world_model.imagine

    def watched(start, task, act, *more):
        def keep(time, state):
            taken.append(act(time, state))
            return taken[-1]

        return imagine(start, task, keep, *more)

    agent.world_model.imagine = watched
    return taken


@pytest.mark.parametrize(
    ("alignment", "reward"),
    [("own", "progress"), ("own", "max_cosine"), ("current", "max_cosine")],
)
def test_a_reward_credits_the_actions_before_it(alignment, reward):
    """Gradient of arriving at state t reaches actions 0 to t - 1, and none before the goal that
    the reward is measured against; in the published code across the change of goals too."""
    settings = {"goal_alignment": alignment, "worker_reward": reward}
    agent, batch = director(action_gradient="dynamics", **settings), rows()
    taken = watch_actions(agent)
    imagined = agent._imagine(agent.starts(batch, states(agent, batch)))
    trajectory, _ = agent._worker_trajectory(imagined)
    count = BATCH * LENGTH
    for time in range(1, 7):
        segment, i = divmod(time - 1, 2)
        reward = trajectory.rewards["goal"][i, segment * count : (segment + 1) * count].sum()
        gradients = torch.autograd.grad(reward, taken, retain_graph=True, allow_unused=True)
        reaches = [gradient is not None and bool(gradient.any()) for gradient in gradients]
        first = 0 if alignment == "current" else 2 * segment
        assert reaches == [first <= action < time for action in range(6)]


@pytest.mark.parametrize("stream", ["goal", "task"])
def test_through_the_dynamics_every_reward_of_the_worker_carries_gradient(stream):
    """A share of the task's reward teaches as the goal's does, not only by the value after the
    segment."""
    agent, batch = director(action_gradient="dynamics", task_reward_to_worker=0.5), rows()
    taken = watch_actions(agent)
    imagined = agent._imagine(agent.starts(batch, states(agent, batch)))
    reward = agent._worker_trajectory(imagined)[0].rewards[stream]
    assert reward.requires_grad
    (gradient,) = torch.autograd.grad(reward[0].sum(), taken[0])
    assert bool(gradient.any())
    assert not any(
        reward.requires_grad for reward in agent._manager_trajectory(imagined).rewards.values()
    )


def test_by_likelihood_nothing_imagined_carries_gradient():
    agent, batch = director(action_gradient="reinforce"), rows()
    imagined = agent._imagine(agent.starts(batch, states(agent, batch)))
    tensors = [
        *imagined.states,
        imagined.actions,
        imagined.codes,
        imagined.goals,
        imagined.rewards,
        imagined.continues,
    ]
    assert not any(tensor.requires_grad for tensor in tensors)


# Parts.


def test_without_the_exploration_bonus_there_is_no_critic_for_it():
    """The goal autoencoder stays: goals are its."""
    with_bonus, without = director(), director(exploration_bonus=0.0)
    assert set(with_bonus.manager.critics) == {"task", "exploration"}
    assert with_bonus.manager.reward_weights == {"task": 1.0, "exploration": 0.1}
    assert set(without.manager.critics) == {"task"}
    assert set(without._manager_trajectory(labelled(2, 3)).rewards) == {"task"}
    assert set(without.worker.critics) == {"goal"}
    without.loss(rows())[0].backward()
    assert reached({"goals": without.goals}) == {"goals"}
