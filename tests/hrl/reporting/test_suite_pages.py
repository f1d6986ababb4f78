"""A suite's page: every task with what it is, what the two policies that learn nothing earn, and an
image."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from envs import load_suite
from envs.resources import REFERENCE_SCORES, config_files
from hrl.agents.scripted import ZeroPolicy
from hrl.reporting import suite_pages
from hrl.reporting.tables import read_scores
from tests.hrl.test_scripts import call


def test_a_page_says_what_every_task_is(tmp_path, monkeypatch):
    monkeypatch.setattr(suite_pages, "TIMED_SECONDS", 0.1)
    suite = load_suite("debug")
    path = suite_pages.write_page(
        suite, tmp_path / "suites", tmp_path / "baselines", episodes=1, command="a test"
    )
    page = path.read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in row] for row in rows]
    tasks = [(split, task) for split in suite.splits for task in suite.tasks(split)]
    assert [tuple(row[:2]) for row in cells] == [(split, task.name) for split, task in tasks]
    stored = read_scores(tmp_path / "baselines" / "debug.csv")
    assert set(stored["method"]) == {"random", "zero"}
    still = suite_pages._scores(suite, "zero", ZeroPolicy(suite.action_size), 1).set_index(
        ["split", "task"]
    )["return"]
    for (split, task), row in zip(tasks, cells, strict=True):
        vector = [float(value) for value in row[3].split(",")]
        assert vector == pytest.approx(suite.family.task_vector(task).tolist(), abs=0.005)
        assert float(row[5]) == pytest.approx(still[split, task.name], rel=0.01)
        rows_of_task = stored[(stored["method"] == "zero") & (stored["task"] == task.name)]
        assert rows_of_task["return"].mean() == pytest.approx(still[split, task.name])
    assert "Reach the target" in page
    assert (path.parent / "debug.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "walker_speed",
            ["clip(1 - (|v - w| - d) / max(|w|, 1), 0, 1)", "`half_width` is 0.25", "def reward"],
        ),
        (
            "ant_maze",
            [
                "The ant of dm_control",
                "`latched`: 1 from the first touch",
                "`cell` is 3",
                "0.4 cells",
            ],
        ),
        ("cheetah_behaviours", ["def jump", "def _raised", "_RAISED = "]),
        (
            "mixed_speed",
            ["1 at the body's place", "dm_control's walker's", "dm_control's quadruped's"],
        ),
        ("compat_hopper", ["Height times speed or times small control", "def _centre_height"]),
        ("jaco", ["rewards in [0, 1], 250 control steps"]),
    ],
)
def test_pages_say_how_tasks_are_rewarded(name, said):
    texts = suite_pages._documents(load_suite(name).family)
    for words in said:
        assert any(words in text for text in texts), words
    assert not any("world_bytes" in text for text in texts)


def test_moments_are_spread_over_the_episode():
    suite = load_suite("debug")
    tasks = suite.tasks("train")
    shown = suite_pages.moments(suite, tasks)
    assert shown.shape == (len(tasks), suite_pages.FRAMES, 64, 64, 3)
    for images in shown:
        assert all((one != other).any() for one, other in pairwise(images))
    assert np.array_equal(shown, suite_pages.moments(suite, tasks)), "the same images every time"


def test_an_unknown_suite_is_refused_with_the_known_ones(tmp_path):
    message = call("suites.py", "nowhere", f"--out={tmp_path}", code=2)
    assert "unknown suite 'nowhere'" in message
    assert "point_mass" in message


@pytest.mark.parametrize("name", [name for name in config_files("suite") if name != "debug"])
def test_every_suite_has_its_page_and_the_scores_of_what_learns_nothing(name):
    """Written anew whenever a task is added: reports normalise by these scores."""
    suite, root = load_suite(name), Path(__file__).resolve().parents[3]
    page = (root / "docs" / "suites" / f"{name}.md").read_text()
    assert f"({name}.png)" in page
    assert (root / "docs" / "suites" / f"{name}.png").stat().st_size > 10_000
    stored = read_scores(REFERENCE_SCORES / f"{name}.csv")
    for split in suite.splits:
        for task in suite.tasks(split):
            assert f"| {split} | {task.name} |" in page
            for method in ("random", "zero"):
                rows = stored[
                    (stored["split"] == split)
                    & (stored["task"] == task.name)
                    & (stored["method"] == method)
                ]
                assert len(rows) >= 1, (split, task.name, method)
