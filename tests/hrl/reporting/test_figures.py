"""Tests of what the figures show."""

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from hrl import reporting
from hrl.reporting.figures.comparison import aggregate_figure, improvement_figure, profile_figure
from hrl.reporting.figures.diagnostics import diagnostic_figures, shuffle_returns, skill_entropy
from hrl.reporting.figures.generalization import generalization_figures, undrawn_note
from hrl.reporting.figures.goals import FIRST, LAST, REACH, SWAP, goal_figures
from hrl.reporting.figures.style import RC_PARAMS
from hrl.reporting.figures.training import missing_curves_note, training_figures
from hrl.reporting.study import Study, study_of
from tests.hrl.synthetic_runs import position_suite, speed_suite, write_fixed, write_trained


def curve_of(figure: Figure, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the method's line in the first panel."""
    (line,) = [
        one
        for one in figure.axes[0].lines
        if one.get_color() == colour and len(one.get_xdata()) > 2 and one.get_linestyle() != "None"
    ]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def test_score_against_a_scalar_parameter(speeds: Study) -> None:
    by_name = {figure.name: figure for figure in generalization_figures(speeds)}
    assert set(by_name) == {"score_by_parameter", "score_by_task"}
    x, y = curve_of(by_name["score_by_parameter"].drawing, speeds.styles["flat"].colour)
    assert x.tolist() == [-1, 0, 1, 1.5, 2, 3, 4, 5, 6, 7, 8]
    flat = speeds.table[speeds.table["method"] == "flat"]
    assert y[3] == pytest.approx(flat.loc[flat["task"] == "speed_1.5", "score"].mean())
    shaded = (
        by_name["score_by_parameter"]
        .drawing.axes[0]
        .patches[0]
        .get_extents()
        .transformed(by_name["score_by_parameter"].drawing.axes[0].transData.inverted())
    )
    assert (shaded.x0, shaded.x1) == pytest.approx((0, 6))
    assert "speed_2_friction_0.5, speed_2_friction_2" in undrawn_note(speeds)


def test_score_over_the_plane_and_against_distance(positions: Path) -> None:
    study = study_of(reporting.load_runs([positions]))
    with mpl.rc_context(RC_PARAMS):
        by_name = {figure.name: figure for figure in generalization_figures(study)}
    assert set(by_name) == {"score_map", "score_by_distance", "score_by_task"}
    x, y = curve_of(by_name["score_by_distance"].drawing, study.styles["skills"].colour)
    # Training targets lie on a circle of radius 0.15, so their hull is a square whose sides are
    # 0.15 / sqrt(2) away.
    assert x == pytest.approx([0.08 - 0.15 / 2**0.5, 0, *x[2:]], abs=1e-3)
    skills = study.table[study.table["method"] == "skills"]
    assert y[1] == pytest.approx(skills.loc[skills["split"] == "train", "score"].mean())
    assert [axes.get_title(loc="left") for axes in by_name["score_map"].drawing.axes[:2]] == [
        "flat",
        "skills",
    ]


def test_tasks_without_a_number_are_drawn_by_name(tmp_path: Path) -> None:
    suite = position_suite()
    for tasks in suite["splits"].values():
        for i, task in enumerate(tasks):
            task["parameters"] = {"target": ["red", "green", "blue", "grey"][i]}
    write_fixed(tmp_path / "random", suite, episodes=1)
    study = study_of(reporting.load_runs([tmp_path]))
    (figure,) = generalization_figures(study)
    assert figure.name == "score_by_task"
    assert training_figures(study) == []
    assert improvement_figure(study) is None


def test_methods_without_logged_returns_are_named_instead_of_drawn(tmp_path: Path) -> None:
    suite = position_suite()
    write_trained(tmp_path / "flat", suite, method="flat", episodes=1)
    write_trained(tmp_path / "short", suite, method="short", episodes=1)
    write_fixed(tmp_path / "random", suite, episodes=1)
    (tmp_path / "short" / "metrics.jsonl").write_text('{"frames": 64, "loss/value": 1.0}\n')
    study = study_of(reporting.load_runs([tmp_path]))
    assert missing_curves_note(study).startswith("No learning curve for short:")
    captions = [figure.caption for figure in training_figures(study)]
    assert captions
    assert all("short" not in caption.replace("shortest", "") for caption in captions)


def test_every_family_has_its_own_figure(tmp_path: Path) -> None:
    suite = speed_suite()
    suite["splits"]["train"] += [
        {**task, "name": f"cheetah_{i}", "family": "cheetah_speed"}
        for i, task in enumerate(suite["splits"]["train"])
    ]
    write_fixed(tmp_path / "random", suite, episodes=1)
    names = [
        figure.name for figure in generalization_figures(study_of(reporting.load_runs([tmp_path])))
    ]
    assert names == [
        "score_by_parameter_walker_speed",
        "score_by_parameter_cheetah_speed",
        "score_by_task",
    ]


def test_methods_keep_their_colour_and_baselines_are_grey(speeds: Study, positions: Path) -> None:
    other = study_of(reporting.load_runs([positions]))
    assert {method: speeds.styles[method].colour for method in ("flat", "skills")} == {
        method: other.styles[method].colour for method in ("flat", "skills")
    }
    assert len({style.colour for style in other.styles.values()}) == 4


def test_comparisons_leave_fixed_policies_out(speeds: Study) -> None:
    aggregates, profiles, improvement = (
        aggregate_figure(speeds),
        profile_figure(speeds),
        improvement_figure(speeds),
    )
    assert profiles is not None
    assert improvement is not None
    for figure in (aggregates, profiles, improvement):
        assert "flat 2, skills 2;" in figure.caption
        assert "random" not in figure.caption.replace("random play", "")
    assert [label.get_text() for label in improvement.drawing.axes[0].get_yticklabels()] == [
        "flat\n> skills"
    ]


def test_shuffle_diagnostics_show_the_returns_of_each_intervention(speeds: Study) -> None:
    returns = shuffle_returns(speeds, "train")
    assert {method: list(by) for method, by in returns.items()} == {
        "flat": ["none", "task_shuffle"],
        "skills": ["none", "high_level_action_shuffle", "task_shuffle"],
    }
    rows = speeds.runs.shuffled.query(
        "method == 'skills' and split == 'train' and intervention == 'high_level_action_shuffle'"
    )
    assert returns["skills"]["high_level_action_shuffle"].mean() == pytest.approx(
        rows["return"].mean()
    )
    assert list(shuffle_returns(speeds, "novel")["flat"]) == [
        "none"
    ]  # one task: its vector has nothing to swap with


def test_skill_usage_is_drawn_per_run_for_methods_with_skills(speeds: Study) -> None:
    names = [figure.name for figure in diagnostic_figures(speeds)]
    assert names == ["shuffle_diagnostics", "skill_usage_skills"]


def test_labels_of_skill_usage_do_not_overlap(speeds: Study) -> None:
    with mpl.rc_context(RC_PARAMS):
        figure = diagnostic_figures(speeds)[1].drawing
        figure.draw_without_rendering()
    labels = [text for text in figure.axes[0].texts if text.get_text()]
    assert len(labels) == len(speeds.runs.splits)
    # Slanted by the same angle, labels touch if one begins less than a line above the last one.
    slant = np.sin(np.deg2rad(labels[0].get_rotation()))
    starts = [text.get_window_extent().x0 for text in labels]
    height = labels[0].get_fontsize() * figure.dpi / 72
    assert (np.diff(starts) * slant > height).all()


def test_goals_are_drawn_for_methods_that_set_them(speeds: Study) -> None:
    """Two lines a run for max_cosine, one a run for the others; nothing for other methods."""
    assert goal_figures(speeds) == []
    keys = (FIRST, LAST, REACH, SWAP)
    runs = tuple(
        replace(
            run,
            metrics=run.metrics.assign(
                **{key: 0.1 + i + run.metrics["frames"] for i, key in enumerate(keys)}
            ),
        )
        if run.method == "skills"
        else run
        for run in speeds.runs.runs
    )
    (figure,) = goal_figures(replace(speeds, runs=replace(speeds.runs, runs=runs)))
    seeds = len(speeds.runs.of("skills"))
    assert [len(axes.lines) for axes in figure.drawing.axes] == [2 * seeds, seeds + 1, seeds]
    assert [line.get_linestyle() for line in figure.drawing.axes[0].lines] == [":", "-"] * seeds
    frames = speeds.runs.of("skills")[0].metrics["frames"]
    assert figure.drawing.axes[2].lines[0].get_ydata() == pytest.approx(frames + 3.1)


def test_entropy_of_skill_usage() -> None:
    weights = np.array([[0.25, 1.0, 0.5], [0.25, 0.0, 0.5], [0.25, 0.0, 0.0], [0.25, 0.0, 0.0]])
    assert skill_entropy(weights) == pytest.approx([1.0, 0.0, 0.5])
    assert skill_entropy(np.ones((1, 1))) == pytest.approx([0.0])
