"""Compare methods on each split: aggregates with intervals, profiles, chances of improvement."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hrl.reporting import statistics
from hrl.reporting.comparisons import Comparison, method_pairs
from hrl.reporting.figures.style import FAINT, INK, WIDTH, ReportFigure, band, method_legend, panels
from hrl.reporting.study import Study, evidence, note_on, words
from hrl.reporting.summary import AGGREGATES, Aggregate, generator, score_matrix

AGGREGATE_TITLES = {
    "iqm": "IQM",
    "median": "Median",
    "mean": "Mean",
    "optimality_gap": "Optimality gap",
}
PAIR_ROW = 0.34  # inches


def comparison_figures(study: Study) -> list[ReportFigure]:
    """Draw aggregates; profiles, if there is a sample; improvements, if there are two methods."""
    figures = [aggregate_figure(study), profile_figure(study), improvement_figure(study)]
    return [figure for figure in figures if figure is not None]


def aggregate_figure(study: Study) -> ReportFigure:
    """Draw splits in rows and statistics in columns, per method with both intervals."""
    splits = study.runs.splits
    methods = study.compared
    figure = Figure(figsize=(WIDTH, 0.9 + len(splits) * max(1.0, 0.35 + 0.24 * len(methods))))
    grid = figure.subplots(len(splits), len(AGGREGATES), squeeze=False, sharex="col", sharey="row")
    for row, split in zip(grid, splits, strict=True):
        for axes, name in zip(row, AGGREGATES, strict=True):
            _aggregate_panel(axes, study, split, name)
        row[0].set_ylabel(words(split).replace(" ", "\n"), fontweight="bold", fontsize=8)
    for axes, name in zip(grid[0], AGGREGATES, strict=True):
        axes.set_title(AGGREGATE_TITLES[name])
    figure.supxlabel("normalised score (optimality gap: lower is better)", fontsize=9)
    caption = (
        "Rows: splits; they are never averaged into one another. Columns: statistics over all "
        "runs x tasks of the split. x: normalised score (0 random play, 1 the reference return). "
        "Mark: the value; thick bar: 95 % stratified bootstrap interval (runs drawn anew within "
        "each task); thin line: 95 % interval that draws whole runs, keeping each run's tasks "
        "together. Hollow mark: the mean score of the same method on the training tasks that the "
        "split varies, unchanged. " + evidence(study, methods)
    )
    return ReportFigure(
        "aggregates", "Scores per split, with intervals", caption, figure, note_on(study, methods)
    )


def _aggregate_panel(axes: Axes, study: Study, split: str, name: str) -> None:
    methods = study.compared
    for i, method in enumerate(methods):
        numbers = study.summary["methods"][method].get(split)
        if numbers is None:
            continue
        _interval_mark(axes, i, numbers["aggregates"][name], study, method)
        if numbers["training"] is not None and name != "optimality_gap":
            score = numbers["training"]["score_mean"]
            style = study.styles[method]
            axes.plot(score, i, ls="", marker=style.marker, ms=6, mfc="none", mec=style.colour)
    axes.use_sticky_edges = False  # a bar keeps its distance from the axis
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def _interval_mark(axes: Axes, y: int, aggregate: Aggregate, study: Study, method: str) -> None:
    style = study.styles[method]
    _interval_bars(axes, y, aggregate, style.colour, 0.55)
    axes.plot(aggregate["value"], y, ls="", marker=style.marker, ms=5, color=style.colour)


def _interval_bars(axes: Axes, y: int, aggregate: Aggregate, colour: str, height: float) -> None:
    """Draw both intervals: a bar for the stratified one, a line for that of whole runs."""
    low, high = aggregate["ci95"]
    low_runs, high_runs = aggregate["ci95_runs"]
    if low is not None and high is not None:
        axes.barh(y, high - low, left=low, height=height, color=colour, alpha=0.35, lw=0)
    if low_runs is not None and high_runs is not None:
        axes.hlines(y, low_runs, high_runs, color=colour, lw=1.2)


def profile_figure(study: Study) -> ReportFigure | None:
    """Draw one panel per split; None where every method has a single score: no distribution."""
    methods = study.compared
    matrices = {
        (split, method): score_matrix(study.table, method, split)
        for split in study.runs.splits
        for method in study.methods_on(split, methods)
    }
    if all(matrix.size == 1 for matrix in matrices.values()):
        return None
    splits = list(dict.fromkeys(split for split, _ in matrices))
    figure, axes = panels(len(splits), 3, 2.7, sharey=True)
    for axis, split in zip(axes, splits, strict=True):
        _profile_panel(
            axis,
            study,
            {method: matrix for (place, method), matrix in matrices.items() if place == split},
        )
        axis.set_title(words(split))
    axes[0].set_ylabel("share of runs x tasks above")
    method_legend(figure, study, methods)
    caption = (
        "One panel per split. x: a threshold on the normalised score. y: the share of all runs x "
        "tasks that score above it; a curve that lies higher everywhere is better throughout, "
        "crossing curves mean that a single number would mislead. Bands: 95 % stratified "
        "bootstrap intervals at each threshold. " + evidence(study, methods)
    )
    return ReportFigure(
        "performance_profiles", "Performance profiles", caption, figure, note_on(study, methods)
    )


def _profile_panel(axes: Axes, study: Study, matrices: dict[str, statistics.Array]) -> None:
    low = min(0.0, *(float(matrix.min()) for matrix in matrices.values()))
    high = max(1.0, *(float(matrix.max()) for matrix in matrices.values()))
    thresholds = np.linspace(low, high, 101)
    for method, matrix in matrices.items():
        style = study.styles[method]
        above = statistics.exceedances(matrix, thresholds)
        interval = statistics.interval(
            above, statistics.mean_score, generator(method, "profile"), resamples=2000
        )
        axes.plot(
            thresholds,
            statistics.mean_score(above),
            color=style.colour,
            ls=style.line,
            drawstyle="steps-post",
        )
        band(axes, thresholds, interval.low, interval.high, style.colour)
    axes.set_xlabel("normalised score")
    axes.set_ylim(-0.02, 1.02)


def improvement_figure(study: Study) -> ReportFigure | None:
    """Draw one panel per split, one row per pair of methods; None with fewer than two methods."""
    pairs = {
        split: [
            study.comparisons[split, first, second]
            for first, second in method_pairs(study.runs)
            if (split, first, second) in study.comparisons
        ]
        for split in study.runs.splits
    }
    pairs = {split: rows for split, rows in pairs.items() if rows}
    if not pairs:
        return None
    most = max(len(rows) for rows in pairs.values())
    figure, axes = panels(len(pairs), 3, 0.75 + PAIR_ROW * most, sharex=True)
    for axis, (split, rows) in zip(axes, pairs.items(), strict=True):
        _improvement_panel(axis, study, rows)
        axis.set_title(words(split))
    figure.supxlabel("P(the upper method scores higher than the lower one)", fontsize=9)
    methods = list(
        dict.fromkeys(
            name for rows in pairs.values() for one in rows for name in (one.first, one.second)
        )
    )
    caption = (
        "One panel per split, one row per pair of methods; controls stand against methods only. "
        "x: the probability that a run of the upper-named method scores higher than a run of the "
        "lower-named one on the same task, averaged over tasks (Mann-Whitney; ties count one "
        "half); 0.5 (line) means no difference. Thick bar: 95 % stratified bootstrap interval; "
        "thin line: the interval that draws whole runs; no bar: a single run, or one method's runs "
        "beat all of the other's. Hollow marks: budgets differ. " + evidence(study, methods)
    )
    return ReportFigure(
        "probability_of_improvement",
        "Probability of improvement",
        caption,
        figure,
        note_on(study, methods),
    )


def _improvement_panel(axes: Axes, study: Study, rows: Sequence[Comparison]) -> None:
    for i, one in enumerate(rows):
        _interval_bars(axes, i, one.improvement, study.styles[one.first].colour, 0.5)
        face = "white" if one.verdict == "unequal budgets" else INK
        value = one.improvement["value"]
        axes.plot(value, i, ls="", marker="d", ms=6, mfc=face, mec=INK)
    axes.axvline(0.5, color=FAINT, lw=1)
    axes.set_yticks(range(len(rows)), [f"{one.first}\n> {one.second}" for one in rows])
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
