"""Run folders on disk -> `Runs`: everything the report is made of, checked for what would make it
misleading.
"""

import glob
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from envs.resources import REFERENCE_SCORES
from hrl.reporting.suite_record import RunFolderError, SuiteRecord, first_difference, read_suite
from hrl.reporting.tables import read_json_lines, read_mapping, read_scores, read_skill_usage

RANDOM_METHOD = "random"


@dataclass(frozen=True)
class Run:
    """One run folder. Tables of files that a run need not have (metrics, timing, skill usage) are
    then empty.
    """

    path: Path
    method: str
    seed: int
    suite: SuiteRecord
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    scores: pd.DataFrame
    metrics: pd.DataFrame
    timing: pd.DataFrame
    skill_usage: pd.DataFrame
    videos: tuple[Path, ...]

    @property
    def trained(self) -> bool:
        """Whether the run learned something (it logged metrics), as opposed to a fixed policy."""
        return not self.metrics.empty

    @property
    def frames(self) -> int:
        """Control steps of training behind the checkpoint whose scores count: the last one
        evaluated.
        """
        return int(self.scores["frames"].max())


@dataclass(frozen=True)
class Runs:
    """Runs of one suite, ordered by method (trained methods first) and seed, and the return of
    random play per task.

    `scores` holds the last checkpoint's rows of every run, with a column `run` (the folder's name).
    `random_returns` maps (split, task) to R_random; `random_source` says where it was measured.
    """

    runs: tuple[Run, ...]
    suite: SuiteRecord
    scores: pd.DataFrame
    random_returns: Mapping[tuple[str, str], float]
    random_source: str

    @property
    def methods(self) -> list[str]:
        """Every method, the trained ones first, each group in alphabetical order."""
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def trained_methods(self) -> list[str]:
        """Methods that learned something, in alphabetical order."""
        return list(dict.fromkeys(run.method for run in self.runs if run.trained))

    @property
    def splits(self) -> list[str]:
        """Splits that were evaluated, in the suite's order."""
        scored = set(self.scores["split"])
        return [split for split in self.suite.splits if split in scored]

    def of(self, method: str) -> list[Run]:
        """The runs of one method, by seed."""
        return [run for run in self.runs if run.method == method]


def load_runs(paths: Iterable[str | Path], baselines: str | Path = REFERENCE_SCORES) -> Runs:
    """Read run folders, given as folders, globs or parents of run folders.

    R_random comes from a method named `random` among them, else from `<baselines>/<suite>.csv`.
    Raises RunFolderError (a ValueError) naming the file and column that is missing or malformed,
    and for runs that cannot stand in one report: different suites, the same method and seed twice,
    a split evaluated on some tasks only.
    """
    runs = [read_run(folder) for folder in find_run_folders(paths)]
    _check_one_suite(runs)
    _check_seeds_differ(runs)
    _check_same_evaluation(runs)
    trained = {run.method for run in runs if run.trained}
    runs.sort(key=lambda run: (run.method not in trained, run.method, run.seed))
    scores = pd.concat([_last_checkpoint(run) for run in runs], ignore_index=True)
    returns, source = _random_returns(scores, runs[0].suite, Path(baselines))
    return Runs(tuple(runs), runs[0].suite, scores, returns, source)


def find_run_folders(paths: Iterable[str | Path]) -> list[Path]:
    """Folders with a config.yaml among or below the given folders and globs, each once, in sorted
    order.
    """
    given = [Path(path) for path in paths]
    if not given:
        raise RunFolderError("no run folder was given")
    found: dict[Path, Path] = {}
    for path in given:
        folders = [folder for match in _matches(path) for folder in _run_folders(match)]
        if not folders:
            raise RunFolderError(
                f"{path}: no run folder there (a folder with a config.yaml and a scores.csv)"
            )
        found.update((folder.resolve(), folder) for folder in folders)
    return [found[key] for key in sorted(found)]


def read_run(folder: Path) -> Run:
    """One run folder. Raises RunFolderError naming the file and what is wrong with it."""
    config = read_mapping(folder / "config.yaml", yaml.safe_load)
    environment = folder / "environment.json"
    suite = read_suite(config, folder / "config.yaml")
    method, seed = _method(config, folder), _seed(config, folder)
    if not (folder / "scores.csv").exists():
        raise RunFolderError(f"{folder / 'scores.csv'}: no such file; evaluate the run first")
    scores = read_scores(folder / "scores.csv")
    _check_scores(scores, suite, method, seed, folder / "scores.csv")
    usage = read_skill_usage(folder / "skill_usage.csv")
    for split, rows in usage.groupby("split"):
        known = suite.task_names(str(split)) if split in suite.splits else []
        _check_known(set(rows["task"]), known, f"split {split!r}", folder / "skill_usage.csv")
    return Run(
        path=folder,
        method=method,
        seed=seed,
        suite=suite,
        config=config,
        environment=read_mapping(environment, json.loads) if environment.exists() else {},
        scores=scores,
        metrics=read_json_lines(folder / "metrics.jsonl", ("frames",)),
        timing=read_json_lines(folder / "timing.jsonl", ("frames", "seconds")),
        skill_usage=usage,
        videos=tuple(sorted((folder / "videos").glob("*.mp4"))),
    )


def _matches(path: Path) -> list[Path]:
    return (
        [path]
        if path.exists()
        else sorted(Path(match) for match in glob.glob(str(path), recursive=True))
    )


def _run_folders(path: Path) -> Iterator[Path]:
    """Hidden folders are left out (Hydra keeps a config.yaml of its own in one), and so is what
    lies inside a run.
    """
    if (path / "config.yaml").is_file():
        yield path
    elif path.is_dir():
        for child in sorted(path.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _run_folders(child)


def _method(config: Mapping[str, Any], folder: Path) -> str:
    agent = config.get("agent")
    name = config.get("method") or (agent.get("name") if isinstance(agent, Mapping) else None)
    if not isinstance(name, str) or not name:
        raise RunFolderError(
            f"{folder / 'config.yaml'}: neither `method` nor `agent.name` names the method"
        )
    return name


def _seed(config: Mapping[str, Any], folder: Path) -> int:
    seed = config.get("seed")
    if not isinstance(seed, int):
        raise RunFolderError(f"{folder / 'config.yaml'}: seed is {seed!r}, not a whole number")
    return seed


def _check_scores(
    scores: pd.DataFrame, suite: SuiteRecord, method: str, seed: int, path: Path
) -> None:
    for column, expected in (("method", method), ("seed", seed)):
        others = sorted(set(scores[column]) - {expected})
        if others:
            raise RunFolderError(
                f"{path}: column {column!r} has {others[0]!r}, but config.yaml says {expected!r}"
            )
    unknown = sorted(set(scores["split"]) - set(suite.splits))
    if unknown:
        raise RunFolderError(
            f"{path}: column 'split' has {unknown[0]!r}; suite {suite.name} has {list(suite.splits)}"
        )
    last = scores[scores["frames"] == scores["frames"].max()]
    for (split, intervention), rows in last.groupby(["split", "intervention"]):
        _check_tasks(
            set(rows["task"]),
            suite.task_names(str(split)),
            f"split {split!r}, {intervention=!s}",
            path,
        )


def _check_tasks(scored: set[str], expected: list[str], where: str, path: Path) -> None:
    _check_known(scored, expected, where, path)
    missing = [task for task in expected if task not in scored]
    if missing:
        raise RunFolderError(
            f"{path}: column 'task', {where}: {missing[0]!r} was not evaluated at the last checkpoint; "
            "a split counts only when all its tasks were"
        )


def _check_known(tasks: set[str], known: list[str], where: str, path: Path) -> None:
    unknown = sorted(tasks - set(known))
    if unknown:
        raise RunFolderError(f"{path}: column 'task', {where}: {unknown[0]!r} is none of {known}")


def _check_one_suite(runs: list[Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if run.suite.name != first.suite.name:
            raise RunFolderError(
                f"one report shows one suite: {first.path} is of suite {first.suite.name!r}, "
                f"{run.path} of suite {run.suite.name!r}"
            )
        place = first_difference(first.config["suite"], run.config["suite"])
        if place:
            raise RunFolderError(
                f"suite {run.suite.name!r} is not the same in {first.path} and {run.path}: {place}"
            )


def _check_seeds_differ(runs: list[Run]) -> None:
    seen: dict[tuple[str, int], Path] = {}
    for run in runs:
        twin = seen.setdefault((run.method, run.seed), run.path)
        if twin != run.path:
            raise RunFolderError(
                f"{twin} and {run.path} are both method {run.method!r} with seed {run.seed}: runs of one method need different "
                "seeds, and methods that differ need different names (config key `method`)"
            )


def _check_same_evaluation(runs: list[Run]) -> None:
    """Runs of one method are averaged, so each must have been evaluated on the same splits and
    interventions.
    """
    seen: dict[str, tuple[Path, set[tuple[str, str]]]] = {}
    for run in runs:
        rows = _last_checkpoint(run)
        evaluated = set(zip(rows["split"], rows["intervention"], strict=True))
        other, expected = seen.setdefault(run.method, (run.path, evaluated))
        for split, intervention in sorted(evaluated ^ expected):
            lacking, having = (
                (run.path, other) if (split, intervention) in expected else (other, run.path)
            )
            raise RunFolderError(
                f"{lacking / 'scores.csv'}: nothing for split {split!r}, intervention {intervention!r} at the last "
                f"checkpoint, but {having} of the same method {run.method!r} has it"
            )


def _last_checkpoint(run: Run) -> pd.DataFrame:
    """Sorted, so that no sum depends on the order in which the episodes were written."""
    rows = run.scores[run.scores["frames"] == run.frames]
    return rows.sort_values(["split", "task", "intervention", "episode"]).assign(run=str(run.path))


def _random_returns(
    scores: pd.DataFrame, suite: SuiteRecord, baselines: Path
) -> tuple[dict[tuple[str, str], float], str]:
    stored = baselines / f"{suite.name}.csv"
    if (scores["method"] == RANDOM_METHOD).any():
        table, source = scores, f"method {RANDOM_METHOD!r} among these runs"
    elif stored.exists():
        table, source = read_scores(stored), stored.name
    else:
        raise RunFolderError(
            f"the return of random play on suite {suite.name!r} is unknown: add a run of method {RANDOM_METHOD!r} to the "
            f"report, or measure it once into {stored}"
        )
    rows = table[(table["method"] == RANDOM_METHOD) & (table["intervention"] == "none")]
    means = {
        (str(split), str(task)): float(group.mean())
        for (split, task), group in rows.groupby(["split", "task"])["return"]
    }
    for split, task in dict.fromkeys(zip(scores["split"], scores["task"], strict=True)):
        if (split, task) not in means:
            raise RunFolderError(f"{source}: no random return for split {split!r}, task {task!r}")
        if means[split, task] == suite.reference_return:
            raise RunFolderError(
                f"{source}: the random return of split {split!r}, task {task!r} equals the reference return "
                f"{suite.reference_return:g}: no score is defined"
            )
    return means, source
