"""Imagined trajectories of the world model, and which of its modules depend on the task."""

import pytest
import torch

from hrl.world_model.model import WorldModelLossConfig
from hrl.world_model.rssm import RSSMState
from tests.fakes import reached
from tests.hrl.small_world_models import BATCH, OWN, TIME, noise, observe, only, rows, world_model

# Imagining.


def test_an_imagined_trajectory_is_steps_of_the_model():
    """From the start on, under the actions that were asked for at each time and state."""
    model = world_model(conditioning=only("dynamics"))
    start, task = observe(model, rows()).states.flatten(), rows()["task"][:, 1:].flatten(0, 1)
    uniform = noise(len(task), 3).transpose(0, 1)
    asked = []

    def act(time: int, state: RSSMState) -> torch.Tensor:
        asked.append((time, state))
        return torch.tanh(state.deter[:, :2] + time)

    states, actions = model.imagine(start, task, act, uniform, differentiable=False)
    assert (len(states.deter), len(actions)) == (4, 3)
    assert [time for time, _ in asked] == [0, 1, 2]
    state = start
    for time in range(3):
        assert torch.equal(states.deter[time], state.deter)
        assert torch.equal(asked[time][1].deter, state.deter)
        torch.testing.assert_close(actions[time], torch.tanh(state.deter[:, :2] + time))
        state = model.rssm(state, model.dynamics_input(actions[time], task), uniform[time])
        torch.testing.assert_close(states.deter[time + 1], state.deter)
        torch.testing.assert_close(states.stoch[time + 1], state.stoch)


@pytest.mark.parametrize("conditioned", [(), ("dynamics",)])
def test_gradient_through_imagination_reaches_actions_and_never_the_model(conditioned):
    model = world_model(conditioning=only(*conditioned))
    start, task = observe(model, rows()).states.flatten(), rows()["task"][:, 1:].flatten(0, 1)
    uniform = noise(len(task), 3).transpose(0, 1)
    chosen = torch.zeros(3, len(task), 2, requires_grad=True)
    states, actions = model.imagine(
        start, task, lambda time, state: chosen[time], uniform, differentiable=True
    )
    states.features()[-1].square().sum().backward()
    assert bool(chosen.grad.abs().sum((1, 2)).gt(0).all())
    assert reached({"model": model}) == set()
    states, actions = model.imagine(
        start, task, lambda time, state: 2 * chosen[time], uniform, differentiable=False
    )
    assert not states.deter.requires_grad
    assert not actions.requires_grad


def test_gradient_through_imagination_is_that_of_finite_differences():
    """Of `deter` after one step, which the action moves smoothly."""
    model = world_model()
    start, task = observe(model, rows()).states.flatten(), rows()["task"][:, 1:].flatten(0, 1)
    uniform, action = noise(BATCH * TIME, 1).transpose(0, 1), 0.5 * noise(BATCH * TIME, 1)[:, 0, :2]

    def end(value: torch.Tensor) -> torch.Tensor:
        states, _ = model.imagine(
            start, task, lambda time, state: value, uniform, differentiable=True
        )
        return states.deter[-1].double().square().sum(-1)

    leaf = action.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(end(leaf).sum(), leaf)
    for dimension in range(2):
        step = torch.zeros_like(action)
        step[:, dimension] = 5e-3
        with torch.no_grad():
            difference = (end(action + step) - end(action - step)) / 1e-2
        torch.testing.assert_close(
            gradient[:, dimension].double(), difference, rtol=0.02, atol=2e-3
        )


# The task.


@pytest.mark.parametrize("conditioned", [(), ("encoder",), ("dynamics",), ("heads",), OWN])
def test_only_modules_that_are_task_conditioned_change_with_it(conditioned):
    model, batch = world_model(conditioning=only(*conditioned)), rows()
    features = observe(model, batch).states.features()
    outputs = []
    for task in (batch["task"][:, 1:], -batch["task"][:, 1:]):
        embedding = model.embed(batch["pixels"][:, 1:], task)
        move = model.rssm.from_action(model.dynamics_input(batch["action"][:, 1:], task))
        outputs.append(
            {
                "encoder": embedding,
                "dynamics": move,
                "reward": model.predict_reward(features, task).mean(),
                "continue": model.predict_continue(features, task),
            }
        )
    changed = {name for name in outputs[0] if not torch.equal(outputs[0][name], outputs[1][name])}
    expected = {name for name in ("encoder", "dynamics") if name in conditioned}
    if "heads" in conditioned:
        expected |= {"reward", "continue"}
    assert changed == expected


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match=r"free_nats is -1"):
        WorldModelLossConfig(free_nats=-1.0)
