"""The two on-policy agents: what k = 1 and K = 1 mean, what depends on the task, where gradients
go, and that both learn from pixels."""

from dataclasses import replace

import pytest
import torch

from envs import load_suite
from hrl.agents import on_policy_learner
from hrl.agents.base import HierarchicalPolicy, NonFiniteUpdate
from hrl.agents.on_policy import OnPolicyAgentConfig, policy_objective
from hrl.agents.on_policy_learner import OnPolicyLearner
from hrl.agents.parts import modules_by_name
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.skills import Skills, SkillsConfig
from hrl.benchmarks import update
from hrl.config import ConfigError, load
from hrl.config_field import ConfigValueError
from hrl.data.observation import Observation
from hrl.data.rollout import Rollout
from hrl.nets.gaussian import Gaussian
from hrl.optim.compile import Update
from hrl.optim.cuda_graph import WARM_UP
from hrl.run.build import run_shapes
from tests.fakes import StateReach, ToyReach, all_used, seen, small_setting
from tests.hrl.same import assert_same

ENVS = 6
CPU = torch.device("cpu")


def skills(**changes) -> Skills:
    torch.manual_seed(0)
    return Skills(
        SkillsConfig(**({"num_skills": 3, "skill_duration": 4} | changes)), small_setting()
    )


def observation(seed: int = 0) -> Observation:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (ENVS, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return seen(pixels, torch.randn(ENVS, 1, generator=generator), all_used(ENVS, 1))


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learner(agent: type, config, device: torch.device = CPU, **env) -> OnPolicyLearner:
    torch.manual_seed(0)
    spec = replace(small_setting(), device=device)
    return OnPolicyLearner(agent(config, spec), config, spec, ToyReach(16, **env), ["toy"], 2)


# The hierarchy.


def test_weights_stay_for_k_steps_and_change_then():
    agent, state = skills(skill_duration=3), skills(skill_duration=3).initial_state(ENVS)
    seen = []
    with torch.no_grad():
        for step in range(7):
            assert bool(agent.is_decision_step(state).all()) == (step % 3 == 0)
            _, state = agent.act(observation(step), state, noise(step))
            seen.append(agent.high_level_action(state))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[2], seen[3])
    assert torch.equal(seen[3], seen[5])
    assert not torch.equal(seen[5], seen[6])


def test_k_of_one_decides_at_every_step():
    agent = skills(skill_duration=1)
    state = agent.initial_state(ENVS)
    for step in range(3):
        assert bool(agent.is_decision_step(state).all())
        _, state = agent.act(observation(step), state, noise(step))


def test_one_skill_makes_the_manager_and_the_task_irrelevant():
    """With K = 1 the method is a flat policy that sees no task."""
    agent, shown = skills(num_skills=1), observation()
    state = agent.initial_state(ENVS)
    with torch.no_grad():
        before, _ = agent.act(shown, state, None)
        for parameter in agent.manager.parameters():
            parameter.add_(torch.randn_like(parameter))
        after, carried = agent.act(shown._replace(task=shown.task + 3), state, None)
    assert torch.equal(before, after)
    assert bool((agent.high_level_action(carried) == 1).all())


def test_skills_depend_on_the_task_only_where_configured():
    shown = observation()
    other = shown._replace(task=shown.task + 1)
    for is_task_conditioned in (False, True):
        agent = skills(skills_see_task=is_task_conditioned)
        state = agent.initial_state(ENVS)
        with torch.no_grad():
            same = torch.equal(
                agent.act_low_level(shown, state, None)[0],
                agent.act_low_level(other, state, None)[0],
            )
        assert same is not is_task_conditioned


def test_act_is_decide_then_act_low_level():
    agent, shown = skills(), observation()
    state = agent.initial_state(ENVS)
    assert isinstance(agent, HierarchicalPolicy)
    with torch.no_grad():
        together, carried = agent.act(shown, state, None)
        apart, carried_apart = agent.act_low_level(shown, agent.decide(shown, state, None), None)
    assert torch.equal(together, apart)
    assert all(torch.equal(carried[key], carried_apart[key]) for key in carried)


def test_weights_sum_to_one_and_temperature_flattens_them():
    shown = observation()
    spread = []
    for temperature in (0.1, 1.0, 10.0):
        agent = skills(temperature=temperature)
        state = agent.decide(shown, agent.initial_state(ENVS), noise(0))
        torch.testing.assert_close(agent.high_level_action(state).sum(-1), torch.ones(ENVS))
        spread.append(float(agent.high_level_action(state).detach().std()))
    assert spread == sorted(spread, reverse=True)


@pytest.mark.parametrize(
    ("source", "reached"), [("both", True), ("manager", True), ("skills", True), ("none", False)]
)
def test_which_level_trains_the_encoder(source, reached):
    """`loss` reaches the encoder as the switch says, and every other part always."""
    trained = learner(
        Skills, SkillsConfig(num_skills=3, skill_duration=4, n_steps=8, encoder_gradient=source)
    )
    batch = one_batch(trained)
    trained.policy.loss(batch)[0].backward()
    for name, part in modules_by_name(trained.policy.parts()).items():
        expected = reached if name == "encoder" else True
        assert (
            any(p.grad is not None and bool(p.grad.any()) for p in part.parameters()) is expected
        ), name


@pytest.mark.parametrize("level", ["manager", "skills"])
def test_one_levels_encoder_gradient_is_its_own_losss(level):
    """With `encoder_gradient=LEVEL` the encoder's gradient equals that of this level's loss
    alone."""
    trained = learner(
        Skills, SkillsConfig(num_skills=3, skill_duration=4, n_steps=8, encoder_gradient=level)
    )
    agent, batch = trained.policy, one_batch(trained)
    weight = agent.encoder.stem.weight
    total = torch.autograd.grad(agent.loss(batch)[0], weight)[0]
    shown = agent._for_level(agent._encode_columns(batch, batch["task"]), level)
    own_loss = getattr(agent, f"_{level}_loss")(batch, shown, {})
    alone = torch.autograd.grad(own_loss, weight)[0]
    torch.testing.assert_close(total, alone)


def test_manager_loss_reads_decisions_only():
    """What is stored for the manager at steps where it decided nothing has no influence."""
    trained = learner(Skills, SkillsConfig(num_skills=3, skill_duration=4, n_steps=8))
    batch = one_batch(trained)
    before = trained.policy.loss(batch)[0]
    idle = batch["steps_since_decision"] != 0
    for key in ("logits", "manager_log_prob", "manager_value_advantage", "manager_value_return"):
        batch[key] = batch[key].clone()
        batch[key][idle] = 123.0
    torch.testing.assert_close(trained.policy.loss(batch)[0], before)


def test_bootstrap_values_are_the_managers_at_decision_steps():
    agent, shown = skills(), observation()
    state = {**agent.initial_state(ENVS), "steps_since_decision": torch.tensor([0, 1, 2, 3, 0, 1])}
    with torch.no_grad():
        values = agent.bootstrap_values(shown, state)
        features = agent.encoder(shown.pixels)
        manager = agent.manager_critic(torch.cat([features, agent.task(shown.task)], -1))[:, 0]
    is_decision_step = state["steps_since_decision"] == 0
    assert torch.equal(values["manager_value"], values["skill_value"])
    torch.testing.assert_close(values["manager_value"][is_decision_step], manager[is_decision_step])
    assert not torch.isclose(
        values["manager_value"][~is_decision_step], manager[~is_decision_step]
    ).any()


# The learner.


@pytest.mark.parametrize("agent", ["ppo", "skills"])
def test_the_first_updates_ratio_is_one(agent):
    """Log-probabilities stored while acting are those the loss computes before any update."""
    trained = make(agent, n_steps=8)
    batch = one_batch(trained)
    _, metrics = trained.policy.loss(batch)
    assert abs(float(metrics["policy/kl"].detach())) < 1e-5
    if agent == "skills":
        assert abs(float(metrics["manager/kl"].detach())) < 1e-5


def test_policy_objective_by_hand():
    """Ratios 1.5, 1.5, 0.5, 0.5 with advantages 1, -1, 1, -1 clip to 1.2, -1.5, 0.5, -0.8; weight 0
    hides a sample."""
    log = torch.log(torch.tensor([1.5, 1.5, 0.5, 0.5, 9.0]))
    advantage, weight = (
        torch.tensor([1.0, -1.0, 1.0, -1.0, 1e9]),
        torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0]),
    )
    objective, metrics = policy_objective(
        log, torch.zeros(5), advantage, weight, OnPolicyAgentConfig(kl_coefficient=0.0)
    )
    torch.testing.assert_close(objective, torch.tensor((1.2 - 1.5 + 0.5 - 0.8) / 4))
    kl = metrics["kl"]
    torch.testing.assert_close(kl, (0.5 - log[0] + -0.5 - log[2]) / 2)
    assert float(metrics["clip_fraction"]) == 1.0
    penalised, _ = policy_objective(
        log, torch.zeros(5), advantage, weight, OnPolicyAgentConfig(kl_coefficient=2.0)
    )
    torch.testing.assert_close(penalised, objective - 2 * kl)


def test_divergence_estimates_that_of_gaussians():
    """Against the closed form, by sampling from the policy that acted."""
    old, new = (
        Gaussian(torch.zeros(1), torch.zeros(1)),
        Gaussian(torch.full((1,), 0.3), torch.full((1,), -0.2)),
    )
    draws = Gaussian(torch.zeros(400_000, 1), torch.zeros(400_000, 1)).sample(noise(0))
    even = torch.full((400_000,), 1 / 400_000)
    _, metrics = policy_objective(
        new.log_prob(draws), old.log_prob(draws), torch.zeros(400_000), even, OnPolicyAgentConfig()
    )
    normal = [torch.distributions.Normal(g.mean, g.log_std.exp()) for g in (old, new)]
    assert float(metrics["kl"]) == pytest.approx(
        float(torch.distributions.kl_divergence(*normal)), rel=0.02
    )


@pytest.mark.parametrize("agent", ["ppo", "skills"])
def test_training_twice_gives_the_same_bits(agent):
    first, second = make(agent, n_steps=8), make(agent, n_steps=8)
    metrics = [[trained.iterate() for _ in range(3)] for trained in (first, second)]
    assert metrics[0] == metrics[1]
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True)
    )


def test_a_nonfinite_loss_stops_before_the_weights_change():
    """Updates before it are made, and none after it, though all run before anything is read."""
    trained, twin = make("skills", n_steps=8), make("skills", n_steps=8)
    rollouts = [prepared_rollout(each) for each in (trained, twin)]
    minibatches = list(twin._minibatches(rollouts[1], 0))
    key = "skill_value_advantage"
    failed = 2
    spoiled = minibatches[failed][key][3]
    rollouts[0].steps[key][rollouts[0].steps[key] == spoiled] = torch.nan
    with pytest.raises(NonFiniteUpdate, match="loss/total is not finite") as caught:
        trained.learn(rollouts[0])
    for batch in minibatches[:failed]:
        twin._update(batch)
    assert trained.updates == failed
    for part in ("policy", "optimizer"):
        assert_same(trained.state_dict()[part], twin.state_dict()[part])
    expected = torch.where(minibatches[failed][key] == spoiled, torch.nan, minibatches[failed][key])
    torch.testing.assert_close(caught.value.batch[key], expected, equal_nan=True, rtol=0, atol=0)


def test_minibatches_must_divide_the_rollout():
    with pytest.raises(ValueError, match=r"n_minibatches is 7; it must divide .* which is 128"):
        make("ppo", n_steps=8, n_minibatches=7)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("skill_duration", 0),
        ("num_skills", 0),
        ("temperature", 0.0),
        ("encoder_gradient", "all"),
        ("discount", 1.0),
        ("manager_learning_rate_share", 0.0),
        ("manager_learning_rate_share", 1.5),
    ],
)
def test_impossible_hyperparameters_name_their_key(key, value):
    with pytest.raises(ValueError, match=rf"^{key} is"):
        SkillsConfig(**{key: value})


def test_parameter_counts_add_up():
    for agent in ("ppo", "skills"):
        counts = make(agent, n_steps=8).parameter_counts()
        assert counts.pop("total") == sum(counts.values())


@pytest.mark.parametrize("lr_decay_start", [0, 5])
def test_the_learning_rate_falls_with_the_square_root_of_updates(lr_decay_start):
    trained = make("ppo", n_steps=8, learning_rate=0.01, lr_decay_start=lr_decay_start)
    seen = []
    trained.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"])
    )
    trained.iterate()
    expected = [0.01 if update <= 5 else 0.01 * (5 / update) ** 0.5 for update in range(1, 17)]
    assert seen == pytest.approx(expected if lr_decay_start else [0.01] * 16)


def test_the_manager_learns_with_its_share_of_the_learning_rate():
    """Adam's first step is proportional to the rate. Groups keep the parameters in their order, by
    which checkpoints name them."""
    moved = []
    for share in (1.0, 0.25):
        trained = make("skills", n_steps=8, manager_learning_rate_share=share)
        ordered = [one for group in trained.optimizer.param_groups for one in group["params"]]
        assert all(a is b for a, b in zip(ordered, trained.module.parameters(), strict=True))
        before = {name: value.clone() for name, value in trained.module.state_dict().items()}
        trained.updates = 1
        trained._set_learning_rate()
        trained._update(one_batch(trained))
        after = trained.module.state_dict()
        moved.append({name: after[name] - before[name] for name in before})
    for name, change in moved[0].items():
        if name.startswith("manager."):
            assert bool(change.any())
            torch.testing.assert_close(moved[1][name], 0.25 * change, rtol=1e-3, atol=2e-7)
        else:
            assert torch.equal(moved[1][name], change), name


def test_every_rate_falls_alike():
    trained = make("skills", n_steps=8, learning_rate=0.01, lr_decay_start=5)
    seen = []
    trained.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    trained.iterate()
    rates = [0.01 if update <= 5 else 0.01 * (5 / update) ** 0.5 for update in range(1, 17)]
    assert seen == [pytest.approx([rate, 0.1 * rate, rate]) for rate in rates]


class Replayed:
    """A recorded update without a GPU: it works in one memory, whatever is passed to it."""

    def __init__(self, update: Update) -> None:
        self._update = update
        self._batch: dict[str, torch.Tensor] = {}

    def __call__(self, batch):
        if not self._batch:
            self._batch = {name: value.clone() for name, value in batch.items()}
        for name, value in self._batch.items():
            value.copy_(batch[name])
        return self._update(self._batch)


@pytest.mark.parametrize("agent", ["ppo", "skills"])
def test_recorded_updates_are_plain_ones(agent, monkeypatch):
    """They read the learning rate, which falls here, on the device, in single precision."""
    monkeypatch.setattr(on_policy_learner, "GraphedUpdate", Replayed)
    monkeypatch.setattr(OnPolicyAgentConfig, "check_graph", lambda config, on_gpu: None)
    plain, recorded = (
        make(agent, n_steps=8, lr_decay_start=5, cuda_graph=graphed) for graphed in (False, True)
    )
    metrics = [[trained.iterate() for _ in range(2)] for trained in (plain, recorded)]
    assert metrics[0][1] == pytest.approx(metrics[1][1], rel=1e-4)
    assert recorded.updates == plain.updates == 32
    torch.testing.assert_close(plain.module.state_dict(), recorded.module.state_dict())


@pytest.mark.parametrize("agent", ["ppo", "skills"])
def test_a_recording_is_made_anew_where_a_learner_continues(agent, monkeypatch):
    """The old one would go on with the moments of the optimiser that are replaced."""
    monkeypatch.setattr(on_policy_learner, "GraphedUpdate", Replayed)
    monkeypatch.setattr(OnPolicyAgentConfig, "check_graph", lambda config, on_gpu: None)
    trained = make(agent, n_steps=8, cuda_graph=True)
    trained.iterate()
    recorded = trained._update
    trained.load_state_dict(trained.state_dict())
    assert isinstance(trained._update, Replayed)
    assert trained._update is not recorded


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("agent", ["ppo", "skills"])
def test_a_graph_of_an_update_is_that_update(agent):
    """From the same weights and minibatches, on both sides of the recording."""
    cuda = torch.device("cuda")
    plain, graphed = (make(agent, cuda, n_steps=8, cuda_graph=graph) for graph in (False, True))
    rollout = prepared_rollout(plain)
    for batch in list(plain._minibatches(rollout, 0))[: WARM_UP + 4]:
        found = [trained._update(batch)[0] for trained in (plain, graphed)]
        torch.testing.assert_close(*found)
    states = (trained.module.state_dict() for trained in (plain, graphed))
    torch.testing.assert_close(*states, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("agent", ["ppo", "director"])
def test_a_graph_is_refused_without_a_gpu(agent):
    config = load(["suite=debug", "size=debug", f"agent={agent}", "agent.cuda_graph=true"]).config
    shapes = run_shapes(replace(config, device="cpu"), load_suite("debug"))
    with pytest.raises(ConfigValueError, match="cuda_graph is True; it needs a GPU"):
        config.agent.check_run(shapes)
    config.agent.check_run(shapes._replace(on_gpu=True, longest_episode=64))


@pytest.mark.parametrize("agent", ["ppo", "skills"])
def test_a_learner_refuses_a_graph_without_a_gpu(agent):
    with pytest.raises(ConfigValueError, match="cuda_graph is True; it needs a GPU"):
        make(agent, cuda_graph=True)


def test_a_benchmark_of_graphs_is_refused_without_a_gpu():
    with pytest.raises(ConfigError, match=r"agent\.cuda_graph is True; it needs a GPU"):
        update.run(["agent=dreamer", "size=debug", "device=cpu", "agent.cuda_graph=true"], 2)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["ppo", "skills"])
def test_both_methods_learn_to_reach_from_pixels(agent):
    """Untrained methods earn 3 to 6 of 24, a policy blind to the task 10 at most."""
    trained = make(agent, n_steps=24, learning_rate=2e-3)
    returns = [trained.iterate()["train/return"] for _ in range(75)]
    assert returns[0] < 7
    assert max(returns[-10:]) > 15, f"last returns {returns[-10:]}"


@pytest.mark.parametrize("agent", [pytest.param("ppo", marks=pytest.mark.slow), "skills"])
def test_both_methods_learn_to_reach_from_a_state(agent):
    spec = replace(small_setting(), observation="state", state_size=2)
    config = make(agent, n_steps=24, learning_rate=2e-3).config
    cls = {"ppo": PPO, "skills": Skills}[agent]
    trained = OnPolicyLearner(cls(config, spec), config, spec, StateReach(16), ["toy"], 2)
    returns = [trained.iterate()["train/return"] for _ in range(40)]
    assert returns[0] < 9
    assert max(returns[-10:]) > 15, f"last returns {returns[-10:]}"


# Private functions.


def make(agent: str, device: torch.device = CPU, **changes) -> OnPolicyLearner:
    if agent == "ppo":
        return learner(PPO, PPOConfig(**changes), device)
    config = SkillsConfig(**({"num_skills": 4, "skill_duration": 4} | changes))
    return learner(Skills, config, device)


def prepared_rollout(trained: OnPolicyLearner) -> Rollout:
    """A rollout with the columns that updates need."""
    with torch.no_grad():
        rollout = trained.collector.collect(trained.policy, trained.config.n_steps)
        trained.estimate_advantages(rollout)
    return rollout


def one_batch(trained: OnPolicyLearner) -> dict[str, torch.Tensor]:
    """A whole rollout as one minibatch."""
    return next(prepared_rollout(trained).minibatches(10_000, noise(0)))
