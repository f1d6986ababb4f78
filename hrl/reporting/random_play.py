"""Look up the returns of random play, which scores are normalised by."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from envs.resources import reference_scores
from hrl.reporting.suite_record import RunFolderError, SuiteRecord
from hrl.reporting.tables import read_scores

RANDOM_METHOD = "random"


class RandomPlay:
    """Return the mean returns of random play on the tasks of a suite.

    They come from runs of the method `random`, and of tasks that those did not play from SUITE.csv.
    A task's name is unique within its suite, so that splits play no part: fine-tuning makes
    training tasks of held-out ones.

    Args:
        played: episodes of runs of the method `random`, each with its suite's name.
        folder: of SUITE.csv; see `envs.resources.reference_scores`.
    """

    def __init__(
        self, played: Iterable[tuple[str, pd.DataFrame]], folder: Path | None = None
    ) -> None:
        self._played = list(played)
        self._folder = folder

    def source(self, suite: str) -> str:
        """Return in words where the returns of a suite come from."""
        stored = reference_scores(suite, self._folder)
        if not any(name == suite for name, _ in self._played):
            return stored.name
        rest = f", and {stored.name} for tasks that it did not play" if stored.exists() else ""
        return f"method {RANDOM_METHOD!r} among these runs{rest}"

    def by_task(self, suite: str) -> dict[str, float]:
        """Return the mean return by task.

        Raises:
            RunFolderError: random play was never measured on the suite.
        """
        played = [table for name, table in self._played if name == suite]
        known: dict[str, float] = {}
        stored = reference_scores(suite, self._folder)
        if stored.exists():
            known |= _means(read_scores(stored))
        elif not played:
            raise RunFolderError(
                f"the return of random play on suite {suite!r} is unknown: add a run of method "
                f"{RANDOM_METHOD!r} to the report, or measure it once into {stored}"
            )
        return known | (_means(pd.concat(played)) if played else {})

    def by_place(self, suite: SuiteRecord, scores: pd.DataFrame) -> dict[tuple[str, str], float]:
        """Return the mean return by (split, task) of a suite.

        Args:
            suite: the suite.
            scores: episodes whose tasks must be among them.

        Raises:
            RunFolderError: random play was not measured on one of these tasks, or reaches the
                suite's reference return there, so that no score is defined.
        """
        means = self.by_task(suite.name)
        source = self.source(suite.name)
        for split, task in dict.fromkeys(zip(scores["split"], scores["task"], strict=True)):
            if task not in means:
                raise RunFolderError(
                    f"{source}: no random return for split {split!r}, task {task!r}"
                )
            _check_below(means, suite, split, task, source)
        return {
            (split, task.name): means[task.name]
            for split, tasks in suite.splits.items()
            for task in tasks
            if task.name in means
        }


def _means(rows: pd.DataFrame) -> dict[str, float]:
    """Return the mean return of random play by task."""
    returns = rows[rows["method"] == RANDOM_METHOD].groupby("task")["return"]
    return {str(task): float(group.mean()) for task, group in returns}


def _check_below(
    means: Mapping[str, float], suite: SuiteRecord, split: str, task: str, source: str
) -> None:
    if means[task] >= suite.reference_return:
        raise RunFolderError(
            f"{source}: the random return of split {split!r}, task {task!r} is {means[task]:g}, "
            f"not below the suite's reference_return {suite.reference_return:g}: no score is "
            "defined"
        )
