"""An iteration of an on-policy agent asks nothing of the device before all of it is under way."""

import pytest
import torch

from envs import make_vec
from envs.simulation.warp_faults import FaultReader
from hrl.agents.on_policy_learner import OnPolicyLearner
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.skills import Skills, SkillsConfig
from tests.device_guard import Asking, refuse_transfers
from tests.envs.small import short_suite
from tests.fakes import small_setting

# Kernels of the scene are compiled by the first test that needs them, once a machine.
pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize(
    ("agent", "config"), [(PPO, PPOConfig(n_steps=8)), (Skills, SkillsConfig(n_steps=8))]
)
def test_rollouts_and_updates_leave_the_device_alone(
    agent: type, config: PPOConfig | SkillsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = short_suite("point_mass")
    env = make_vec(suite, 4, frame_stack=1, image_size=16, physics="warp")
    spec = small_setting(action_size=2, task_size=2)
    learner = OnPolicyLearner(agent(config, spec), config, spec, env, ["toy"] * 4, 2)
    learner.iterate()
    # On a GPU this asks an event whether an earlier answer has arrived.
    monkeypatch.setattr(FaultReader, "found", lambda self: False)
    with monkeypatch.context() as guarded, Asking():
        refuse_transfers(guarded)
        with torch.no_grad():
            rollout = learner.collector.collect(learner.policy, config.n_steps)
            learner.estimate_advantages(rollout)
        for batch in learner._minibatches(rollout, learner.updates):
            learner._update(batch)
    assert learner.collector.take_episodes()
    env.close()
