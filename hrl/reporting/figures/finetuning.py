"""Draw what fine-tuning learned: the matrix of parts by method, and learning curves."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hrl.reporting import statistics
from hrl.reporting.figures.style import INK, ReportFigure, band, frames_axis, panels, score_lines
from hrl.reporting.finetuned import REACHED, Cell, cells, preset_order
from hrl.reporting.study import COLOURS, MARKERS, Study

MOST_MARKED = 30  # points of a curve that markers still tell apart


def finetuning_figures(study: Study) -> list[ReportFigure]:
    """Draw the matrix and the curves; nothing where no run was fine-tuned."""
    found = cells(study.finetuned)
    if not found:
        return []
    figures = [_matrix(found), _curves(found)]
    return [figure for figure in figures if figure is not None]


def _matrix(found: list[Cell]) -> ReportFigure:
    targets = list(dict.fromkeys(cell.target for cell in found))
    methods = sorted({cell.source_method for cell in found})
    presets = sorted({cell.preset for cell in found}, key=preset_order)
    figure, axes = panels(len(targets), 2, 0.6 + 0.32 * len(presets))
    for axis, target in zip(axes, targets, strict=True):
        scores = np.full((len(presets), len(methods)), np.nan)
        for cell in found:
            if cell.target == target:
                place = presets.index(cell.preset), methods.index(cell.source_method)
                scores[place] = statistics.interquartile_mean(cell.scores)
        _heatmap(axis, scores, presets, methods)
        axis.set_title(target)
    caption = (
        "Rows: what was trained further, the rest of the agent being frozen (scratch: everything "
        "anew). Columns: method of the run that fine-tuning started from. Numbers: IQM over runs x "
        "tasks of the normalised score at the end. Empty: no such run."
    )
    return ReportFigure("finetuning_matrix", "Score by trained parts", caption, figure)


def _heatmap(axes: Axes, scores: np.ndarray, rows: list[str], columns: list[str]) -> None:
    axes.imshow(scores, cmap="Blues", vmin=0, vmax=1.2, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    for (row, column), score in np.ndenumerate(scores):
        if np.isfinite(score):
            colour = "white" if score > 0.75 else INK
            axes.text(column, row, f"{score:z.2f}", ha="center", va="center", color=colour)


def _curves(found: list[Cell]) -> ReportFigure | None:
    drawn = {id(cell): curves for cell in found if (curves := cell.curves()) is not None}
    known = [cell for cell in found if id(cell) in drawn]
    if not known:
        return None
    presets = sorted({cell.preset for cell in known}, key=preset_order)
    places = list(dict.fromkeys((cell.target, cell.source_method) for cell in known))
    figure, axes = panels(len(places), 2, 2.6, sharey=True)
    for axis, (target, method) in zip(axes, places, strict=True):
        for cell in known:
            if (cell.target, cell.source_method) == (target, method):
                _curve(axis, cell, *drawn[id(cell)], presets.index(cell.preset))
        axis.set_title(f"{target}, {method}")
        score_lines(axis)
        axis.axhline(REACHED, color=INK, lw=0.5, ls=":")
        frames_axis(axis)
    axes[0].set_ylabel("normalised score")
    _legend(figure, presets)
    caption = (
        "One panel per target and method of the source. x: frames of fine-tuning. y: mean over "
        "runs of the normalised score of greedy evaluation episodes; dotted: 80 % of the "
        "reference. Bands: 95 % bootstrap intervals over runs."
    )
    return ReportFigure("finetuning_curves", "Fine-tuning curves", caption, figure)


def _curve(
    axes: Axes, cell: Cell, frames: statistics.Array, scores: statistics.Array, index: int
) -> None:
    colour = COLOURS[index % len(COLOURS)]
    marker = MARKERS[index % len(MARKERS)] if len(frames) <= MOST_MARKED else ""
    interval = cell.interval(scores, statistics.mean_score)
    axes.plot(frames, statistics.mean_score(scores), color=colour, marker=marker, ms=3.5)
    band(axes, frames, interval.low, interval.high, colour)


def _legend(figure: Figure, presets: list[str]) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            ms=5,
            label=preset,
        )
        for index, preset in enumerate(presets)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 5))
