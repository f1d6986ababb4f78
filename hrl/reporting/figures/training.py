"""Show how the methods learned: scores against frames and against time, returns on every task."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hrl.reporting import statistics
from hrl.reporting.curves import (
    Curves,
    curve_source,
    evaluated_splits,
    method_curves,
    scores_of,
    task_curves,
)
from hrl.reporting.figures.style import (
    FAINT,
    ReportFigure,
    band,
    frames_axis,
    method_legend,
    panels,
    score_lines,
)
from hrl.reporting.statistics import Array, Statistic
from hrl.reporting.study import Study, note_on, words
from hrl.reporting.summary import generator

STATISTICS: dict[str, Statistic] = {
    "IQM": statistics.interquartile_mean,
    "Mean": statistics.mean_score,
}
SOURCES = {
    "eval": "greedy evaluation episodes during training",
    "train": "training episodes as they came, exploration included",
}
UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def training_figures(study: Study) -> list[ReportFigure]:
    """Draw curves of the methods that logged metrics; nothing where none did."""
    if not study.runs.trained_methods:
        return []
    figures = [_against_frames(study), _against_time(study), _held_out(study), _per_task(study)]
    return [figure for figure in figures if figure is not None]


def missing_curves_note(study: Study) -> str:
    """Say which methods that learned have no learning curve, and why; empty when all have one."""
    drawn = _all_curves(study, "train", seconds=False)
    missing = [method for method in study.runs.trained_methods if method not in drawn]
    if not missing:
        return ""
    return (
        f"No learning curve for {', '.join(missing)}: not every run logged a return for every "
        "training task."
    )


def _against_frames(study: Study) -> ReportFigure | None:
    curves = _all_curves(study, "train", seconds=False)
    if not curves:
        return None
    figure, axes = panels(len(STATISTICS), 2, 3.0, sharey=True)
    for axis, (title, statistic) in zip(axes, STATISTICS.items(), strict=True):
        for method, curve in curves.items():
            _aggregate_curve(axis, study, method, curve, "train", statistic)
        axis.set_title(title)
        score_lines(axis)
        frames_axis(axis)
    axes[0].set_ylabel("normalised score")
    method_legend(figure, study, list(curves))
    caption = (
        "Training tasks. x: training frames (control steps). y: normalised score (0 random play, "
        f"1 the reference return; dashed) of {SOURCES[curve_source(study.runs)]}; left the IQM, "
        "right the mean over runs x tasks. Bands: 95 % stratified bootstrap intervals. "
        f"{_runs_behind(study, list(curves))}"
    )
    return ReportFigure(
        "learning_frames", "Learning curves against frames", caption, figure, note_on(study, curves)
    )


def _against_time(study: Study) -> ReportFigure | None:
    curves = _all_curves(study, "train", seconds=True)
    if not curves:
        return None
    longest = max(float(curve.x[-1]) for curve in curves.values())
    scale, unit = next((size, name) for size, name in UNITS if longest >= 2 * size or size == 1)
    figure, (axes,) = panels(1, 1, 3.0)
    for method, curve in curves.items():
        scaled = Curves(curve.x / scale, curve.returns, curve.tasks)
        _aggregate_curve(axes, study, method, scaled, "train", statistics.interquartile_mean)
    score_lines(axes)
    axes.set_xlabel(f"training time ({unit})")
    axes.set_ylabel("normalised score, IQM")
    method_legend(figure, study, list(curves))
    caption = (
        f"Training tasks. x: training time in {unit}, evaluation left out and continuations added "
        "up; compare only runs of the same hardware (see Runs). y: IQM over runs x tasks of the "
        f"normalised score of {SOURCES[curve_source(study.runs)]}. Bands: 95 % stratified "
        f"bootstrap intervals. {_runs_behind(study, list(curves))}"
    )
    return ReportFigure(
        "learning_wall_clock",
        "Learning curves against wall-clock time",
        caption,
        figure,
        note_on(study, curves),
    )


def _held_out(study: Study) -> ReportFigure | None:
    """Draw held-out splits over training, where they were evaluated then."""
    splits = [split for split in evaluated_splits(study.runs) if split != "train"]
    curves = {split: _all_curves(study, split, seconds=False) for split in splits}
    curves = {split: by_method for split, by_method in curves.items() if by_method}
    if not curves:
        return None
    figure, axes = panels(len(curves), 3, 2.6, sharey=True)
    for axis, (split, by_method) in zip(axes, curves.items(), strict=True):
        for method, curve in by_method.items():
            _aggregate_curve(axis, study, method, curve, split, statistics.interquartile_mean)
        axis.set_title(words(split))
        score_lines(axis)
        frames_axis(axis)
    axes[0].set_ylabel("normalised score, IQM")
    methods = list(next(iter(curves.values())))
    method_legend(figure, study, methods)
    caption = (
        "One panel per held-out split, whose tasks are never trained on. x: training frames "
        "(control steps). y: IQM over runs x tasks of the normalised score of greedy evaluation "
        "episodes. Bands: 95 % stratified bootstrap intervals. " + _runs_behind(study, methods)
    )
    return ReportFigure(
        "learning_held_out",
        "Held-out splits while learning",
        caption,
        figure,
        note_on(study, methods),
    )


def _per_task(study: Study) -> ReportFigure | None:
    source = curve_source(study.runs)
    tasks = study.runs.suite.task_names("train")
    found = {
        (task, method): curve
        for task in tasks
        for method in study.runs.trained_methods
        if (curve := task_curves(study.runs, method, task, source)) is not None
    }
    if not found:
        return None
    figure, axes = panels(len(tasks), 4, 1.9, sharex=True, sharey=True)
    for axis, task in zip(axes, tasks, strict=True):
        _task_panel(
            axis, study, {method: curve for (name, method), curve in found.items() if name == task}
        )
        axis.axhline(
            study.runs.random_returns.get(("train", task), np.nan),
            color=FAINT,
            lw=0.9,
            ls=(0, (2, 2)),
        )
        axis.set_title(task)
    axes[0].set_ylabel("return")
    methods = list(dict.fromkeys(method for _, method in found))
    method_legend(figure, study, methods)
    caption = (
        "One panel per training task. x: training frames (control steps). y: return of "
        f"{SOURCES[source]}. Thick: mean over runs; bands: 95 % bootstrap interval over runs; "
        "thin: single runs; dashed: random play. " + _runs_behind(study, methods)
    )
    return ReportFigure(
        "learning_per_task", "Learning curves per task", caption, figure, note_on(study, methods)
    )


def _task_panel(axes: Axes, study: Study, curves: dict[str, Curves]) -> None:
    for method, curve in curves.items():
        style = study.styles[method]
        interval = statistics.interval(
            curve.returns, statistics.mean_score, generator(method, "curve"), resamples=1000
        )
        axes.plot(curve.x, curve.returns[..., 0], color=style.colour, lw=0.6, alpha=0.35)
        axes.plot(curve.x, curve.returns.mean(axis=(1, 2)), color=style.colour, ls=style.line)
        band(axes, curve.x, interval.low, interval.high, style.colour)
    frames_axis(axes)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set_xlabel("frames")


def _aggregate_curve(
    axes: Axes, study: Study, method: str, curves: Curves, split: str, statistic: Statistic
) -> None:
    style = study.styles[method]
    scores = _scores(study, curves, split)
    interval = statistics.interval(scores, statistic, generator(method, "curve"), resamples=2000)
    marker = style.marker if len(curves.x) <= 30 else ""
    axes.plot(curves.x, statistic(scores), color=style.colour, ls=style.line, marker=marker, ms=3.5)
    band(axes, curves.x, interval.low, interval.high, style.colour)


def _all_curves(study: Study, split: str, *, seconds: bool) -> dict[str, Curves]:
    """Return the curves of every trained method that can be scored on the split."""
    source = curve_source(study.runs) if split == "train" else "eval"
    curves = {
        method: method_curves(study.runs, method, split, source, seconds=seconds)
        for method in study.runs.trained_methods
    }
    return {
        method: one
        for method, one in curves.items()
        if one and scores_of(one, study.runs, split) is not None
    }


def _scores(study: Study, curves: Curves, split: str) -> Array:
    scores = scores_of(curves, study.runs, split)
    assert scores is not None, "curves without scores are left out by _all_curves"
    return scores


def _runs_behind(study: Study, methods: list[str]) -> str:
    return (
        "Runs per method: "
        + ", ".join(f"{method} {len(study.runs.of(method))}" for method in methods)
        + "."
    )
