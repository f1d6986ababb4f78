"""Discrete actions, of which the largest number of an action chooses: no button is favoured."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from envs import Suite, Task, make_vec
from envs.vector.external import ExternalVectorEnv
from hrl.agents.actor_critic import ActorCriticConfig
from hrl.agents.director import Director, DirectorConfig
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.scripted import RandomPolicy
from hrl.agents.skills import Skills, SkillsConfig
from hrl.agents.stable_baselines import (
    SB3PPOConfig,
    SB3PPOLearner,
    SB3SACConfig,
    saved_ppo,
    saved_sac,
)
from hrl.nets.action_bounds import bounded_choice
from tests.fakes import all_used, model_setting, seen, small_setting

BUTTONS = 18
DRAWS = 3072
LEVEL = ActorCriticConfig(layers=1)
SPEC = replace(small_setting(action_size=BUTTONS), discrete_actions=True)
MODEL_SPEC = replace(model_setting(task_size=1, action_size=BUTTONS), discrete_actions=True)

UNTRAINED: dict[str, Callable[[], Any]] = {
    "ppo": lambda: PPO(PPOConfig(), SPEC),
    "skills": lambda: Skills(SkillsConfig(), SPEC),
    "dreamer": lambda: Dreamer(DreamerConfig(policy=LEVEL), MODEL_SPEC),
    "director": lambda: Director(DirectorConfig(manager=LEVEL, worker=LEVEL), MODEL_SPEC),
    "sb3_ppo": lambda: saved_ppo(SB3PPOConfig(), SPEC).policy,
    "sb3_sac": lambda: saved_sac(SB3SACConfig(), SPEC).policy,
    "random": lambda: RandomPolicy(BUTTONS, 0),
}


@pytest.mark.parametrize("name", UNTRAINED)
@torch.no_grad()
def test_an_untrained_policy_presses_every_button_about_as_often(name: str) -> None:
    rng = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    pressed = np.zeros(BUTTONS)
    # The weights of soft actor-critic, whose deviations differ, favour some buttons each.
    rounds = 24 if name == "sb3_sac" else 4
    count = DRAWS // rounds
    for step in range(rounds):
        torch.manual_seed(step)
        policy = UNTRAINED[name]()
        pixels = torch.from_numpy(rng.integers(0, 256, (count, 16, 16, 3), np.uint8))
        shown = seen(pixels, torch.zeros(count, 1), all_used(count, BUTTONS))
        state = policy.initial_state(count)
        if name == "random":
            state = {"step": state["step"] + step}
        action = policy.act(shown, state, generator)[0]
        assert action.abs().max() <= 1
        pressed += np.bincount(action.argmax(-1).numpy(), minlength=BUTTONS)
    share = pressed / pressed.sum() * BUTTONS
    assert share.min() > 0.5, share
    assert share.max() < 2, share
    assert abs(share[:6].mean() - share[-6:].mean()) < 0.35, share


def test_the_model_of_the_world_sees_which_button_was_pressed() -> None:
    model = UNTRAINED["dreamer"]().world_model
    task = torch.zeros(1, 1)
    drawn = torch.zeros(2, BUTTONS)
    drawn[:, :2] = torch.tensor([[1.2, 1.5], [1.5, 1.2]])
    seen = model.dynamics_input(drawn, task)
    assert seen.argmax(-1).tolist() == [1, 0]
    assert seen.abs().max() == 1
    assert torch.equal(bounded_choice(0.5 * drawn[:, 2:]), drawn[:, 2:])


@pytest.fixture(scope="module")
def env() -> Iterator[ExternalVectorEnv]:
    """Environments whose reward is 5 and the number of the button that was pressed."""
    parameters = {
        "id": "tests.envs.external_fakes:Counter-v0",
        "kwargs": f"{{discrete: true, choices: {BUTTONS}}}",
        "render": "auto",
        "camera": "",
    }
    task = Task("buttons", "gym", parameters, 50, 0)
    suite = Suite("buttons", 1, 100.0, "kwargs", {"train": (task,)})
    assert suite.discrete_actions
    env = make_vec(suite, 16, image_size=16, frame_stack=1, threads=1)
    assert isinstance(env, ExternalVectorEnv)
    yield env
    env.close()


def test_the_environment_takes_the_largest_number_though_several_are_beyond_one(
    env: ExternalVectorEnv,
) -> None:
    assert env.single_action_space == gymnasium.spaces.Box(-10, 10, (BUTTONS,), np.float32)
    env.reset()
    action = np.full((16, BUTTONS), 1.5, np.float32)
    buttons = np.arange(16) + 2
    action[np.arange(16), buttons] = 2
    assert env.step(action)[1].tolist() == (5 + buttons).tolist()


def test_the_librarys_rollouts_keep_the_order_of_large_numbers(
    env: ExternalVectorEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stable-Baselines3 clips to the action space before the environment gets the action."""
    rewards: list[float] = []
    step = env.step

    def recorded(actions: np.ndarray) -> Any:
        result = step(actions)
        rewards.extend(result[1])
        return result

    monkeypatch.setattr(env, "step", recorded)
    config = SB3PPOConfig(n_steps=60, n_epochs=1, n_minibatches=1)
    SB3PPOLearner(config, SPEC, env, ["buttons"], 1).iterate()
    share = np.bincount(np.array(rewards, int) - 5, minlength=BUTTONS) / len(rewards) * BUTTONS
    assert share.min() > 0.55, share
    assert share.max() < 1.7, share
