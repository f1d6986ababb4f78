"""Prepare the runs for the report: scores per run and task, the summary, one style per method."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import pandas as pd

from hrl.reporting.comparisons import Comparisons, compare_methods
from hrl.reporting.finetuned import FinetunedRun, measure_finetuned
from hrl.reporting.runs import Runs
from hrl.reporting.summary import Summary, few_runs_note, summarise, task_scores

# Okabe and Ito's colours, told apart under all common kinds of colour blindness; their yellow is
# too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BASELINE_COLOURS = ("#8A8F98", "#B9BDC4", "#5B6068")


@dataclass(frozen=True)
class MethodStyle:
    """Hold colour, marker and line of a method, the same in every figure."""

    colour: str
    marker: str
    line: str


@dataclass(frozen=True)
class Study:
    """Hold the runs with what every figure needs of them.

    table: scores per run and task (see `task_scores`).  styles: the style of each method.
    comparisons: of all pairs of methods.  finetuned: measurements of the fine-tuning runs.
    """

    runs: Runs
    table: pd.DataFrame
    summary: Summary
    styles: Mapping[str, MethodStyle]
    comparisons: Comparisons
    finetuned: tuple[FinetunedRun, ...]

    @property
    def compared(self) -> list[str]:
        """Return the methods that are compared: those that learned something, else all."""
        return self.runs.trained_methods or self.runs.methods

    def methods_on(self, split: str, among: Iterable[str] | None = None) -> list[str]:
        """Return the methods evaluated on a split, in the report's order."""
        evaluated = set(self.table.loc[self.table["split"] == split, "method"])
        return [
            method
            for method in (self.runs.methods if among is None else among)
            if method in evaluated
        ]


def study_of(runs: Runs) -> Study:
    """Summarise the runs once and give every method its style."""
    table = task_scores(runs)
    return Study(
        runs,
        table,
        summarise(runs),
        method_styles(runs),
        compare_methods(runs, table),
        measure_finetuned(runs),
    )


def method_styles(runs: Runs) -> dict[str, MethodStyle]:
    """Give methods colours in their order, and grey to methods that never learned.

    Past six methods, lines and markers differ too.
    """
    trained = runs.trained_methods
    fixed = [method for method in runs.methods if method not in trained]
    lines = [line for line in ("-", "--", "-.", ":") for _ in COLOURS]
    styles = {
        method: MethodStyle(colour, marker, line)
        for method, colour, marker, line in zip(
            trained, cycle(COLOURS), cycle(MARKERS), cycle(lines), strict=False
        )
    }
    greys = zip(fixed, cycle(BASELINE_COLOURS), cycle(("x", "+", "1")), strict=False)
    return styles | {method: MethodStyle(colour, marker, ":") for method, colour, marker in greys}


def evidence(study: Study, methods: Iterable[str], splits: Iterable[str] | None = None) -> str:
    """Say for a caption how many runs and episodes stand behind a figure."""
    methods = list(methods)
    rows = study.table[study.table["method"].isin(methods)]
    if splits is not None:
        rows = rows[rows["split"].isin(list(splits))]
    runs = rows.groupby("method")["run"].nunique()
    counts = ", ".join(f"{method} {runs[method]}" for method in methods if method in runs)
    few = int(rows["episodes"].min())
    many = int(rows["episodes"].max())
    per_task = f"{few}" if few == many else f"{few} to {many}"
    return (
        f"Runs per method: {counts}; {per_task} greedy {plural(many, 'episode')} per run and task, "
        f"{int(rows['episodes'].sum()):,} in all."
    )


def note_on(study: Study, methods: Iterable[str]) -> str:
    """Return the warning about too few runs, for methods that learned something."""
    note = few_runs_note(study.runs, [method for method in methods if method in study.compared])
    return f"{note}." if note else ""


def plural(count: int, noun: str) -> str:
    """Return the noun as it stands behind a count."""
    return noun if count == 1 else f"{noun}s"


def listing(names: Sequence[str]) -> str:
    """Return names as a reader would write them in a sentence."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def words(name: str) -> str:
    """Return the name of a split or metric as a reader would write it."""
    return name.replace("_", " ")
