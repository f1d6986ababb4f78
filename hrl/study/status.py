"""Say how far each cell of a study is, from its run folder alone."""

from __future__ import annotations

import json
from collections import Counter

from hrl.run.errors import CONTINUE
from hrl.study.cells import Cell
from hrl.study.plan import Plan


def cell_state(cell: Cell) -> str:
    """Return "finished", "running", "failed", "stopped" or "missing"."""
    if cell.is_finished():
        return "finished"
    if cell.is_running():
        return "running"
    code = _exit_code(cell)
    if code not in (None, 0):
        return "stopped" if cell.done_frames and code in CONTINUE else "failed"
    return "stopped" if cell.frames and cell.done_frames else "missing"


def status_text(plan: Plan) -> str:
    """Return one line a cell and a line of sums."""
    states = {cell.name: cell_state(cell) for cell in plan.cells}
    lines = [f"{states[cell.name]:<9} {_progress(cell)} {cell.name}" for cell in plan.cells]
    counts = Counter(states.values())
    sums = ", ".join(f"{count} {state}" for state, count in counts.items())
    return "\n".join([*lines, f"{len(states)} cells: {sums}"])


def _progress(cell: Cell) -> str:
    if not cell.frames:
        return " " * 4
    return f"{min(100, 100 * cell.done_frames // cell.frames):>3}%"


def _exit_code(cell: Cell) -> int | None:
    try:
        return int(json.loads(cell.log.with_suffix(".json").read_text())["exit_code"])
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
