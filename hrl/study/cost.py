"""Say what a study costs before it starts: runs, hours, memory and disk."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrl.run.folder import RunFolder
from hrl.run.memory import DiskEstimate, human_size
from hrl.study.cells import Cell
from hrl.study.plan import Plan
from hrl.study.planned_run import PlannedRun, checkpoint_disk

FEWEST_LINES = 3
"""Lines of timing.jsonl that a speed is computed from, the first of which has compiled kernels."""

Rates = Mapping[tuple[str, str], float]
"""Control steps a second by suite and method."""


@dataclass(frozen=True)
class Row:
    """Hold the cost of the runs of one method on one suite, fine-tuning left out.

    Attributes:
        agent: that the method trains.
        runs, finished, reused: counts of runs.
        frames: control steps of one run.
        rate: control steps a second; None where it is unknown.
        hours: of a core or GPU, for what is missing; None where the rate is unknown.
        memory: bytes of one run's process.
        disk: bytes of the checkpoints that are still to be written.
    """

    suite: str
    method: str
    agent: str
    runs: int
    finished: int
    reused: int
    frames: int
    rate: float | None
    hours: float | None
    memory: int
    disk: int


def measured_rates(
    plan: Plan, measure: Callable[[PlannedRun, Path], None] | None = None
) -> dict[tuple[str, str], float]:
    """Return the speed of every method on every suite, from runs where they show it.

    Args:
        plan: of the study.
        measure: trains a run for a while in a folder; None to measure nothing anew.
    """
    rates: dict[tuple[str, str], float] = {}
    for run in plan.runs:
        key = (run.suite, run.method)
        rates.setdefault(key, 0.0)
        rates[key] = rates[key] or rate_of(run.folder) or 0.0
    first_runs = {(run.suite, run.method): run for run in reversed(plan.runs)}
    for key in [key for key, rate in rates.items() if not rate]:
        # Hidden, so that it is not taken for a run of the study.
        folder = plan.folder.joinpath(".rates", *key)
        if not rate_of(folder) and measure is not None:
            measure(first_runs[key], folder)
        rates[key] = rate_of(folder) or 0.0
    return {key: rate for key, rate in rates.items() if rate}


def rate_of(folder: Path) -> float | None:
    """Return the control steps a second of a run, all but its first iteration; None if unknown."""
    path = RunFolder(folder).timing
    if not path.exists():
        return None
    text = path.read_text(errors="replace")
    lines = [line for line in text.splitlines() if line.endswith("}")]
    if len(lines) < FEWEST_LINES:
        return None
    try:
        first, last = json.loads(lines[0]), json.loads(lines[-1])
        frames, seconds = (float(last[key]) - float(first[key]) for key in ("frames", "seconds"))
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None  # damaged, which is no reason to start nothing
    return frames / seconds if seconds > 0 and math.isfinite(frames) else None


def cost_rows(plan: Plan, rates: Rates) -> list[Row]:
    """Return the cost by suite and method, in the order of the plan."""
    groups: dict[tuple[str, str], list[PlannedRun]] = defaultdict(list)
    for run in plan.runs:
        groups[run.suite, run.method].append(run)
    cells = {cell.name: cell for cell in plan.cells}
    rows = (_row(key, runs, cells, rates.get(key)) for key, runs in groups.items())
    return [row for row in rows if row is not None]


def finetuning_hours(plan: Plan, rates: Rates) -> tuple[int, int, float]:
    """Return fine-tuning runs, how many of them are missing, and their hours at known speeds."""
    cells = [cell for cell in plan.cells if cell.command == "finetune"]
    missing = _missing_finetuning(plan)
    hours = 0.0
    for run, cell in missing:
        rate = rates.get((run.suite, run.method))
        hours += (cell.frames - cell.done_frames) / rate / 3600 if rate else 0.0
    return len(cells), len(missing), hours


def finetuning_disk(plan: Plan) -> dict[str, int]:
    """Return by source method and suite the bytes of the checkpoints of missing fine-tuning runs.

    They take what their source's take, whose configuration they inherit.
    """
    sizes: dict[str, int] = defaultdict(int)
    for run, _ in _missing_finetuning(plan):
        sizes[f"{run.method} on {run.suite}"] += checkpoint_disk(run)
    return sizes


def plan_text(plan: Plan, rates: Rates, slots: int | None) -> str:
    """Return the plan and its cost as text.

    Args:
        plan: of the study.
        rates: speeds, as `measured_rates` gives them.
        slots: cells that run at once; None where a cluster decides.
    """
    study = plan.study
    rows = cost_rows(plan, rates)
    runs, missing, hours = finetuning_hours(plan, rates)
    hours += sum(row.hours or 0.0 for row in rows)
    unknown = [f"{row.method} on {row.suite}" for row in rows if row.hours is None]
    lines = [f"study {study.name}: {study.description}".rstrip(": "), f"folder: {plan.folder}"]
    lines += ["", _table(rows)]
    if runs:
        lines.append(f"fine-tuning: {runs} runs, {runs - missing} finished")
    lines.append(f"evaluations: {sum(cell.command == 'evaluate' for cell in plan.cells)}")
    wall = f", about {hours / slots:.1f} hours with {slots} at once" if slots else ""
    least = "at least " if unknown else ""
    known = f"{least}{hours:.1f} hours{wall}" if hours or not unknown else "hours unknown"
    lines.append(f"still to be trained: {known}; evaluations on top")
    if unknown:
        lines.append(f"speed not measured: {', '.join(unknown)}")
    disk = sum(row.disk for row in rows) + sum(finetuning_disk(plan).values())
    lines.append(f"disk for checkpoints, weights left out: {human_size(disk)}")
    notes = [f"  {name}: {method.note}" for name, method in study.columns.items() if method.note]
    return "\n".join([*lines, *(["methods:", *notes] if notes else [])])


def check_disk(plan: Plan, rows: Iterable[Row]) -> None:
    """Refuse a study whose checkpoints do not fit onto the disk.

    Raises:
        DiskEstimateError: names the largest methods.
    """
    estimate = DiskEstimate(plan.folder)
    for row in rows:
        estimate.add(f"{row.method} on {row.suite}", row.disk)
    for name, size in finetuning_disk(plan).items():
        estimate.add(f"fine-tuning of {name}", size)
    estimate.check()


# Private functions.


def _missing_finetuning(plan: Plan) -> list[tuple[PlannedRun, Cell]]:
    """Return the fine-tuning runs that are not finished, each after the run that it starts from."""
    by_source = {f"train {run.suite}/{run.method}/seed_{run.seed}": run for run in plan.runs}
    cells = (cell for cell in plan.cells if cell.command == "finetune" and not cell.is_finished())
    return [(by_source[cell.after[0]], cell) for cell in cells]


def _row(
    key: tuple[str, str],
    runs: Sequence[PlannedRun],
    cells: Mapping[str, Cell],
    rate: float | None,
) -> Row | None:
    suite, method = key
    pairs = [
        (run, cells[name])
        for run in runs
        if (name := f"train {suite}/{method}/seed_{run.seed}") in cells
    ]
    if not pairs:
        return None
    missing = [(run, cell) for run, cell in pairs if not cell.is_finished()]
    frames = sum(cell.frames - cell.done_frames for _, cell in missing)
    return Row(
        suite=suite,
        method=method,
        agent=pairs[0][0].composed.config.agent.name,
        runs=len(pairs),
        finished=len(pairs) - len(missing),
        reused=sum(run.reused for run, _ in pairs),
        frames=pairs[0][1].frames,
        rate=rate,
        hours=0.0 if not frames else frames / rate / 3600 if rate else None,
        memory=pairs[0][1].resources.memory,
        disk=sum(checkpoint_disk(run) for run, _ in missing),
    )


def _table(rows: Sequence[Row]) -> str:
    head = ["suite", "method", "agent", "runs", "finished", "reused", "frames", "frames/s", "hours"]
    lines = [[*head, "memory a run", "disk"]]
    for row in rows:
        rate = f"{row.rate:,.0f}" if row.rate else "?"
        hours = "?" if row.hours is None else f"{row.hours:.1f}"
        counts = [str(row.runs), str(row.finished), str(row.reused), f"{row.frames:,}"]
        sizes = [human_size(row.memory), human_size(row.disk)]
        lines.append([row.suite, row.method, row.agent, *counts, rate, hours, *sizes])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place < 3 else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
