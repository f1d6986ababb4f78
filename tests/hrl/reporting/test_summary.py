"""Tests of the summary's numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hrl import reporting
from hrl.reporting.summary import interval_text, score_matrix, task_scores
from tests.hrl.reporting.editing import edit_scores
from tests.hrl.synthetic_runs import position_suite, write_fixed, write_trained


def test_summary_against_a_slow_loop(study: Path) -> None:
    summary = reporting.summarise(reporting.load_runs([study]))
    rows = {
        name: pd.read_csv(study / name / "scores.csv")
        for name in ("flat_0", "flat_1", "flat_2", "random")
    }
    rows = {name: table[table.split == "train"] for name, table in rows.items()}
    returns = np.array(
        [
            [rows[f"flat_{seed}"].query(f"task == 'train_{i}'")["return"].mean() for i in range(4)]
            for seed in range(3)
        ]
    )
    random = np.array(
        [rows["random"].query(f"task == 'train_{i}'")["return"].mean() for i in range(4)]
    )
    scores = np.sort(((returns - random) / (800 - random)).ravel())
    numbers = summary["methods"]["flat"]["train"]
    assert numbers["return_mean"] == pytest.approx(returns.mean())
    assert numbers["score_iqm"] == pytest.approx(scores[3:9].mean())
    assert (numbers["runs"], numbers["tasks"], numbers["episodes"]) == (3, 4, 48)
    low, high = numbers["ci95"]
    assert low is not None
    assert high is not None
    assert low < numbers["score_iqm"] < high
    succeeded = np.concatenate([rows[f"flat_{seed}"]["success"] for seed in range(3)])
    assert numbers["success"]["value"] == pytest.approx(succeeded.mean())
    low, high = numbers["success"]["ci95_runs"]
    assert low is not None
    assert high is not None
    assert low <= numbers["success"]["value"] <= high
    assert summary["methods"]["random"]["train"]["score_iqm"] == pytest.approx(0)
    assert summary["methods"]["random"]["train"]["ci95"] == [None, None]


def test_summary_does_not_depend_on_the_order_of_rows_or_runs(study: Path) -> None:
    before = reporting.summarise(reporting.load_runs([study]))
    for folder in study.iterdir():
        edit_scores(folder, lambda table: table.sample(frac=1, random_state=3))
    after = reporting.summarise(reporting.load_runs(sorted(study.iterdir(), reverse=True)))
    assert json.dumps(after) == json.dumps(before)


def test_another_method_moves_no_interval(study: Path) -> None:
    before = reporting.summarise(reporting.load_runs([study]))
    write_trained(study / "another", position_suite(), method="another")
    after = reporting.summarise(reporting.load_runs([study]))
    assert after["methods"]["flat"] == before["methods"]["flat"]


def test_summary_table_has_a_line_per_split_and_method(study: Path) -> None:
    lines = reporting.summary_table(reporting.summarise(reporting.load_runs([study]))).splitlines()
    assert lines[0].split() == [
        "split",
        "method",
        "return",
        "success",
        "score",
        "IQM",
        "95",
        "%",
        "CI",
        "episodes",
        "runs",
    ]
    assert len(lines) == 2 + 4 * 3
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split()[:2] == ["train", "flat"]
    assert lines[4].split()[-3:] == ["-", "16", "1"]


def test_tasks_are_matched_by_name_and_not_by_position(study: Path) -> None:
    runs = reporting.load_runs([study])
    matrix = score_matrix(task_scores(runs), "flat", "train")
    assert matrix.shape == (3, 4)
    one = (
        task_scores(runs)
        .query("method == 'flat' and seed == 1 and task == 'train_2'")["score"]
        .item()
    )
    assert matrix[1, 2] == one


def test_a_naive_mean_over_the_scores_is_the_reported_return(study: Path) -> None:
    runs = reporting.load_runs([study])
    naive = runs.scores.query("method == 'skills' and split == 'train'")["return"].mean()
    summary = reporting.summarise(runs)["methods"]["skills"]["train"]
    assert naive == pytest.approx(summary["return_mean"])
    assert set(runs.shuffled["intervention"]) == {"high_level_action_shuffle", "task_shuffle"}


def varied_suite() -> dict[str, Any]:
    """The position suite with a split that changes the mass of one training task."""
    suite = position_suite()
    task = suite["splits"]["train"][1]
    suite["splits"]["dynamics_mild"] = [
        {**task, "name": f"mass_{mass:g}", "dynamics": {"mass": mass}} for mass in (0.5, 2.0)
    ]
    return suite


def test_splits_that_vary_one_training_task_stand_beside_its_score(tmp_path: Path) -> None:
    write_trained(tmp_path / "flat", varied_suite(), method="flat")
    write_fixed(tmp_path / "random", varied_suite())
    runs = reporting.load_runs([tmp_path])
    assert runs.suite.varied_tasks("dynamics_mild") == ["train_1"]
    assert runs.suite.varied_tasks("interpolation") == runs.suite.varied_tasks("train") == []
    summary = reporting.summarise(runs)
    training = summary["methods"]["flat"]["dynamics_mild"]["training"]
    one = task_scores(runs).query("method == 'flat' and split == 'train' and task == 'train_1'")
    assert training == {
        "tasks": ["train_1"],
        "return_mean": pytest.approx(one["return"].item()),
        "score_mean": pytest.approx(one["score"].item()),
    }
    assert summary["methods"]["flat"]["interpolation"]["training"] is None
    (line,) = [
        line
        for line in reporting.summary_table(summary).splitlines()
        if line.startswith("dynamics_mild") and "flat" in line
    ]
    assert line.split()[5] == f"{one['return'].item():.1f}"


def test_no_score_is_written_as_minus_zero() -> None:
    assert interval_text([-0.001, 0.001]) == "[0.00, 0.00]"
