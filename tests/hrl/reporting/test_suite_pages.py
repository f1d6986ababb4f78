"""Tests of a suite's page: tasks, rewards, scores of policies that learn nothing, images."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from envs import load_suite
from envs.resources import REFERENCE_SCORES, config_files
from hrl.agents.scripted import ZeroPolicy
from hrl.cli import run_command
from hrl.reporting import suite_pages
from hrl.reporting.tables import read_scores


def test_a_page_says_what_every_task_is(tmp_path, monkeypatch):
    monkeypatch.setattr(suite_pages, "TIMED_SECONDS", 0.1)
    suite = load_suite("debug")
    path = suite_pages.write_page(
        suite, tmp_path / "suites", tmp_path / "scores", episodes=1, command="a test"
    )
    page = path.read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in row] for row in rows]
    tasks = [(split, task) for split in suite.splits for task in suite.tasks(split)]
    assert [tuple(row[:2]) for row in cells] == [(split, task.name) for split, task in tasks]
    stored = read_scores(tmp_path / "scores" / "debug.csv")
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
    assert (path.parent / "debug.webp").stat().st_size > 1000


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
                "the ant of dm_control",
                "`latched`: 1 from the first touch",
                "`cell` is 3",
                "0.4 cells",
            ],
        ),
        ("cheetah_behaviours", ["def jump", "def _raised", "_RAISED = "]),
        (
            "mixed_speed",
            [
                "one-hot over the bodies",
                "that of dm_control's walker",
                "that of dm_control's quadruped",
            ],
        ),
        ("compat_hopper", ["height times speed, or times small control", "def _centre_height"]),
        ("jaco", ["rewards in [0, 1], 250 control steps"]),
    ],
)
def test_pages_say_how_tasks_are_rewarded(name, said):
    texts = [" ".join(text.split()) for text in suite_pages._documents(load_suite(name).family)]
    for words in said:
        assert any(words in text for text in texts), words
    assert not any("env_bytes" in text for text in texts)


def test_a_page_has_one_definition_of_success():
    texts = "\n".join(suite_pages._documents(load_suite("compat_point_mass").family))
    assert "Success: ever within" in texts
    assert texts.count("Success:") == 1


def test_one_episode_is_not_called_episodes(tmp_path, monkeypatch):
    suite = load_suite("debug")
    monkeypatch.setattr(suite_pages, "TIMED_SECONDS", 0.1)
    folders = tmp_path / "suites", tmp_path / "scores"
    page = suite_pages.write_page(suite, *folders, episodes=1, command="a test")
    before = page.read_text()
    assert "mean returns of 1 episode a task" in before
    page.write_text(f"overwritten\n\n{before.split(chr(10) * 2)[-1]}")
    chosen = [f"--out={folders[0]}", f"--reference-scores={folders[1]}"]
    assert run_command("suites", ["debug", "--text-only", *chosen]) == 0
    assert page.read_text() == before


def test_one_control_step_is_not_called_steps():
    scores = read_scores(REFERENCE_SCORES / "jaco.csv")
    page = suite_pages._page(load_suite("jaco"), scores, "")
    assert "An agent step is 1 control step. A return of 250 counts as 1." in page


def test_an_environment_of_gymnasium_has_a_page_too(tmp_path, monkeypatch):
    monkeypatch.setattr(suite_pages, "_core_milliseconds", lambda suite: 1.0)
    suite = load_suite("gym/tests.envs.external_fakes:Limited-v0")
    page = suite_pages.write_page(suite, tmp_path, tmp_path, episodes=1, command="a test")
    assert page.read_text().startswith(f"# {suite.name}")


def test_the_longest_label_of_a_contact_sheet_is_not_cut_off():
    images = np.zeros((2, 3, 8, 8, 3), np.uint8)
    figure = suite_pages.contact_sheet(images, ["short", "a_label_of_many_WWWWide_letters\ntrain"])
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.yaxis.label.get_window_extent().x0 >= 0
        assert axes.get_window_extent().x1 <= figure.bbox.x1


def test_moments_are_spread_over_the_episode():
    suite = load_suite("debug")
    tasks = suite.tasks("train")
    shown = suite_pages.moments(suite, tasks)
    assert shown.shape == (len(tasks), suite_pages.MOMENTS, 64, 64, 3)
    for images in shown:
        assert all((one != other).any() for one, other in pairwise(images))
    assert np.array_equal(shown, suite_pages.moments(suite, tasks)), "the same images every time"


def test_an_unknown_suite_is_refused_with_the_known_ones(tmp_path, capsys):
    assert run_command("suites", ["nowhere", f"--out={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert "unknown suite 'nowhere'" in message
    assert "point_mass" in message


@pytest.mark.parametrize("name", [name for name in config_files("suite") if name != "debug"])
def test_every_suite_has_its_page_and_the_scores_of_what_learns_nothing(name):
    """Written anew whenever a task is added: reports normalise by these scores."""
    suite, root = load_suite(name), Path(__file__).resolve().parents[3]
    page = (root / "docs" / "suites" / f"{name}.md").read_text()
    assert f"({name}.webp)" in page
    assert (root / "docs" / "suites" / f"{name}.webp").stat().st_size > 2_000
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
