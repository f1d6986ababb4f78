"""Look up the returns of random play, which scores are normalised by."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from envs.resources import REFERENCE_SCORES
from hrl.reporting.suite_record import RunFolderError, SuiteRecord
from hrl.reporting.tables import read_scores

RANDOM_METHOD = "random"


def has_reference_scores(suite: str, folder: Path = REFERENCE_SCORES) -> bool:
    """Return whether SUITE.csv says what random play earns on a suite."""
    return (folder / f"{suite}.csv").exists()


class RandomPlay:
    """Return the mean returns of random play on the tasks of a suite.

    They come from runs of the method `random`, and of tasks that those did not play from SUITE.csv.
    A task's name is unique within its suite, so that splits play no part: fine-tuning makes
    training tasks of held-out ones.

    Args:
        played: episodes of runs of the method `random`, each with its suite's name.
        reference_scores: folder of SUITE.csv.
    """

    def __init__(self, played: Iterable[tuple[str, pd.DataFrame]], reference_scores: Path) -> None:
        self._played = list(played)
        self._folder = reference_scores

    def source(self, suite: str) -> str:
        """Return in words where the returns of a suite come from."""
        played = any(name == suite for name, _ in self._played)
        return f"method {RANDOM_METHOD!r} among these runs" if played else self._stored(suite).name

    def by_task(self, suite: str) -> dict[str, float]:
        """Return the mean return by task.

        Raises:
            RunFolderError: random play was never measured on the suite.
        """
        played = [table for name, table in self._played if name == suite]
        known: dict[str, float] = {}
        if has_reference_scores(suite, self._folder):
            known |= _means(read_scores(self._stored(suite)))
        elif not played:
            raise RunFolderError(
                f"the return of random play on suite {suite!r} is unknown: add a run of method "
                f"{RANDOM_METHOD!r} to the report, or measure it once into {self._stored(suite)}"
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

    def _stored(self, suite: str) -> Path:
        return self._folder / f"{suite}.csv"


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
