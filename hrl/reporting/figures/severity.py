"""Draw what changes of dynamics and looks cost: a heatmap of change by severity."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from hrl.reporting.figures.style import INK, WIDTH, ReportFigure
from hrl.reporting.severity import ChangeOfScore, VariedTask, changes_of_score
from hrl.reporting.study import Study, evidence, note_on, words

FULL_COLOUR = 0.5  # change of score from which the colour no longer deepens


def severity_figures(study: Study) -> list[ReportFigure]:
    """Draw methods in rows and kinds of change in columns; nothing without varied tasks."""
    found = {method: changes_of_score(study, method) for method in study.compared}
    found = {method: changes for method, changes in found.items() if changes}
    if not found:
        return []
    kinds = list(dict.fromkeys(one.task.kind for changes in found.values() for one in changes))
    most = max(len(_changes(changes, kind)) for changes in found.values() for kind in kinds)
    figure = Figure(figsize=(WIDTH, 0.6 + len(found) * (0.75 + 0.36 * most)))
    grid = figure.subplots(len(found), len(kinds), squeeze=False)
    for row, (method, changes) in zip(grid, found.items(), strict=True):
        for axes, kind in zip(row, kinds, strict=True):
            image = _heatmap(axes, [one for one in changes if one.task.kind == kind])
            axes.set_title(f"{method}: {words(kind)}", color=study.styles[method].colour)
    figure.colorbar(
        image,
        ax=grid.ravel().tolist(),
        label="change of score",
        shrink=0.7,
        aspect=30,
        extend="both",
    )
    splits = list(dict.fromkeys(one.task.split for changes in found.values() for one in changes))
    caption = (
        "One panel per method and kind of change. Rows: what is changed about a training task; "
        "columns: how severely, lower values before higher ones. Colour and large number: score "
        "minus the score of the same runs on the training task unchanged, mean over runs; bold "
        "where its 95 % interval over runs does not hold 0. Small number: the changed value "
        "(dynamics: the factor). " + evidence(study, list(found), ["train", *splits])
    )
    title = "Change of score by severity"
    return [ReportFigure("severity", title, caption, figure, note_on(study, found))]


def _changes(found: Sequence[ChangeOfScore], kind: str) -> list[str]:
    return list(dict.fromkeys(one.task.change for one in found if one.task.kind == kind))


def _heatmap(axes: Axes, found: Sequence[ChangeOfScore]) -> AxesImage:
    changes = list(dict.fromkeys(one.task.change for one in found))
    cells = _columns(found)
    columns = sorted(set(cells.values()))
    values = np.full((len(changes), max(1, len(columns))), np.nan)
    for one in found:
        row = changes.index(one.task.change)
        column = columns.index(cells[one.task.split, one.task.task])
        values[row, column] = one.change
        _label(axes, row, column, one)
    image = axes.imshow(values, cmap="RdBu", vmin=-FULL_COLOUR, vmax=FULL_COLOUR, aspect="auto")
    axes.grid(False)
    axes.set_yticks(range(len(changes)), [words(change) for change in changes])
    severities = list(dict.fromkeys(one.task.severity for one in found))
    axes.set_xticks(
        range(len(columns)), [words(severities[severity]) for severity, _ in columns], fontsize=7.5
    )
    return image


def _columns(found: Sequence[ChangeOfScore]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return (split, task) -> (severity, place among the values of its change and severity)."""
    severities = list(dict.fromkeys(one.task.severity for one in found))
    groups: dict[tuple[int, str], list[VariedTask]] = {}
    for one in found:
        key = severities.index(one.task.severity), one.task.change
        groups.setdefault(key, []).append(one.task)
    return {
        (task.split, task.task): (severity, place)
        for (severity, _), group in groups.items()
        for place, task in enumerate(sorted(group, key=_order))
    }


def _order(task: VariedTask) -> tuple[list[float], str]:
    """Return what values of one change are sorted by: numbers by size, others by their text."""
    numbers = [float(one) for one in task.value if isinstance(one, int | float)]
    return numbers, str(task.value)


def _label(axes: Axes, row: int, column: int, one: ChangeOfScore) -> None:
    low, high = one.ci95
    certain = low is not None and high is not None and (low > 0 or high < 0)
    dark = abs(one.change) > 0.7 * FULL_COLOUR
    colour = "white" if dark else INK
    axes.text(
        column,
        row - 0.12,
        f"{one.change:+.2f}",
        ha="center",
        va="center",
        color=colour,
        fontsize=8,
        fontweight="bold" if certain else "normal",
    )
    axes.text(
        column, row + 0.28, one.task.shown_value, ha="center", va="center", color=colour, fontsize=6
    )
