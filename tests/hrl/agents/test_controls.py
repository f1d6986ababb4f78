"""Controls mean what they say: one skill is a flat policy without a manager; repeated noise is
the flat method's k."""

import pytest
import torch

from hrl.agents.base import Counting
from hrl.agents.on_policy_learner import OnPolicyLearner
from hrl.agents.parts import modules_by_name
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.skills import Skills, SkillsConfig
from hrl.data.observation import Observation
from hrl.nets.gaussian import Gaussian
from hrl.seeding import torch_generator
from tests.fakes import ToyReach, all_used, seen, small_setting

ENVS, LENGTH = 8, 6


def make(agent: type, length: int = LENGTH, **changes: object) -> OnPolicyLearner:
    """A small learner on episodes of `length` steps, which four does not divide."""
    torch.manual_seed(0)
    config = (PPOConfig if agent is PPO else SkillsConfig)(**({"n_steps": 8} | changes))
    spec = small_setting()
    return OnPolicyLearner(agent(config, spec), config, spec, ToyReach(ENVS, length), ["toy"], 2)


def rollout(learner: OnPolicyLearner, steps: int = 8) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        collected = learner.collector.collect(learner.policy, steps)
        learner.estimate_advantages(collected)
    return collected.steps


def batch(learner: OnPolicyLearner) -> dict[str, torch.Tensor]:
    return {key: value.flatten(0, 1) for key, value in rollout(learner).items()}


def observation() -> Observation:
    pixels = torch.randint(
        0, 256, (ENVS, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return seen(pixels, torch.linspace(-1, 1, ENVS)[:, None], all_used(ENVS, 1))


# One skill.


def test_with_one_skill_the_manager_has_no_loss_at_all():
    learner = make(Skills, num_skills=1, skill_duration=4)
    loss, metrics = learner.policy.loss(batch(learner))
    loss.backward()
    parts = modules_by_name(learner.policy.parts())
    for name in ("manager", "manager_critic"):
        assert all(parameter.grad is None for parameter in parts[name].parameters()), name
    assert not [key for key in metrics if key.startswith(("manager/", "skills/"))]
    assert bool(parts["encoder"].stem.weight.grad.any())


def test_with_one_skill_nothing_learned_depends_on_the_manager():
    """Two learners whose managers and managers' critics differ go through the same numbers, and
    leave those alone."""
    learners = [make(Skills, num_skills=1, skill_duration=4) for _ in range(2)]
    parts = modules_by_name(learners[1].policy.parts())
    with torch.no_grad():
        for name in ("manager", "manager_critic"):
            for parameter in parts[name].parameters():
                parameter.add_(1.0)
    before = [parameter.detach().clone() for parameter in parts["manager_critic"].parameters()]
    metrics = [[learner.iterate() for _ in range(4)] for learner in learners]
    assert metrics[0] == metrics[1]
    assert all(
        torch.equal(a, b) for a, b in zip(before, parts["manager_critic"].parameters(), strict=True)
    )


def test_one_skill_acts_as_a_flat_policy_on_the_pixels_features():
    agent = make(Skills, num_skills=1, skill_duration=4).policy
    shown = observation()
    with torch.no_grad():
        mean, raw = agent.skills(agent.encoder(shown.pixels)).chunk(2, -1)
        noise = torch.empty_like(mean).normal_(generator=torch.Generator().manual_seed(3))
        log_std = -2.3 + 2.3 * torch.sigmoid(raw + 3.0)
        action, state, records = agent.explore(
            shown, agent.initial_state(ENVS), torch.Generator().manual_seed(3)
        )
    torch.testing.assert_close(action, torch.tanh(mean + log_std.exp() * noise))
    assert "logits" not in records
    assert bool((agent.high_level_action(state) == 1).all())


def test_more_than_one_skill_trains_the_manager():
    learner = make(Skills, num_skills=2, skill_duration=4)
    learner.policy.loss(batch(learner))[0].backward()
    parts = modules_by_name(learner.policy.parts())
    for name in ("manager", "manager_critic"):
        assert any(bool(p.grad.any()) for p in parts[name].parameters()), name


def test_one_skill_leaves_no_level_named_manager_to_train_the_encoder():
    with pytest.raises(
        ValueError, match=r"encoder_gradient is 'manager'.*choose from both, skills, none"
    ):
        SkillsConfig(num_skills=1, encoder_gradient="manager")


# Decisions.


def test_decisions_are_counted_over_environments_and_episodes():
    """Episodes of six steps under k = 4 decide at their steps 0 and 4: eight times in 24 steps."""
    learner = make(Skills, num_skills=2, skill_duration=4)
    assert isinstance(learner.policy, Counting)
    counted = [learner.iterate() for _ in range(6)]
    assert counted[2]["decisions"] == 8 * ENVS
    assert counted[5]["decisions"] == 16 * ENVS
    every = make(Skills, num_skills=2, skill_duration=1).iterate()
    assert every["decisions"] == every["steps"]
    assert make(Skills, num_skills=1, skill_duration=4).iterate()["decisions"] == 0
    assert "decisions" not in make(PPO).iterate()


def test_decisions_go_on_from_a_checkpoint():
    through, stopped = (
        make(Skills, num_skills=2, skill_duration=4),
        make(Skills, num_skills=2, skill_duration=4),
    )
    first = [through.iterate()["decisions"] for _ in range(2)]
    stopped.module.load_state_dict(through.state_dict()["policy"])
    stopped.collector.load_state_dict(through.collector.state_dict())
    assert [through.iterate()["decisions"], first] == [stopped.iterate()["decisions"], first]


# Held noise.


def still(learner: OnPolicyLearner) -> OnPolicyLearner:
    """With a policy that is the same everywhere, so that actions before the tanh are the noise but
    for its scale."""
    with torch.no_grad():
        learner.policy.actor.layers[-1].weight.zero_()
    return learner


def test_noise_is_repeated_for_k_steps_and_redrawn_at_an_episodes_start():
    steps = rollout(still(make(PPO, noise_repeat=4)), 24)
    raw, done = steps["raw_action"][..., 0], steps["done"]
    assert bool(done[5].all()), "episodes of six steps"
    for time in range(1, 24):
        drawn = time % LENGTH in (0, 4)
        assert torch.equal(raw[time] == raw[time - 1], torch.full((ENVS,), not drawn)), time
    assert len(raw[0].unique()) == ENVS, "environments draw their own"


def test_environments_whose_episodes_end_apart_count_their_own_steps():
    agent = still(make(PPO, noise_repeat=3)).policy
    state = {**agent.initial_state(ENVS), "steps_since_noise": torch.arange(ENVS) % 3}
    with torch.no_grad():
        _, carried, _ = agent.explore(observation(), state, torch.Generator().manual_seed(0))
    assert torch.equal((carried["noise"] == 0)[:, 0], state["steps_since_noise"] != 0), (
        "only the due ones draw"
    )
    assert torch.equal(carried["steps_since_noise"], (state["steps_since_noise"] + 1) % 3)


def test_noise_repeated_for_one_step_is_a_draw_at_every_step():
    """To the bit what the learner of independent draws does: spelled out from the run's
    stream."""
    learner = make(PPO)
    steps = rollout(learner, 12)
    seed = learner.spec.seed
    with torch.no_grad():
        for time in range(12):
            distribution = policy_of(
                learner, {name: values[time] for name, values in steps.items()}
            )
            assert torch.equal(
                steps["raw_action"][time], distribution.sample(torch_generator(seed, "act", time))
            )


def policy_of(learner: OnPolicyLearner, batch: dict[str, torch.Tensor]) -> Gaussian:
    """What a flat policy would do at the observations of a batch."""
    features = learner.policy._features(batch, batch["task"])
    return learner.policy._policy(features, batch["action_mask"])


@pytest.mark.parametrize("skill_duration", [1, 4])
def test_likelihoods_are_those_of_the_actions_taken(skill_duration):
    learner = make(PPO, noise_repeat=skill_duration)
    taken = batch(learner)
    with torch.no_grad():
        distribution = policy_of(learner, taken)
        _, metrics = learner.policy.loss(taken)
    torch.testing.assert_close(taken["log_prob"], distribution.log_prob(taken["raw_action"]))
    assert abs(float(metrics["policy/kl"])) < 1e-5


def test_greedy_actions_know_no_noise():
    agents = [make(PPO, noise_repeat=skill_duration).policy for skill_duration in (1, 4)]
    shown = observation()
    state = agents[1].initial_state(ENVS)
    with torch.no_grad():
        _, state = agents[1].act(shown, state, torch.Generator().manual_seed(0))
        repeated, after = agents[1].act(shown, state, None)
        plain, _ = agents[0].act(shown, agents[0].initial_state(ENVS), None)
    assert torch.equal(repeated, plain)
    assert after is state


def test_acting_repeats_noise_as_exploring_does():
    agent, shown = make(PPO, noise_repeat=2).policy, observation()
    state = agent.initial_state(ENVS)
    with torch.no_grad():
        acted, carried = agent.act(shown, state, torch.Generator().manual_seed(0))
        explored, same, _ = agent.explore(shown, state, torch.Generator().manual_seed(0))
        again, _ = agent.act(shown, carried, torch.Generator().manual_seed(1))
    assert torch.equal(acted, explored)
    assert torch.equal(carried["noise"], same["noise"])
    assert torch.equal(again, acted), "the second step's generator is not used"


def test_repeated_noise_goes_on_from_a_checkpoint():
    """Saved while noise is repeated."""
    through, resumed = make(PPO, noise_repeat=5), make(PPO, noise_repeat=5)
    through.iterate()
    resumed.load_state_dict(through.state_dict())
    resumed.collector.env = through.collector.env
    state = through.collector.state_dict()["policy"]
    assert bool((state["steps_since_noise"] > 0).any())
    with torch.no_grad():
        actions = [
            learner.policy.explore(
                observation(), learner.collector._state, torch.Generator().manual_seed(draw)
            )
            for draw, learner in enumerate((through, resumed))
        ]
    assert torch.equal(actions[0][0], actions[1][0])
    assert torch.equal(actions[0][1]["noise"], actions[1][1]["noise"])


def test_noise_is_repeated_for_at_least_a_step():
    with pytest.raises(ValueError, match=r"noise_repeat is 0; it must be at least 1"):
        PPOConfig(noise_repeat=0)
