"""The sweep over numbers of worlds measures every part, and names numbers that do not fit."""

import json

import pytest
import torch
from gymnasium import spaces

from envs.simulation import warp_device
from hrl.benchmarks import env_sweep
from hrl.benchmarks.env import DmControlTask
from hrl.run.stepping_speed import SteppingSpeed

# Kernels of a scene are compiled by the first test that needs them, once a machine.
pytestmark = pytest.mark.timeout(1200)


def test_the_sweep_goes_on_with_those_that_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[DmControlTask, int, str]] = []

    def peer_speed(
        task: DmControlTask, processes: int, seconds: float, backend: str
    ) -> SteppingSpeed:
        asked.append((task, processes, backend))
        return SteppingSpeed(50.0, 1.0)

    monkeypatch.setattr(env_sweep, "opengl_backend", lambda: "egl")
    monkeypatch.setattr(env_sweep, "peer_speed", peer_speed)
    monkeypatch.setattr(env_sweep.os, "sched_getaffinity", lambda _: range(40))
    monkeypatch.setattr(warp_device, "free_memory", lambda device: 2**20)
    result = env_sweep.run("cpu", ["point_mass"], [1000, 2, 4], seconds=0.01)
    assert json.loads(json.dumps(result)) == result
    assert result["device"] == "cpu"
    assert asked == [(DmControlTask("point_mass", "easy"), 16, "egl")]
    point_mass = result["point_mass"]
    assert point_mass["peer_steps_per_second"] == 50.0
    too_many, two, four = point_mass["rows"]
    # The arrays of a world take 20 to 200 KiB, and nine tenths of a MiB may be taken.
    assert too_many["worlds"] == 1000
    assert 4 <= too_many["fit"] < 46
    printed = capsys.readouterr()
    assert f"1000 worlds do not fit into the memory of cpu; {too_many['fit']} would" in printed.err
    for worlds, row in ((2, two), (4, four)):
        milliseconds = row["milliseconds"]
        assert row["worlds"] == worlds
        assert row["steps_per_second"] == pytest.approx(1e3 * worlds / milliseconds["step"], 0.01)
        assert milliseconds["physics"] > 0
        assert milliseconds["images"] > 0
        parts = sum(milliseconds[part] for part in ("physics", "images", "rest"))
        assert parts == pytest.approx(milliseconds["step"], abs=0.01)
        assert 0.9 * 2**10 / row["kib_a_world"] == pytest.approx(too_many["fit"], abs=1)
    header, *rows = [line for line in printed.out.splitlines() if "dm_control" not in line]
    assert header.split() == list(env_sweep.COLUMNS)
    assert [row.split()[:2] for row in rows] == [["point_mass", "2"], ["point_mass", "4"]]


def test_a_call_is_timed_for_as_long_as_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(env_sweep, "timed", lambda call: (0.1, call()))
    assert env_sweep._mean_seconds(counts.append, 1.05) == pytest.approx(0.01)
    assert counts == [0, 1, *range(10)]
    counts.clear()
    env_sweep._mean_seconds(counts.append, 0.0)
    assert counts == [0, 1, *range(env_sweep.FEWEST_CALLS)]


def test_random_actions_move_all_actuators() -> None:
    class Env:
        num_envs = 3
        device = torch.device("cpu")
        single_action_space = spaces.Box(-1.0, 1.0, (2,))

    actions = torch.stack(env_sweep._random_actions(Env()))  # type: ignore[arg-type]
    assert actions.shape == (env_sweep.ACTIONS, 3, 2)
    assert -1 <= actions.min() < -0.5
    assert 0.5 < actions.max() <= 1
