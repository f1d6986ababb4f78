"""Tests of what changes of dynamics and looks cost, against differences worked out by hand."""

from typing import Any

import numpy as np
import pytest

from hrl import reporting
from hrl.reporting.figures.severity import severity_figures
from hrl.reporting.page import Folded
from hrl.reporting.severity import changes_of_score, severity_tables, varied_tasks
from hrl.reporting.study import Study, study_of
from tests.hrl.synthetic_runs import position_suite, write_fixed, write_scores, write_trained

COST = {"mass_0.5": 0.3, "mass_2": 0.2, "gain_0.5": 0.0, "hue_30": 0.1, "hue_120": 0.5}


def varied_suite() -> dict[str, Any]:
    suite = position_suite()
    train = suite["splits"]["train"]
    mass = [_varied(train[0], "mass", value, "dynamics") for value in (2.0, 0.5)]
    suite["splits"] = {
        "train": train,
        "dynamics_strong": [*mass, _varied(train[0], "gain", 0.5, "dynamics")],
        "vision_mild": [_varied(train[1], "hue", 30.0, "vision")],
        "vision_strong": [_varied(train[1], "hue", 120.0, "vision")],
    }
    return suite


def _varied(task: dict[str, Any], change: str, value: float, part: str) -> dict[str, Any]:
    return {**task, "name": f"{change}_{value:g}", part: {change: value}}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three runs whose scores on varied tasks are those on the training task less a cost."""
    folder, suite = tmp_path_factory.mktemp("severity"), varied_suite()
    write_fixed(folder / "random", suite, episodes=1)
    for seed, level in enumerate((0.6, 0.8, 1.0)):
        run = write_trained(folder / f"flat_{seed}", suite, seed=seed, episodes=1)
        (run / "shuffled_scores.csv").unlink()
        scores = {
            (split, task["name"]): level - COST.get(task["name"], 0.0) * (1 + 0.1 * seed)
            for split, tasks in suite["splits"].items()
            for task in tasks
        }
        rng = np.random.default_rng(0)
        write_scores(run, "flat", seed, 120_000, scores, 1, {"none": 1.0}, rng, noise=0.0)
    return study_of(reporting.load_runs([folder]))


def test_varied_tasks_are_named_by_change_value_kind_and_severity(study: Study) -> None:
    found = [
        (one.kind, one.severity, one.change, one.shown_value, one.training_task)
        for one in varied_tasks(study)
    ]
    assert found == [
        ("dynamics", "strong", "mass", "2", "train_0"),
        ("dynamics", "strong", "mass", "0.5", "train_0"),
        ("dynamics", "strong", "gain", "0.5", "train_0"),
        ("vision", "mild", "hue", "30", "train_1"),
        ("vision", "strong", "hue", "120", "train_1"),
    ]


def test_each_run_is_compared_with_itself_on_the_training_task(study: Study) -> None:
    by_task = {one.task.task: one for one in changes_of_score(study, "flat")}
    for task, cost in COST.items():
        assert by_task[task].change == pytest.approx(-1.1 * cost, abs=0.02)
        assert by_task[task].unchanged == pytest.approx(0.8, abs=0.02)
    # Runs differ by 0.4 in score, but by far less in what a change costs them.
    low, high = by_task["hue_120"].ci95
    assert [low, high] == pytest.approx([-0.6, -0.5], abs=0.02)


def test_the_heatmap_has_a_cell_a_task_and_the_table_a_row(study: Study) -> None:
    (figure,) = severity_figures(study)
    dynamics, vision = figure.drawing.axes[:2]
    assert [label.get_text() for label in dynamics.get_yticklabels()] == ["mass", "gain"]
    assert [label.get_text() for label in dynamics.get_xticklabels()] == ["strong", "strong"]
    assert [label.get_text() for label in vision.get_xticklabels()] == ["mild", "strong"]
    costs = np.ma.filled(dynamics.images[0].get_array(), np.nan)
    assert costs[0] == pytest.approx([-0.33, -0.22], abs=0.02), "0.5 stands before 2"
    assert np.isnan(costs[1, 1])
    weights = {text.get_text(): text.get_fontweight() for text in vision.texts}
    assert weights[min(weights)] == "bold", "the costs of hue are certain"
    (folded,) = severity_tables(study)
    assert isinstance(folded, Folded)
    assert len(folded.parts[0].rows) == len(COST)


def test_suites_without_varied_tasks_have_neither(speeds: Study) -> None:
    assert severity_figures(speeds) == severity_tables(speeds) == []
