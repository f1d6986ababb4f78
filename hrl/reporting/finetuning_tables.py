"""Show the numbers of fine-tuning runs as tables."""

import numpy as np

from hrl.reporting import statistics
from hrl.reporting.finetuned import Cell, cells, preset_order
from hrl.reporting.finetuning_claims import finetuning_claims
from hrl.reporting.page import Cell as TableCell
from hrl.reporting.page import Heading, Paragraph, Part, Table, interval, number, quantity, text
from hrl.reporting.statistics import Array, Statistic
from hrl.reporting.study import Study
from hrl.reporting.summary import ENOUGH_RUNS, ends

COLUMNS = (
    "score at the end",
    "CI of the score",
    "area under curve",
    "CI of the area",
    "frames to 80 %",
    "trained parameters",
    "forgetting",
    "CI of forgetting",
    "frames",
    "runs",
)
EXPLANATION = (
    "Each run went on from a checkpoint of the method named, on tasks that are new to it, with a "
    "fresh optimiser and fresh replay. Score at the end: IQM over runs x tasks of the normalised "
    "score of the last checkpoint. Area under curve: the mean score over training, by the "
    "trapezoidal rule over the evaluations, the one before the first update included. Frames to "
    "80 %: median over runs of the frames at the first evaluation with a score of 0.8; runs that "
    "never reached it count as later than all others, and stand in brackets. Trained parameters: "
    "those that were not frozen. Forgetting: how much score the training tasks of the source "
    "lost; below 0 they gained. Intervals: 95 % stratified bootstrap over runs. All numbers are in "
    "finetuning.csv and finetuning_curves.csv beside this page."
)


def finetuning_tables(study: Study) -> list[Part]:
    """Return the table of all numbers and the matrix of parts by method, for every target."""
    found = cells(study.finetuned)
    if not found:
        return []
    parts: list[Part] = [Paragraph(EXPLANATION)]
    if min(len(cell.runs) for cell in found) < ENOUGH_RUNS:
        note = f"Some rows stand on fewer than {ENOUGH_RUNS} runs: read their intervals with care."
        parts.append(Paragraph(note, "note"))
    for target in dict.fromkeys(cell.target for cell in found):
        of_target = [cell for cell in found if cell.target == target]
        parts += [Heading(target), *finetuning_claims(target, of_target)]
        parts += [_matrix(target, of_target), _numbers(target, of_target)]
    return parts


def _matrix(target: str, found: list[Cell]) -> Table:
    """Return the scores at the end: a row per preset, a column per method."""
    methods = sorted({cell.source_method for cell in found})
    presets = sorted({cell.preset for cell in found}, key=preset_order)
    by_place = {(cell.preset, cell.source_method): cell for cell in found}
    rows = [
        [text(preset, "text head")]
        + [number(_score_text(by_place.get((preset, method)))) for method in methods]
        for preset in presets
    ]
    header = [text("score at the end, by parts"), *map(number, methods)]
    return Table(f"finetuning_matrix_{target}", header, rows)


def _score_text(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    value, ends_of_it = _aggregate(cell, cell.scores, statistics.interquartile_mean)
    return value.text if ends_of_it.text == "-" else f"{value.text} {ends_of_it.text}"


def _numbers(target: str, found: list[Cell]) -> Table:
    header = [text("method"), text("parts"), *(number(label) for label in COLUMNS)]
    rows: list[list[TableCell]] = []
    breaks = []
    for index, cell in enumerate(found):
        if index and cell.source_method != found[index - 1].source_method:
            breaks.append(index)
        rows.append([text(cell.source_method), text(cell.preset), *_values(cell)])
    return Table(f"finetuning_{target}", header, rows, breaks)


def _values(cell: Cell) -> list[TableCell]:
    """Return the values of COLUMNS."""
    return [
        *_aggregate(cell, cell.scores, statistics.interquartile_mean),
        *_aggregate(cell, cell.values(lambda run: run.area), statistics.mean_score),
        _frames_cell(cell),
        quantity(cell.runs[0].trained_parameters, 0),
        *_aggregate(cell, cell.values(lambda run: run.forgetting), statistics.mean_score),
        quantity(cell.budget, 0),
        quantity(len(cell.runs), 0),
    ]


def _aggregate(
    cell: Cell, values: Array | None, statistic: Statistic
) -> tuple[TableCell, TableCell]:
    """Return a statistic of values [run, task] and its interval."""
    if values is None:
        return quantity(None), interval((None, None))
    return quantity(float(statistic(values))), interval(ends(cell.interval(values, statistic)))


def _frames_cell(cell: Cell) -> TableCell:
    """Return the median frames to 80 %, with the number of runs that reached it."""
    if cell.curves() is None:
        return quantity(None)
    reached = [run.frames_to_reach for run in cell.runs]
    late = [float("inf") if frames is None else float(frames) for frames in reached]
    count = sum(frames is not None for frames in reached)
    middle = float(np.median(late))
    shown = f"{middle:,.0f}" if np.isfinite(middle) else "never"
    runs = "" if count == len(reached) else f" ({count} of {len(reached)} runs)"
    return number(f"{shown}{runs}", middle)
