"""The learner of agents with a world model: what it writes, how often it updates, that it continues exactly."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hrl.agents.director import Director, DirectorConfig
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.agents.interface import NonFiniteUpdate, Observation, PolicyState
from hrl.agents.model_based import ModelBasedLearner
from hrl.replay import Column, Replay
from hrl.replay_writer import ReplayWriter, columns
from hrl.world_model import WorldModelConfig
from tests.fakes import CounterEnv, ToyReach, small_setting

CPU = torch.device("cpu")
SIZES = WorldModelConfig(deter=16, hidden=8, groups=3, classes=4, blocks=2, units=8, depth=1, kernel=3)
ARMS = {"dreamer": (Dreamer, DreamerConfig), "director": (Director, DirectorConfig)}


class Stamper:
    """Acts by the picture's number and remembers it, plus one where its state is older than the episode."""

    def initial_state(self, num_envs: int) -> PolicyState:
        return {"age": torch.zeros(num_envs)}

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        shown = observation.pixels[:, 0, 0, 0].float()
        assert torch.equal(shown, state["age"]), "the policy's state restarts with the episode"
        return shown[:, None] / 100, {"age": state["age"] + 1}, {"latent": shown[:, None]}


def test_rows_hold_what_belongs_together():
    """Environment i ends after 3 + i steps: its last observation is a row, then the next episode's first is one."""
    env = CounterEnv(2, 3)
    kept = columns(env.single_observation_space, 1, {"latent": Column((1,), torch.float32)})
    replay = Replay(kept, 2, 200, 10, CPU)
    ReplayWriter(env, replay, ["toy"], 0, CPU).gather(Stamper(), 30)
    for env_index, limit in enumerate((3, 4)):
        stream = {name: replay._storage[name][100 * env_index : 100 * env_index + 25] for name in kept}
        for row in range(25):
            clock = row % (limit + 1)
            last = clock == limit
            assert int(stream["pixels"][row, 0, 0, 0]) == clock
            assert float(stream["reward"][row]) == clock, "received on arriving; none at an episode's first row"
            assert bool(stream["is_first"][row]) == (clock == 0)
            assert bool(stream["is_terminal"][row]) == (last and env_index == 1), "a time limit is no terminal"
            assert float(stream["action"][row, 0]) == pytest.approx(0.0 if last else clock / 100)
            assert float(stream["task"][row, 0]) == row // (limit + 1)
            assert float(stream["latent"][row, 0]) == (0 if last else clock)


def learner(arm: str, **changes: object) -> ModelBasedLearner:
    agent, config = ARMS[arm]
    torch.manual_seed(0)
    sizes = {"batch": 3, "length": 5, "horizon": 8, "train_ratio": 5.0, "replay_capacity": 400, "warmup": 5}
    settings = config(**(sizes | {"steps_per_iteration": 4, "learning_rate": 1e-3} | changes))
    setting = replace(small_setting(), world_model=SIZES)
    return ModelBasedLearner(agent(settings, setting), settings, setting, ToyReach(2, 7), ["toy"], 2)


def test_updates_follow_the_train_ratio():
    """5 of 15 replayed steps an agent step: an update for every third, from when a batch of sequences is held."""
    trained = learner("dreamer")
    starts = 0
    for _ in range(12):
        measured = trained.iterate()
        starts = starts or (trained.steps if measured["updates"] else 0)
        assert measured["steps"] == trained.steps == measured["frames"] / 2
    made = trained.updates
    before = trained.steps
    for _ in range(9):
        trained.iterate()
    assert trained.updates - made == (trained.steps - before) / 3
    assert 0 < starts <= 24


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_a_continued_run_is_an_uninterrupted_one(arm):
    """Weights, moments, replay with its refreshed latents, counters and random streams."""
    whole, stopped = learner(arm), learner(arm)
    for _ in range(8):
        whole.iterate()
        stopped.iterate()
    state, env = stopped.state_dict(), stopped.writer.env
    continued = learner(arm)
    continued.load_state_dict(state)
    for key in ("clock", "returns", "position", "rng"):
        setattr(continued.writer.env, key, getattr(env, key))
    for _ in range(6):
        expected, actual = whole.iterate(), continued.iterate()
        assert actual == expected
    for name, value in whole.module.state_dict().items():
        assert torch.equal(continued.module.state_dict()[name], value), name
    for name, value in whole.replay._storage.items():
        rows = slice(0, 20)
        assert torch.equal(continued.replay._storage[name][rows], value[rows]), name


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_what_is_not_finite_stops_the_run_and_spoils_no_weight(arm):
    trained = learner(arm)
    for _ in range(8):
        trained.iterate()
    trained.replay._storage["reward"][:] = float("nan")
    before = {name: value.clone() for name, value in trained.module.named_parameters()}
    with pytest.raises(NonFiniteUpdate, match="not finite"):
        trained.update()
    assert all(torch.equal(before[name], value) for name, value in trained.module.named_parameters())


def test_an_update_refreshes_latents_but_not_its_context():
    trained = learner("dreamer", train_ratio=0.01)
    for _ in range(10):
        trained.iterate()
    places = []
    sample = trained.replay.sample

    def watched(batch: int, generator: torch.Generator) -> object:
        places.append(sample(batch, generator))
        return places[-1]

    trained.replay.sample = watched
    before = trained.replay._storage["deter"].clone()
    trained.update()
    changed = (trained.replay._storage["deter"] != before).any(-1).reshape(2, -1)
    changed[:, trained.replay.steps // 2 :] = False  # memory that holds no row yet may hold anything
    held = torch.zeros_like(changed)
    for env, row in zip(*places[0].place, strict=True):
        held[env, row + 1 : row + 6] = True
    assert torch.equal(changed & ~held, torch.zeros_like(changed))
    assert changed.sum() > 0.8 * held.sum()


def test_a_budget_counts_trainable_parameters_once():
    trained = learner("director")
    counts = trained.parameter_counts()
    assert counts["total"] == sum(count for name, count in counts.items() if name != "total")
