"""Tests of a suite's page: tasks, rewards, scores of policies that learn nothing, images."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from envs import load_suite
from envs.resources import REFERENCE_SCORES, config_files
from hrl.agents.scripted import ZeroPolicy
from hrl.cli import run_command
from hrl.reporting import suite_pages, suite_pictures
from hrl.reporting.tables import read_scores


def test_a_page_says_what_every_task_is(tmp_path, monkeypatch):
    monkeypatch.setattr(suite_pages, "TIMED_SECONDS", 0.1)
    suite = load_suite("debug")
    path = suite_pages.write_page(
        suite, tmp_path / "suites", tmp_path / "scores", episodes=1, command="a test"
    )
    page = path.read_text()
    details = page[page.index("<details") : page.index("</details>")]
    rows = [line.split("|")[1:-1] for line in details.splitlines() if line.startswith("| ")][1:]
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
    assert "Move the yellow ball onto the red disc" in page
    for picture in ("debug.webp", "debug_strip.webp", "debug_small.webp"):
        assert (path.parent / picture).stat().st_size > 200, picture


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "walker_speed",
            [
                "| train | 5 | speed 0, 1, 2, 4, 6 m/s | 44 | 57.6 |",
                r"\frac{|v - w| - 0.25}{\max(|w|,\, 1)}",
                "with another mass (0.75, 1.5), friction (0.75, 1.5)",
                "2 control steps, 0.05 s; rewards are summed over them",
            ],
        ),
        ("ant_maze", ["An ant with 8 motors", "For `latched`:", "**Score of 1**: A return"]),
        ("cheetah_behaviours", ["For `jump`:", "For `speed`:", "TD-MPC2's"]),
        ("mixed_speed", ["**A planar cheetah", "begins with a one-hot over the bodies", "a mask"]),
        ("compat_hopper", ["For `hopper-stand`:", "For `hopper-hop`:", "dm_control"]),
        ("compat_cheetah", ["For `cheetah-run`:"]),
        ("jaco", [r"r \in [0, 1]", "Not possible with this family."]),
        ("maze_many_point", ["For `once`:", "of each episode"]),
    ],
)
def test_pages_say_how_tasks_are_rewarded(name, said):
    page = _text(name)
    for words in said:
        assert words in page, words
    assert "`progress`" not in page or name.endswith("progress")
    assert "```" not in page


def test_a_family_that_nobody_described_is_called_so(monkeypatch):
    suite = load_suite("point_mass")
    monkeypatch.setattr(suite.family, "description", None)
    scores = read_scores(REFERENCE_SCORES / "point_mass.csv")
    assert suite_pages._page(suite, scores, "").count(suite_pages.UNDESCRIBED) == 2


def test_the_index_has_every_suite_that_has_a_page(tmp_path):
    for name in ("debug", "walker_speed"):
        (tmp_path / f"{name}.md").write_text("")
    (tmp_path / "debug_small.webp").write_bytes(b"")
    suites = list(map(load_suite, ["debug", "cheetah_speed", "walker_speed"]))
    index = suite_pages.write_index(suites, tmp_path).read_text()
    assert "| ![debug](debug_small.webp) | [debug](debug.md) | A point mass" in index
    assert "|  | [walker_speed](walker_speed.md) | A planar walker" in index
    assert "cheetah" not in index
    (tmp_path / "index.md").write_text(f"Before.\n\n{index}\nAfter.\n")
    assert suite_pages.write_index(suites, tmp_path).read_text() == f"Before.\n\n{index}\nAfter.\n"


def _text(name):
    return suite_pages._page(load_suite(name), read_scores(REFERENCE_SCORES / f"{name}.csv"), "")


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
    pictures = [folders[0] / f"debug{ending}" for ending in (".webp", "_strip.webp", "_small.webp")]
    drawn = [picture.read_bytes() for picture in pictures]
    for picture in pictures:
        picture.unlink()
    assert run_command("suites", ["debug", "--pictures", *chosen]) == 0
    assert [picture.read_bytes() for picture in pictures] == drawn
    assert page.read_text() == before
    assert "(debug.md)" in (folders[0] / "index.md").read_text()


def test_one_control_step_is_not_called_steps():
    scores = read_scores(REFERENCE_SCORES / "jaco.csv")
    page = suite_pages._page(load_suite("jaco"), scores, "")
    assert "- **Agent step**: 1 control step.\n" in page
    assert "- **Score of 1**: A return of 250.\n" in page


def test_an_environment_of_gymnasium_has_a_page_too(tmp_path, monkeypatch):
    monkeypatch.setattr(suite_pages, "_core_milliseconds", lambda suite: 1.0)
    suite = load_suite("gym/tests.envs.external_fakes:Limited-v0")
    page = suite_pages.write_page(suite, tmp_path, tmp_path, episodes=1, command="a test")
    assert page.read_text().startswith(f"# {suite.name}")


def test_the_longest_label_of_a_contact_sheet_is_not_cut_off():
    images = np.zeros((2, 3, 8, 8, 3), np.uint8)
    figure = suite_pictures.contact_sheet(images, ["short", "a_label_of_many_WWWide_words: train"])
    figure.draw_without_rendering()
    short, long = (text.get_window_extent() for text in figure.texts)
    for extent in (short, long):
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.x1
    sizes = [text.get_fontsize() for text in figure.texts]
    assert sizes[0] > sizes[1] > 6
    assert figure.texts[0].get_fontsize() >= 12, "legible where a page is as wide as a phone"


def test_moments_are_spread_over_the_episode():
    suite = load_suite("debug")
    tasks = suite.tasks("train")
    shown = suite_pictures.moments(suite, tasks)
    size = suite_pictures.SIZE
    assert shown.shape == (len(tasks), suite_pictures.MOMENTS, size, size, 3)
    for images in shown:
        assert all((one != other).any() for one, other in pairwise(images))
    assert np.array_equal(shown, suite_pictures.moments(suite, tasks)), "the same images every time"


def test_a_sheet_shows_some_training_tasks_and_one_of_each_other_split():
    rows = suite_pictures.shown_tasks(load_suite("point_maze"))
    splits = [split for split, _ in rows]
    assert splits.count("train") == suite_pictures.MOST_TRAINING_ROWS
    assert len(set(splits)) == len(splits) - suite_pictures.MOST_TRAINING_ROWS + 1


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
    for ending in (".webp", suite_pictures.STRIP, suite_pictures.THUMBNAIL):
        assert (root / "docs" / "suites" / f"{name}{ending}").stat().st_size > 200, ending
    assert f"({name}.webp)" in page
    assert f"({name}.md)" in (root / "docs" / "suites" / "index.md").read_text()
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
