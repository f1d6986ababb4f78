"""The hierarchical agent acts: goals kept and redrawn, codes, the task, a worker that uses its
goal."""

import pytest
import torch

from hrl.agents.base import HierarchicalPolicy
from hrl.agents.conditioning import CONDITIONABLE_MODULES, ConditioningConfig
from hrl.data.observation import Observation, reset_state
from hrl.world_model.rssm import RSSMState
from tests.fakes import all_used, seen
from tests.hrl.small_directors import COUNT, director


def observation(seed: int = 0) -> Observation:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (COUNT, 16, 16, 3), dtype=torch.uint8, generator=generator)
    task = torch.rand(COUNT, 2, generator=generator) * 2 - 1
    return seen(pixels, task, all_used(COUNT, 2))


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def test_goals_hold_for_k_steps_and_change_then():
    agent = director(skill_duration=3)
    state, goals = agent.initial_state(COUNT), []
    for step in range(8):
        assert bool(agent.is_decision_step(state).all()) == (step % 3 == 0)
        action, state = agent.act(observation(step), state, noise(step))
        assert float(action.abs().max()) <= 1
        goals.append(agent.high_level_action(state))
    for step in range(1, 8):
        assert torch.equal(goals[step], goals[step - 1]) == (step % 3 != 0)


@torch.no_grad()
def test_environments_decide_at_their_own_steps():
    agent = director(skill_duration=3)
    _, state = agent.act(observation(), agent.initial_state(COUNT), noise(0))
    state = {**state, "steps_since_decision": torch.tensor([0, 1, 2, 0])}
    _, after = agent.act(observation(1), state, noise(1))
    assert (after["goal"] == state["goal"]).all(-1).tolist() == [False, True, True, False]
    assert after["steps_since_decision"].tolist() == [1, 2, 3, 1]


@torch.no_grad()
@pytest.mark.parametrize("carried", [False, True])
def test_an_episodes_end_and_the_goal(carried):
    """A new episode draws a goal at its first step, unless goals outlive episodes, as in the
    published code."""
    agent = director(skill_duration=3, carry_over_episodes=carried)
    _, state = agent.act(observation(), agent.initial_state(COUNT), noise(0))
    done = torch.tensor([True, False, True, False])
    after = reset_state(agent, state, agent.initial_state(COUNT), done)
    assert (after["deter"] == 0).all(-1).tolist() == done.tolist(), (
        "the model's state never outlives an episode"
    )
    assert (after["action"] == 0).all(-1).tolist() == done.tolist()
    assert agent.is_decision_step(after).tolist() == ([False] * 4 if carried else done.tolist())
    _, then = agent.act(observation(1), after, noise(1))
    kept = (then["goal"] == state["goal"]).all(-1)
    assert kept.tolist() == ([True] * 4 if carried else (~done).tolist())


@torch.no_grad()
def test_act_is_decide_then_act_low_level():
    agent = director(skill_duration=3)
    assert isinstance(agent, HierarchicalPolicy)
    state = agent.initial_state(COUNT)
    for step in range(4):
        together, carried = agent.act(observation(step), state, None)
        apart, same = agent.act_low_level(
            observation(step), agent.decide(observation(step), state, None), None
        )
        assert torch.equal(together, apart)
        assert carried.keys() == same.keys() == state.keys()
        assert all(torch.equal(carried[key], same[key]) for key in carried)
        state = carried


@torch.no_grad()
@pytest.mark.parametrize("greedy", [True, False])
def test_greedy_acting_and_codes(greedy):
    """The likeliest code, or in the published code a drawn one; the worker's action is its mean at
    that goal."""
    agent, batch = director(greedy_codes=greedy, skill_duration=3), observation()
    start = agent.initial_state(COUNT)
    tries = [
        agent.act(
            batch,
            {**start, "steps_since_decision": start["steps_since_decision"] + 3 * decision},
            None,
        )
        for decision in range(8)
    ]
    assert all(torch.equal(tries[0][1]["deter"], state["deter"]) for _, state in tries)
    same = all(torch.equal(tries[0][1]["goal"], state["goal"]) for _, state in tries)
    assert same is greedy
    again = agent.act(batch, start, None)[1]
    assert torch.equal(again["goal"], tries[0][1]["goal"]), "evaluations repeat"
    action, state = tries[0]
    features = RSSMState(state["deter"], state["stoch"]).features()
    policy = agent.worker.actor(torch.cat([features, state["goal"]], -1), batch.task)
    assert torch.equal(action, policy.mean)
    if greedy:
        mode = agent.manager.actor(features, batch.task).mode()
        assert torch.equal(state["goal"], agent.goals.decode(mode, batch.task))


@torch.no_grad()
def test_the_worker_uses_the_goal_in_force():
    """Swapped between environments, goals swap what the policy does; equal goals leave it alone."""
    agent = director()
    _, state = agent.act(observation(), agent.initial_state(COUNT), noise(0))
    own, _ = agent.act_low_level(observation(1), state, None)
    again, _ = agent.act_low_level(
        observation(1),
        agent.with_high_level_action(state, agent.high_level_action(state).clone()),
        None,
    )
    other, _ = agent.act_low_level(
        observation(1),
        agent.with_high_level_action(state, agent.high_level_action(state).roll(1, 0)),
        None,
    )
    assert torch.equal(own, again)
    assert not torch.isclose(own, other).any()
    seen = RSSMState(state["deter"], state["stoch"])
    task, mask, same = observation().task[None], observation().action_mask[None], state["goal"][:1]
    assert float(agent._swap_divergence(seen, state["goal"], task, mask)) > 1e-4
    assert float(agent._swap_divergence(seen, same.expand(COUNT, -1), task, mask)) == 0


@torch.no_grad()
def test_exploring_gives_the_latents_of_the_state_carried_on():
    agent = director()
    action, state, latents = agent.explore(observation(), agent.initial_state(COUNT), noise(0))
    assert torch.equal(action, state["action"])
    assert latents.keys() == agent.latent_columns().keys()
    assert torch.equal(latents["deter"], state["deter"].bfloat16())
    assert torch.equal(agent.world_model._one_hot(latents["stoch"]), state["stoch"])
    images = agent.decode_high_level_action(state)
    assert images.shape == (COUNT, 16, 16, 3)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


@pytest.mark.parametrize("task_input_size", CONDITIONABLE_MODULES)
def test_only_a_conditioned_module_depends_on_the_task(task_input_size):
    agent = director(conditioning=ConditioningConfig(preset="none", **{task_input_size: True}))
    deter = torch.tanh(torch.randn(COUNT, 32, generator=torch.Generator().manual_seed(0)))
    stoch = torch.zeros(COUNT, 16)
    code = torch.eye(8).expand(COUNT, 8, 8)
    features = torch.cat([deter, stoch], -1)
    inputs, outputs = torch.cat([features, deter], -1), []
    for task in (torch.ones(COUNT, 2), -torch.ones(COUNT, 2)):
        manager = [
            agent.manager.actor(features, task).probs,
            agent.manager.critics["task"].values(features, task),
        ]
        worker = [
            agent.worker.actor(inputs, task).mean,
            agent.worker.critics["goal"].values(inputs, task),
        ]
        coded = [agent.goals.encode(deter, task).probs, agent.goals.decode(code, task)]
        model = agent.world_model
        outputs.append(
            {
                "encoder": [model.embed(torch.zeros(COUNT, 16, 16, 3, dtype=torch.uint8), task)],
                "dynamics": [
                    model.rssm.from_action(model.dynamics_input(torch.zeros(COUNT, 2), task))
                ],
                "heads": [
                    model.predict_reward(features, task).mean(),
                    model.predict_continue(features, task),
                ],
                "manager": manager,
                "worker": worker,
                "goal_autoencoder": coded,
            }
        )
    for name in CONDITIONABLE_MODULES:
        moved = [
            not torch.equal(one, other)
            for one, other in zip(outputs[0][name], outputs[1][name], strict=True)
        ]
        assert moved == [name == task_input_size] * len(moved), name
