"""A suite's page: every task with what it is, what the two policies that learn nothing earn, and a picture."""

from itertools import pairwise

import numpy as np
import pytest

from envs import load_suite
from hrl import suite_pages
from hrl.agents.scripted import ZeroPolicy
from tests.hrl.test_scripts import call


def test_a_page_says_what_every_task_is(tmp_path, monkeypatch):
    monkeypatch.setattr(suite_pages, "TIMED_SECONDS", 0.1)
    suite = load_suite("debug")
    path = suite_pages.write_page(suite, tmp_path / "suites", episodes=1, command="a test")
    page = path.read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in row] for row in rows]
    tasks = [(split, task) for split in suite.splits for task in suite.tasks(split)]
    assert [tuple(row[:2]) for row in cells] == [(split, task.name) for split, task in tasks]
    still = suite_pages._returns(suite, ZeroPolicy(suite.action_size), 1)
    for (split, task), row in zip(tasks, cells, strict=True):
        vector = [float(value) for value in row[3].split(",")]
        assert vector == pytest.approx(suite.family.task_vector(task).tolist(), abs=0.005)
        assert float(row[5]) == pytest.approx(still[split, task.name], abs=0.5)
    assert "Reach the target" in page
    assert (path.parent / "debug.png").stat().st_size > 1000


def test_moments_are_spread_over_the_episode():
    suite = load_suite("debug")
    tasks = suite.tasks("train")
    shown = suite_pages.moments(suite, tasks)
    assert shown.shape == (len(tasks), suite_pages.FRAMES, 64, 64, 3)
    for pictures in shown:
        assert all((one != other).any() for one, other in pairwise(pictures))
    assert np.array_equal(shown, suite_pages.moments(suite, tasks)), "the same pictures every time"


def test_an_unknown_suite_is_refused_with_the_known_ones(tmp_path):
    message = call("suites.py", "nowhere", f"--out={tmp_path}", code=2)
    assert "unknown suite 'nowhere'" in message
    assert "point_mass" in message
