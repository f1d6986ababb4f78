"""Tests of curves over seeds, against loops and values worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from hrl.dashboard.curves import band, curve, smoothed, usage_matrix
from hrl.dashboard.figures import (
    DIAGNOSTICS,
    curves_figure,
    diagnostic_figures,
    shuffles_figure,
    skill_usage_figure,
)
from hrl.dashboard.run_status import FollowedRun, RunStatus
from tests.hrl.dashboard.logs import log, log_steadily, start_run


@pytest.mark.parametrize("window", [1, 2, 5, 100])
def test_smoothing_against_a_loop(window: int) -> None:
    values = np.random.default_rng(0).normal(size=20)
    loop = [values[max(0, i + 1 - window) : i + 1].mean() for i in range(len(values))]
    assert smoothed(values, window) == pytest.approx(loop)


def test_a_band_by_hand() -> None:
    x = np.array([0.0, 10.0, 20.0])
    runs = [(x, np.array([0.0, 0.0, 0.0])), (x[:2], np.array([1.0, 3.0]))]
    found = band(runs, 1, "flat")
    assert found is not None
    assert found.seeds == 2
    assert found.x.tolist() == [0, 5, 10], "no further than the shorter run"
    assert found.mean.tolist() == [0.5, 1.0, 1.5]
    # Of two runs, a quarter of all draws is twice the lower one: both ends are the runs themselves.
    assert found.low.tolist() == [0, 0, 0]
    assert found.high.tolist() == [1, 2, 3]


def test_one_run_has_a_curve_and_no_band() -> None:
    found = band([(np.array([1.0, 2.0]), np.array([3.0, 4.0])), (np.empty(0), np.empty(0))], 1, "a")
    assert found is not None
    assert found.mean.tolist() == [3, 4]
    assert np.isnan(found.low).all()
    assert band([], 1, "a") is None


def test_a_run_that_has_only_begun_leaves_the_others_curve() -> None:
    runs = [(np.array([0.0, 10.0]), np.array([1.0, 2.0])), (np.array([0.0]), np.array([5.0]))]
    found = band(runs, 1, "a")
    assert found is not None
    assert (found.x[-1], found.seeds) == (10, 1)


def test_a_curve_against_hours(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run")
    log(run, 100, 3600.0, loss=1.0)
    log(run, 200, 10800.0, loss=2.0)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"frames": 150, "loss": 3.0}\n')
    hours, values = curve(FollowedRun(run), "loss", "hours")
    assert hours.tolist() == [1.0, 2.0, 3.0]
    assert values.tolist() == [1, 3, 2]
    assert curve(FollowedRun(run), "absent", "frames")[0].tolist() == []


def pairs(folder: Path) -> list[tuple[RunStatus, FollowedRun]]:
    found = []
    for method in ("flat", "skills"):
        for seed in range(2):
            run = start_run(folder / f"{method}_{seed}", method=method, seed=seed)
            extra = {"skills/usage/near/0": 0.25, "skills/usage/near/1": 0.75}
            log_steadily(run, 5, loss=float(seed), **(extra if method == "skills" else {}))
            followed = FollowedRun(run)
            found.append((followed.status(set()), followed))
    return found


def test_a_figure_has_an_interval_the_runs_and_their_mean_for_each_method(tmp_path: Path) -> None:
    figure = curves_figure(pairs(tmp_path), "loss", "frames", 1)
    parts = ("interval", "runs", "mean")
    named = [f"{method} {part}" for method in ("flat", "skills") for part in parts]
    assert [trace["uid"] for trace in figure["data"]] == named
    assert figure["data"][1]["y"] == [*[0.0] * 5, None, *[1.0] * 5]
    assert figure["data"][1]["hovertext"] == [*["flat seed 0"] * 5, None, *["flat seed 1"] * 5]
    assert figure["data"][2]["y"] == [0.5] * 5
    alone = curves_figure(pairs(tmp_path / "fewer")[:1], "loss", "frames", 1)
    assert [trace["uid"] for trace in alone["data"]] == named[:3], "a further run adds no line"
    assert curves_figure([], "loss", "frames", 1)["data"] == []


def test_a_run_of_one_point_is_drawn_beside_lines(tmp_path: Path) -> None:
    found = pairs(tmp_path)[:1]
    begun = start_run(tmp_path / "begun", method="flat", seed=7)
    log_steadily(begun, 1, loss=3.0)
    followed = FollowedRun(begun)
    figure = curves_figure([*found, (followed.status(set()), followed)], "loss", "frames", 1)
    runs = figure["data"][1]
    sizes = runs["marker"]["size"]
    assert (runs["mode"], sizes[:5], sizes[-1]) == ("lines+markers", [0] * 5, 6)
    assert len(sizes) == len(runs["x"])
    assert runs["y"] == [*[0.0] * 5, None, 3.0]
    assert figure["data"][2]["mode"] == "lines"


def test_skill_usage_is_a_matrix_of_skills_and_tasks() -> None:
    record = {f"skills/usage/{task}/{skill}": skill for task in "ab" for skill in range(11)}
    weights, skills, tasks = usage_matrix({**record, "skills/load/0": 1.0, "loss": 2.0})
    assert skills == [str(skill) for skill in range(11)]
    assert tasks == ["a", "b"]
    assert weights[:, 0].tolist() == list(range(11))
    figure = skill_usage_figure(record, "a run")
    assert figure is not None
    assert len(figure["data"][0]["z"]) == 11
    assert skill_usage_figure({"loss": 1.0}, "a run") is None


def test_diagnostics_are_drawn_where_they_are_logged(tmp_path: Path) -> None:
    runs = pairs(tmp_path)
    log_steadily(runs[-1][0].folder, 3, **{"skills/imbalance": 0.1})
    runs[-1][1].metrics.poll()
    drawn = dict(zip(DIAGNOSTICS, diagnostic_figures(runs), strict=True))
    figure = drawn.pop("skills/imbalance")
    assert figure is not None
    assert figure["data"][-1]["y"] == pytest.approx([0.1] * 3)
    assert set(drawn.values()) == {None}


def test_shuffles_are_bars_of_means() -> None:
    figure = shuffles_figure({"skills": {"none": [4.0, 6.0], "task_shuffle": [1.0]}})
    assert figure is not None
    assert [(bar["name"], bar["y"]) for bar in figure["data"]] == [
        ("none", [5.0]),
        ("task shuffle", [1.0]),
    ]
    assert shuffles_figure({}) is None
