"""Measure what each change of dynamics or looks costs, by how severe it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrl.reporting import statistics
from hrl.reporting.page import Folded, Part, Table, interval, number, quantity, text
from hrl.reporting.statistics import Array
from hrl.reporting.study import Study, words
from hrl.reporting.suite_record import TaskRecord
from hrl.reporting.summary import Ends, ends, generator


@dataclass(frozen=True)
class VariedTask:
    """Name a task that varies a training task.

    kind, severity: the parts of its split's name: `dynamics_strong` is of kind dynamics.
    change: what varies, such as mass.  value: by how much.
    """

    split: str
    task: str
    training_task: str
    kind: str
    severity: str
    change: str
    value: tuple[Any, ...]

    @property
    def shown_value(self) -> str:
        """Return the value as text."""
        return ", ".join(
            f"{one:g}" if isinstance(one, int | float) else str(one) for one in self.value
        )


@dataclass(frozen=True)
class ChangeOfScore:
    """Hold how the score of a method differs from that on the training task, unchanged.

    change: mean over runs of each run's difference.  ci95: its interval over runs.
    """

    task: VariedTask
    method: str
    unchanged: float
    score: float
    ci95: Ends

    @property
    def change(self) -> float:
        """Return how much score the variation adds; below 0 it costs."""
        return self.score - self.unchanged


def varied_tasks(study: Study) -> list[VariedTask]:
    """Return the evaluated tasks that vary a training task, in the suite's order."""
    suite = study.runs.suite
    return [
        _varied(split, task, training)
        for split in study.runs.splits
        for task in suite.splits[split]
        if (training := suite.varied_task(task)) is not None
    ]


def changes_of_score(study: Study, method: str) -> list[ChangeOfScore]:
    """Return the changes of a method's score on every varied task that it was evaluated on."""
    scores = _run_scores(study, method)
    found = []
    for task in varied_tasks(study):
        varied = scores.get((task.split, task.task))
        plain = scores.get(("train", task.training_task))
        if varied is not None and plain is not None:
            of_it = statistics.interval(
                (varied - plain)[:, None],
                statistics.mean_score,
                generator(method, task.split, task.task),
                resamples=2000,
            )
            means = float(plain.mean()), float(varied.mean())
            found.append(ChangeOfScore(task, method, *means, ends(of_it)))
    return found


def severity_tables(study: Study) -> list[Part]:
    """Return the numbers of the heatmaps; nothing without varied tasks."""
    found = [one for method in study.compared for one in changes_of_score(study, method)]
    if not found:
        return []
    labels = ("kind", "severity", "change", "to", "method")
    header = [
        *map(text, labels),
        *(number(label) for label in ("unchanged", "score", "difference", "95 % CI")),
    ]
    rows = [
        [
            text(words(one.task.kind)),
            text(words(one.task.severity)),
            text(words(one.task.change)),
            text(one.task.shown_value),
            text(one.method),
            quantity(one.unchanged),
            quantity(one.score),
            quantity(one.change),
            interval(one.ci95),
        ]
        for one in found
    ]
    return [
        Folded("Every change of dynamics and looks in numbers", [Table("severity", header, rows)])
    ]


# Private functions.


def _varied(split: str, task: TaskRecord, training_task: str) -> VariedTask:
    kind, _, severity = split.partition("_")
    variations: Mapping[str, Any] = task.variations
    names = sorted(variations)
    value = tuple(variations[name] for name in names)
    return VariedTask(split, task.name, training_task, kind, severity, " + ".join(names), value)


def _run_scores(study: Study, method: str) -> dict[tuple[str, str], Array]:
    """Return (split, task) -> [run], the runs in one order."""
    rows = study.table[study.table["method"] == method].sort_values("run")
    return {
        (str(split), str(task)): np.asarray(group["score"], dtype=np.float64)
        for (split, task), group in rows.groupby(["split", "task"])
    }
