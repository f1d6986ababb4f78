"""Where gradients of an actor-critic go, by likelihood and through the dynamics, and that both
teach its actor."""

from dataclasses import replace

import pytest
import torch

from hrl.agents.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    ContinuousActor,
    Critic,
    Trajectory,
)
from tests.fakes import reached
from tests.hrl.small_actor_critics import (
    ACTION,
    BATCH,
    INPUTS,
    PLAIN,
    TASK,
    TIME,
    UNITS,
    actor_critic,
    draws,
    slow_lambda_return,
    uniform,
)


def steered(
    trained: ActorCritic, gradient: bool = True
) -> tuple[Trajectory, dict[str, torch.Tensor]]:
    """States that the actions move and rewards that the states give, with every leaf watched."""
    start = draws(BATCH, INPUTS).requires_grad_()
    task = draws(1, BATCH, TASK, seed=1).requires_grad_()
    push = draws(ACTION, INPUTS, seed=2).requires_grad_()
    states, actions = [start], []
    with torch.set_grad_enabled(gradient):
        for time in range(TIME):
            policy = trained.actor(states[-1].detach(), task.detach()[0])
            actions.append(policy.sample(draws(BATCH, ACTION, seed=10 + time)))
            states.append(torch.tanh(states[-1] + actions[-1] @ push))
        inputs = torch.stack(states)
        rewards = {name: inputs[1:, :, index] for index, name in enumerate(trained.reward_weights)}
    seen = Trajectory(
        inputs, task.detach(), torch.stack(actions), rewards, uniform(TIME + 1, BATCH, seed=9), 0.9
    )
    return seen, {"start": start, "push": push}


def pieces(trained: ActorCritic, seen: Trajectory) -> tuple[torch.Tensor, torch.Tensor]:
    """The actor's part of the loss, with gradient, and the critics'."""
    total, metrics = trained.loss(seen)
    critics = metrics["critic_loss"]
    return total - critics, critics


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
@pytest.mark.parametrize("bootstrap", ["slow", "critic"])
def test_each_loss_reaches_its_own_modules(gradient, bootstrap):
    for part, trains in ((0, "actor"), (1, "critics")):
        trained = actor_critic(
            replace(PLAIN, bootstrap=bootstrap),
            gradient,
            {"task": 1.0, "exploration": 0.5},
        )
        seen, _ = steered(trained)
        pieces(trained, seen)[part].backward()
        slow = torch.nn.ModuleList(built.slow for built in trained.critics.values())
        assert reached({"actor": trained.actor, "critics": trained.critics, "slow": slow}) == {
            trains
        }
        if trains == "critics":
            assert reached(dict(trained.critics.items())) == {"task", "exploration"}


def test_reinforce_reaches_nothing_that_was_imagined():
    trained = actor_critic()
    seen, leaves = steered(trained)
    trained.loss(seen)[0].backward()
    assert all(leaf.grad is None or not bool(leaf.grad.any()) for leaf in leaves.values())


def test_dynamics_reaches_the_actor_through_its_actions_only():
    """With actions cut from the actor what is left is the entropy; with the trajectory cut nothing
    else is."""
    silent = replace(PLAIN, entropy="fixed", entropy_scale=0.0)
    for connected in (True, False):
        trained = actor_critic(silent, "dynamics")
        seen, leaves = steered(trained, gradient=connected)
        actor_loss, _ = pieces(trained, seen)
        if connected:
            actor_loss.backward()
            assert reached({"actor": trained.actor}) == {"actor"}
            assert bool(leaves["push"].grad.any())
        else:
            gradients = torch.autograd.grad(
                actor_loss, list(trained.actor.parameters()), allow_unused=True
            )
            assert not any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def test_dynamics_gradient_is_that_of_weighted_returns_less_values():
    """Through rewards, values and states, the values of the states acted in included (director.md,
    section 3)."""
    trained = actor_critic(replace(PLAIN, entropy="fixed", entropy_scale=0.0), "dynamics")
    seen, _ = steered(trained)
    actor_loss, _ = pieces(trained, seen)
    parameters = list(trained.actor.parameters())
    actual = torch.autograd.grad(actor_loss, parameters, retain_graph=True)
    values = trained.critics["task"].values(seen.inputs, seen.task)
    scale = float(trained.critics["task"].scale.scale())
    objective = torch.zeros(())
    weights = trained._weights(seen)
    for time in range(TIME):
        for batch in range(BATCH):
            returns = slow_lambda_return(
                list(seen.rewards["task"][:, batch]),
                list(values[:, batch]),
                list(seen.continues[1:, batch]),
                0.9,
                0.95,
                time,
            )
            objective = objective + weights[time, batch] * (returns - values[time, batch]) / scale
    expected = torch.autograd.grad(-objective / (TIME * BATCH), parameters)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("gradient", ["reinforce", "dynamics"])
def test_an_actor_learns_what_is_rewarded(gradient):
    """Reward is minus the squared distance of the action from 0.6 and -0.3: its mean goes there."""
    torch.manual_seed(0)
    config = replace(ActorCriticConfig(layers=1), entropy_target=0.05)
    actor, goal = ContinuousActor(INPUTS, 0, 4, UNITS, ACTION, config), torch.tensor([0.6, -0.3])
    trained = ActorCritic(
        actor, {"task": Critic(INPUTS, 0, 4, UNITS, config)}, {"task": 1.0}, config, gradient
    )
    optimizer = torch.optim.Adam([p for p in trained.parameters() if p.requires_grad], 0.01)
    task, batch = torch.zeros(1, 64, TASK), 64
    inputs = draws(TIME + 1, batch, INPUTS)

    def distance() -> float:
        with torch.no_grad():
            return float((actor(inputs, task).mean - goal).norm(dim=-1).mean())

    start = distance()
    for update in range(100):
        policy = actor(inputs[:-1], task)
        actions = policy.sample(draws(TIME, batch, ACTION, seed=update))
        rewards = {"task": -(actions - goal).square().sum(-1)}
        seen = Trajectory(inputs, task, actions, rewards, torch.ones(TIME + 1, batch), 0.5)
        optimizer.zero_grad()
        trained.loss(seen)[0].backward()
        optimizer.step()
        trained.update_target()
    assert distance() < 0.5 * start
