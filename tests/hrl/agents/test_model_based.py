"""Gathering into a replay and learning from it: rows by time, updates by arithmetic, continuation
to the bit."""

import copy
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hrl.agents.actor_critic import ActorCriticConfig
from hrl.agents.base import NonFiniteUpdate
from hrl.agents.director import Director, DirectorConfig
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.agents.model_based import ModelBasedLearner
from hrl.agents.parts import modules_by_name
from hrl.data.observation import Observation, PolicyState
from hrl.data.replay_buffer import Column, ReplayBuffer
from hrl.data.replay_collector import ReplayCollector, replay_columns
from hrl.optim.cuda_graph import WARM_UP
from hrl.optim.optimizer_state import optimizer_state
from hrl.run.checkpoint_format import read, write
from hrl.world_model.rssm import RSSMState
from tests.fakes import CounterEnv, ToyReach, model_setting, replayed
from tests.hrl.same import assert_same, assert_same_update

CPU = torch.device("cpu")
ENVS, BATCH, LENGTH = 4, 3, 4
METHODS = {"dreamer": (Dreamer, DreamerConfig), "director": (Director, DirectorConfig)}


# Gathering.


class AnsweringEnv(CounterEnv):
    """Pays the clock plus the action that it was given, and asserts that this says the step that it
    was taken at."""

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        taken_at = self.steps_since_decision - 1
        assert np.allclose(actions[:, 0], taken_at / 100), (
            "the action answers the observation just before it"
        )
        reward, done = super()._advance(actions)
        return reward + actions[:, 0], done


class Answerer:
    """Acts by what it sees, the clock over 100, and remembers how often it has acted in this
    episode."""

    def initial_state(self, num_envs: int) -> PolicyState:
        return {"age": torch.zeros(num_envs, dtype=torch.int64)}

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[torch.Tensor, PolicyState, dict[str, torch.Tensor]]:
        assert generator is not None
        shown = observation.pixels[:, 0, 0, 0].long()
        assert torch.equal(shown, state["age"]), (
            "the state restarts where an episode does, and nowhere else"
        )
        return shown[:, None] / 100, {"age": state["age"] + 1}, {"latent": state["age"] + 1}


def collected(steps: int, calls: int = 1) -> tuple[ReplayCollector, dict[str, list]]:
    env = AnsweringEnv(3, length=4)
    kept = replay_columns(env.single_observation_space, 1, {"latent": Column((), torch.int64)})
    replay = ReplayBuffer(kept, 3, 3 * 64, 2, CPU)
    collector = ReplayCollector(env, replay, ["counting"], 0, CPU)
    episodes: dict[str, list] = {}
    for _ in range(calls):
        for key, values in collector.collect(Answerer(), steps // calls).items():
            episodes.setdefault(key, []).extend(values)
    return collector, episodes


def test_rows_by_time():
    """Every observation is a row, the last of an episode too, with its reward and no action; the
    next begins anew.

    A row's action is the one taken there, its reward the one received on arriving there.
    """
    collector, _ = collected(23)
    rows = collector.replay.state_dict()["rows"]
    for env in range(3):
        limit, expected = 4 + env, []
        for step in range(23):
            episode, steps_since_decision = divmod(step, limit)
            arrival = (
                steps_since_decision + (steps_since_decision - 1) / 100
                if steps_since_decision
                else 0.0
            )
            expected.append(
                (
                    steps_since_decision,
                    episode,
                    steps_since_decision / 100,
                    arrival,
                    steps_since_decision == 0,
                    False,
                    steps_since_decision + 1,
                )
            )
            if steps_since_decision == limit - 1:
                expected.append(
                    (limit, episode, 0.0, limit + (limit - 1) / 100, False, env % 2 == 1, 0)
                )
        names = ("pixels", "task", "action", "reward", "is_first", "is_terminal", "latent")
        for name, values in zip(names, zip(*expected, strict=True), strict=True):
            kept = rows[name][env].reshape(len(expected), -1)
            assert bool((kept == kept[:, :1]).all())
            assert kept[:, 0].tolist() == pytest.approx(list(values)), (name, env)


def test_gathering_in_pieces_is_gathering_at_once():
    whole, pieces = (
        collected(24)[0].replay.state_dict(),
        collected(24, calls=8)[0].replay.state_dict(),
    )
    assert torch.equal(whole["added"], pieces["added"])
    assert_same(whole["rows"], pieces["rows"])


def test_returns_of_ended_episodes_are_reported():
    """Environment i ends after 4 + i steps, by termination where i is odd."""
    _, episodes = collected(13)
    expected = {env: sum(t + (t - 1) / 100 for t in range(1, 5 + env)) for env in range(3)}
    ends = sorted((step, env) for env in range(3) for step in range(4 + env, 14, 4 + env))
    assert episodes["train/return/counting"] == pytest.approx([expected[env] for _, env in ends])
    assert episodes["train/success/counting"] == [float(env == 1) for _, env in ends]


def test_a_reward_that_is_not_finite_is_refused_and_not_written():
    class Broken(AnsweringEnv):
        def _advance(self, actions):
            reward, done = super()._advance(actions)
            reward[1] = np.nan
            return reward, done

    env = Broken(3, length=4)
    kept = replay_columns(env.single_observation_space, 1, {"latent": Column((), torch.int64)})
    collector = ReplayCollector(env, ReplayBuffer(kept, 3, 192, 2, CPU), ["counting"], 0, CPU)
    with pytest.raises(FloatingPointError, match=r"reward of environments \[1\] is not finite"):
        collector.collect(Answerer(), 1)
    assert bool(torch.isfinite(torch.cat(collector.replay.state_dict()["rows"]["reward"])).all())


# Learning.


NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def learner(
    method: str = "dreamer", device: torch.device = CPU, **changes: object
) -> ModelBasedLearner:
    torch.manual_seed(0)
    level = ActorCriticConfig(layers=1)
    levels = (
        {"policy": level}
        if method == "dreamer"
        else {"manager": level, "worker": level, "skill_duration": 2}
    )
    sizes = {
        "batch_size": BATCH,
        "sequence_length": LENGTH,
        "horizon": 2,
        "replay_capacity": 400,
        "warmup": 0,
        "learning_rate": 1e-3,
    }
    agent, config = METHODS[method]
    built = config(**(sizes | {"train_ratio": 3.0, "log_interval": 4} | levels | changes))
    spec = replace(model_setting(task_size=1, action_size=1, deter=16), device=device)
    return ModelBasedLearner(agent(built, spec), built, spec, ToyReach(ENVS, 6), ["toy"], 2)


def filled(
    method: str = "dreamer", device: torch.device = CPU, **changes: object
) -> ModelBasedLearner:
    """One whose replay is ready for updates."""
    trained = learner(method, device, **changes)
    with torch.no_grad():
        trained.collector.collect(trained.policy, 20)
    return trained


def kept(trained: ModelBasedLearner) -> dict[str, object]:
    """What a checkpoint would hold, at this moment."""
    return copy.deepcopy(trained.state_dict())


@pytest.mark.parametrize(("train_ratio", "batch"), [(12.0, 3), (7.0, 3), (1.5, 3), (10.0, 5)])
def test_updates_by_arithmetic(train_ratio, batch):
    """Replayed steps per agent step, from when a batch need hold no sequence twice; what is left
    over is carried on."""
    trained = learner(train_ratio=train_ratio, batch_size=batch, log_interval=1)
    trained.update = lambda: {"loss": torch.zeros(())}
    owed, made, rows = 0.0, 0, 0
    for step in range(1, 26):
        rows += 1 + (step % 6 == 0)  # an episode's last observation is a row of its own
        if ENVS * max(rows - LENGTH, 0) >= batch:
            owed += ENVS * train_ratio / (batch * LENGTH)
        calls = []
        trained.update = lambda calls=calls: calls.append(1) or {"loss": torch.zeros(())}
        metrics = trained.iterate()
        made += len(calls)
        assert made == math.floor(owed + 1e-9), step
        assert metrics["steps"] == ENVS * step
        assert metrics["frames"] == 2 * ENVS * step
    assert made > 2


@pytest.mark.parametrize("burn_in", [0, 2])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_two_runs_are_equal_and_a_continued_one_too(method, burn_in):
    """To the bit: weights, moments, replay with its latents, the policy's memory, random streams,
    metrics."""
    through, again = (learner(method, burn_in=burn_in) for _ in range(2))
    for _ in range(2):
        assert_same(through.iterate(), again.iterate(), "metrics")
    assert through.updates > 2
    assert_same(kept(through), kept(again))
    torch.manual_seed(12345)  # another process has used the default generator otherwise
    resumed = learner(method, burn_in=burn_in)
    with torch.no_grad():
        for parameter in resumed.module.parameters():
            parameter.fill_(0.123)
    resumed.load_state_dict(kept(through))
    resumed.collector.env = copy.deepcopy(through.collector.env)
    assert_same(kept(resumed), kept(through), "restored")
    assert through.iterate()["updates"] == resumed.iterate()["updates"]
    assert_same(through.iterate(), resumed.iterate(), "metrics")
    assert_same(kept(through), kept(resumed))


def test_another_seed_is_another_run():
    runs = []
    for seed in (0, 1):
        trained = learner()
        object.__setattr__(trained.spec, "seed", seed)
        trained.collector.seed = seed
        trained.iterate()
        runs.append(torch.cat(trained.replay.state_dict()["rows"]["action"]))
    assert not torch.equal(*runs)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_updates_train_every_part(method):
    trained = learner(method)
    before = {name: value.clone() for name, value in trained.module.state_dict().items()}
    for _ in range(2):
        metrics = trained.iterate()
    after = trained.module.state_dict()
    for name, part in modules_by_name(trained.policy.parts()).items():
        assert any(
            not torch.equal(p, before[key])
            for key, p in after.items()
            if _belongs(key, part, trained)
        ), name
    assert all(math.isfinite(value) for value in metrics.values())
    counts = trained.parameter_counts()
    assert counts["total"] == sum(count for name, count in counts.items() if name != "total")


def _belongs(key: str, part: torch.nn.Module, trained: ModelBasedLearner) -> bool:
    mine = {id(p) for p in part.parameters() if p.requires_grad}
    return key in {name for name, p in trained.module.named_parameters() if id(p) in mine}


# What an update leaves in the replay.


@pytest.mark.parametrize("burn_in", [0, 2])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_update_refreshes_the_latents_of_its_rows(method, burn_in):
    """Row t of a sequence gets the state that the update saw at row t, its burn-in too; the context
    keeps its own, as do all others."""
    trained = learner(method, train_ratio=1e-9, burn_in=burn_in)
    trained.iterate()
    trained.iterate()
    replay, taken = trained.replay, []
    sample, refresh = replay.sample, trained._update_in_use()

    def sampled(batch, generator):
        taken.append(sample(batch, generator))
        return taken[-1]

    def refreshed(batch):
        metrics, latents = refresh(batch)
        taken.append(latents)
        return metrics, latents

    replay.sample, trained._update_in_use = sampled, lambda: refreshed
    for _ in range(3):
        expected = {
            name: copy.deepcopy(replay.state_dict()["rows"][name]) for name in replay.columns
        }
        taken.clear()
        trained.update()
        (_, index), latents = taken
        for b in range(BATCH):
            env, row = int(index.envs[b]), int(index.rows[b])
            for t in range(burn_in + LENGTH):
                for name in ("deter", "stoch"):
                    expected[name][env][row + 1 + t] = latents[name][b, t]
        assert_same(replay.state_dict()["rows"], expected, "rows")


# Burn-in.

BURN_IN = 3


def with_burn_in(method: str) -> tuple[ModelBasedLearner, dict[str, torch.Tensor]]:
    """A learner, and a batch whose second sequence begins an episode at the second row of three."""
    trained = learner(method, burn_in=BURN_IN)
    batch = replayed(trained.spec, BATCH, BURN_IN + LENGTH)
    batch["is_first"][:, 1:] = False
    batch["is_first"][1, 2] = True
    return trained, batch


@pytest.mark.parametrize("method", sorted(METHODS))
def test_burn_in_leads_to_the_state_that_acting_would_be_in(method):
    """Step by step from the stored context, with the episode that begins on the way."""
    trained, batch = with_burn_in(method)
    agent, spec = trained.policy, trained.spec
    model = agent.world_model
    torch.manual_seed(3)
    sequences, latents = agent.burn_in(batch)
    torch.manual_seed(3)
    noise = agent.noise(BATCH, BURN_IN, spec.world_model.groups)
    state = RSSMState(batch["deter"][:, 0].float(), model._one_hot(batch["stoch"][:, 0]))
    with torch.no_grad():
        for row in range(1, BURN_IN + 1):
            same = (~batch["is_first"][:, row]).float().unsqueeze(-1)
            embedding = model.embed(batch["pixels"][:, row], batch["task"][:, row])
            before = RSSMState(state.deter * same, state.stoch * same)
            action = batch["action"][:, row - 1] * same
            state = model.rssm.correct(before, action, embedding, noise[:, row - 1])
            seen = model.latents(state)
            torch.testing.assert_close(latents["deter"][:, row - 1], seen["deter"])
            assert torch.equal(latents["stoch"][:, row - 1], seen["stoch"])
    for name, rows in sequences.items():
        assert rows.shape[1] == 1 + LENGTH, name
        assert torch.equal(rows[:, 1:], batch[name][:, 1 + BURN_IN :]), name
        begin = latents[name][:, -1] if name in latents else batch[name][:, BURN_IN]
        assert torch.equal(rows[:, 0], begin), name


@pytest.mark.parametrize("autocast", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_nothing_is_learned_from_the_burn_in_and_all_from_the_rest(method, autocast):
    """An update with a burn-in has the gradient of one that was given its last state."""
    gradients = []
    for given in (False, True):
        trained, rows = with_burn_in(method)
        object.__setattr__(trained.spec, "autocast", autocast)
        agent = trained.policy
        torch.manual_seed(3)
        if given:
            rows, _ = agent.burn_in(rows)
            agent.burn_in = lambda batch: (batch, {})
        total, _, latents = agent.loss(rows)
        total.backward()
        assert latents["deter"].shape[1] == LENGTH + (0 if given else BURN_IN)
        learned = {key: p.grad for key, p in trained.module.named_parameters() if p.requires_grad}
        gradients.append({key: grad for key, grad in learned.items() if grad is not None})
    assert_same(*gradients)
    missing = learned.keys() - gradients[0].keys()
    assert not any(key.startswith("world_model.") for key in missing)


# What goes wrong.


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_update_in_one_piece_is_the_same_update(method, monkeypatch):
    """It makes every optimiser's state at once, so an actor that has not begun to learn has counts
    of zero."""
    plain, whole = filled(method, actor_critic_start=2), filled(method, actor_critic_start=2)
    for count in range(4):
        plain.update()
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            whole.update()
        behaviour = whole.optimizer.param_groups[1]["params"][0]
        assert float(whole.optimizer.state[behaviour]["step"]) == max(0, count - 1)
        assert_same(whole.module.state_dict(), plain.module.state_dict())


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_update_that_is_not_finite_leaves_the_parameters(method, waits, monkeypatch):
    """Whether the update reads back that it went wrong, or is one piece that cannot, as when
    compiled or on a GPU."""
    trained = learner(method)
    trained.iterate()
    trained.iterate()
    moved = trained.updates
    before = copy.deepcopy(
        {"policy": trained.module.state_dict(), "optimizer": optimizer_state(trained.optimizer)}
    )
    trained.replay._storage["reward"].fill_(math.nan)
    if not waits:
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(NonFiniteUpdate, match=r"^\S+ is not finite$") as failed:
        trained.update()
    assert failed.value.counters == {"updates": moved}
    assert trained.updates == moved
    assert bool(failed.value.batch["reward"].isnan().any())
    # Running scales and coefficients are in the module's state.
    assert_same(
        {"policy": trained.module.state_dict(), "optimizer": optimizer_state(trained.optimizer)},
        before,
        "state",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "method"),
    [
        ("parts", "dreamer"),
        ("parts", "director"),
        ("traced", "dreamer"),
        ("traced", "director"),
        ("whole", "dreamer"),
    ],
)
def test_a_compiled_update_is_the_same(way, method):
    """See `tests.hrl.compiled_update`."""
    done = in_its_own_process("compiled_update", way, method)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"{way} {method}: ")


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_types_and_places_on_a_gpu(method):
    """See `tests.hrl.pretended_gpu`."""
    done = in_its_own_process("pretended_gpu", method)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{method}: done\n"


def in_its_own_process(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"tests.hrl.{module}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[3],
        timeout=1200,
    )


def test_an_unknown_way_to_compile_is_refused():
    with pytest.raises(ValueError, match=r"compile is 'all'; choose from none, parts, whole"):
        learner(compile="all")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_a_replay_may_be_kept_in_host_memory(device):
    """Batches are copied to where the learner computes."""
    kept = learner("dreamer", device=torch.device(device), replay_on="host")
    kept.iterate()
    kept.iterate()
    assert kept.updates
    assert kept.replay.device == torch.device("cpu")
    with pytest.raises(ValueError, match=r"replay_on is 'disk'; choose from device, host"):
        DreamerConfig(replay_on="disk")


@pytest.mark.parametrize(
    "change",
    [{"train_ratio": 0.0}, {"batch_size": 0}, {"horizon": 0}, {"discount": 1.0}, {"warmup": -1}],
)
def test_impossible_hyperparameters_are_refused_by_key(change):
    (key,) = change
    with pytest.raises(ValueError, match=rf"{key} is {next(iter(change.values()))}"):
        DreamerConfig(**change)


def test_a_writer_continues_on_its_own_device():
    """A checkpoint's tensors are in host memory; a device without memory stands for a GPU."""
    collector, _ = collected(5)
    saved = collector.state_dict()
    elsewhere = ReplayCollector(
        AnsweringEnv(3, length=4), collector.replay, ["counting"], 0, torch.device("meta")
    )
    elsewhere.load_state_dict(saved)
    for part in ("current", "policy"):
        assert saved[part].keys() == elsewhere.state_dict()[part].keys()
        assert all(value.is_meta for value in elsewhere.state_dict()[part].values())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_metrics_keep_no_graph(method):
    """They outlive the update that measured them, and a graph would keep the memory of its backward
    pass."""
    trained = learner(method)
    trained.iterate()
    trained.iterate()
    assert not any(value.requires_grad for value in trained.update().values())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_update_of_the_world_model_alone_is_dropped_once_actors_learn(method):
    trained = filled(method, actor_critic_start=2)
    seen = []
    for _ in range(4):
        trained.update()
        seen.append(trained._prepared)
    assert [train_actor_critic for train_actor_critic, _ in seen] == [False, False, True, True]
    assert seen[0] is seen[1]
    assert seen[2] is seen[3]


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("graphed", [False, True])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_run_on_a_gpu_continues_from_a_file(method, graphed, tmp_path):
    first, second = (learner(method, torch.device("cuda"), cuda_graph=graphed) for _ in range(2))
    for _ in range(3):
        first.iterate()
    write(tmp_path / "kept.safetensors", 0, {"learner": kept(first)}, {})
    second.load_state_dict(read(tmp_path / "kept.safetensors").state["learner"])
    second.collector.env = copy.deepcopy(first.collector.env)
    for name, value in first.module.state_dict().items():
        assert torch.equal(second.module.state_dict()[name], value), name
    for trained in (first, second):
        for _ in range(3):
            trained.iterate()
    assert first.updates == second.updates
    # Kernels add in their own order, and then draws may differ: that both go on is all that can be
    # asked.
    assert all(bool(torch.isfinite(parameter).all()) for parameter in second.module.parameters())


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_graphed_update_is_an_update(method):
    """Kernel by kernel and replayed as one graph, from the same weights each time, on both sides of
    the recording."""
    plain, graphed = (
        filled(method, torch.device("cuda"), cuda_graph=graphed) for graphed in (False, True)
    )
    for _ in range(WARM_UP + 4):
        assert_same_update(plain, graphed)
        align(graphed, plain)
    assert graphed.updates == WARM_UP + 4


def align(trained: ModelBasedLearner, other: ModelBasedLearner) -> None:
    """Weights, buffers, averages and rows of the other one, in the memory that a recorded update
    works in."""
    trained.replay.load_state_dict(other.replay.state_dict())
    trained.module.load_state_dict(other.module.state_dict())
    for mine, others in zip(trained.optimizer.averages(), other.optimizer.averages(), strict=True):
        mine.copy_(others)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_imagination_begins_at_the_last_states(method):
    """Of each sequence; 0 and more than there are stand for all. Task and continuation are those of
    the same rows."""
    batch = replayed(model_setting(), BATCH, LENGTH)
    batch["task"] = (
        torch.arange(BATCH * (LENGTH + 1))
        .float()
        .reshape(BATCH, -1, 1)
        .expand(-1, -1, 2)
        .contiguous()
    )
    states = RSSMState(torch.rand(BATCH, LENGTH, 16), torch.rand(BATCH, LENGTH, 16))
    for last, first in ((0, 0), (1, LENGTH - 1), (3, LENGTH - 3), (LENGTH, 0), (LENGTH + 1, 0)):
        starts = learner(method, imag_last=last).policy.starts(batch, states)
        rows = [(sequence, time) for sequence in range(BATCH) for time in range(first, LENGTH)]
        assert len(starts.task) == len(rows)
        for index, (sequence, time) in enumerate(rows):
            assert torch.equal(starts.states.deter[index], states.deter[sequence, time])
            assert torch.equal(starts.states.stoch[index], states.stoch[sequence, time])
            assert torch.equal(starts.task[index], batch["task"][sequence, time + 1])
            assert starts.alive[index] == (not batch["is_terminal"][sequence, time + 1])


@pytest.mark.parametrize("method", sorted(METHODS))
def test_actors_and_critics_have_their_own_learning_rate(method):
    """A first update moves each weight by about its rate at most: actors and critics by their share
    of it."""
    trained = filled(method, actor_critic_lr_scale=0.01)
    before = {
        name: parameter.detach().clone() for name, parameter in trained.module.named_parameters()
    }
    trained.update()
    moved = {
        name: float((p - before[name]).abs().max()) for name, p in trained.module.named_parameters()
    }
    acting = {
        name
        for name in moved
        if name.startswith(("actor_critic.", "manager.", "worker.")) and ".slow." not in name
    }
    assert acting
    assert max(moved[name] for name in acting) == pytest.approx(1e-5, rel=0.02)
    assert max(moved[name] for name in moved if name.startswith("world_model.")) == pytest.approx(
        1e-3, rel=0.02
    )


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_model_may_learn_alone_first(method):
    """Until `actor_critic_start` actors and critics stay as they were; their own count of updates
    begins there."""
    trained = filled(method, actor_critic_start=3, warmup=4)
    named = dict(trained.module.named_parameters())
    acting = {name for name in named if name.startswith(("actor_critic.", "manager.", "worker."))}
    for update in range(4):
        before = {name: parameter.detach().clone() for name, parameter in named.items()}
        metrics = trained.update()
        moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in named.items()}
        assert max(moved[name] for name in set(named) - acting) > 0
        behaved = update == 3
        assert any(key.startswith(("policy/", "worker/")) for key in metrics) == behaved
        # The first step of a warm-up of four updates is a quarter of the rate.
        assert max(moved[name] for name in acting) == pytest.approx(2.5e-4 * behaved, rel=0.02)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_line_of_metrics_spans_the_update_that_actors_and_critics_begin_at(method):
    trained = learner(method, actor_critic_start=2)
    lines = [trained.iterate() for _ in range(4)]
    assert trained.updates > 4
    value = "policy/task/value" if method == "dreamer" else "manager/task/value"
    assert value not in lines[0]
    assert math.isfinite(lines[-1][value])


@pytest.mark.parametrize("method", sorted(METHODS))
def test_collecting_repeats_the_noise_of_actions(method):
    """Each environment's for `noise_repeat` steps from its last draw; an evaluation without noise
    leaves it alone."""
    policy = learner(method, noise_repeat=3).policy
    rows = replayed(model_setting(task_size=1, action_size=1, deter=16), ENVS, 1)
    shown, state, generator = (
        Observation.of({name: values[:, 0] for name, values in rows.items()}),
        policy.initial_state(ENVS),
        None,
    )
    state["steps_since_noise"] = torch.tensor([0, 0, 1, 2])
    generator, kept = torch.Generator().manual_seed(0), []
    for _ in range(6):
        greedy, after = policy.act(shown, state, None)
        assert torch.equal(after["noise"], state["noise"])
        assert torch.equal(after["steps_since_noise"], state["steps_since_noise"])
        assert torch.equal(after["action"], greedy)
        action, state, _ = policy.explore(shown, state, generator)
        assert torch.equal(state["action"], action)
        kept.append(state["noise"][:, 0])
    drawn = torch.stack(kept)
    fresh = torch.cat([drawn[:1] != 0, drawn[1:] != drawn[:-1]])
    expected = [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert fresh.int().tolist() == expected
    assert (
        len(set(drawn.flatten().tolist())) == 2 * 2 + 2 * 2 + 1
    )  # zeros until the first draw of the last two


@pytest.mark.parametrize("key", ["noise_repeat", "actor_critic_start", "burn_in"])
def test_impossible_counts_are_refused(key):
    with pytest.raises(ValueError, match=rf"{key} is -1; it must be at least"):
        learner(**{key: -1})


def test_a_replay_too_small_for_its_environments_is_refused_by_its_key():
    with pytest.raises(ValueError, match=r"replay_capacity is 10; it must be at least"):
        learner("dreamer", replay_capacity=10)
    with pytest.raises(ValueError, match=rf"one sequence of {1 + 96 + LENGTH} rows"):
        learner("dreamer", burn_in=96)
