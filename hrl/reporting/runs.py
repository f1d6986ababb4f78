"""Read run folders into `Runs`, the report's data, and refuse combinations that would mislead."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from hrl.reporting.controls import read_controls
from hrl.reporting.random_play import RANDOM_METHOD, RandomPlay
from hrl.reporting.suite_record import RunFolderError, SuiteRecord, first_difference, read_suite
from hrl.reporting.tables import (
    is_number,
    read_json_lines,
    read_learning_curves,
    read_mapping,
    read_scores,
    read_shuffled_scores,
    read_skill_usage,
)
from hrl.run.errors import FolderError
from hrl.run.folder import RunFolder, check_format, find_run_folders

SAME_BUDGET = 1.02
"""How far apart budgets are that still count as the same: a run ends with a whole rollout."""


@dataclass(frozen=True)
class Run:
    """Hold one run folder.

    Tables of files that a run need not have (shuffled scores, metrics, timing, skill usage) are
    then empty.
    """

    path: Path
    method: str
    seed: int
    suite: SuiteRecord
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    scores: pd.DataFrame
    shuffled: pd.DataFrame
    metrics: pd.DataFrame
    timing: pd.DataFrame
    skill_usage: pd.DataFrame
    videos: tuple[Path, ...]

    @property
    def trained(self) -> bool:
        """Return whether the run logged metrics, so that it learned something."""
        return not self.metrics.empty

    @property
    def finetune(self) -> Mapping[str, Any]:
        """Return what a fine-tuning run started from; empty for other runs."""
        record = self.config.get("finetune")
        return record if isinstance(record, Mapping) else {}

    @property
    def revision(self) -> str:
        """Return the code revision, marked where the code had uncommitted changes."""
        revision = str(self.environment.get("revision", "unknown"))[:12]
        return f"{revision} + changes" if self.environment.get("dirty") else revision

    @property
    def frames(self) -> int:
        """Return the control steps of training behind the last checkpoint that was evaluated."""
        return int(self.scores["frames"].max())

    @property
    def trained_frames(self) -> int:
        """Return the control steps that it has been trained for, which may be more by now."""
        return int(self.metrics["frames"].max()) if self.trained else 0


@dataclass(frozen=True)
class Runs:
    """Hold the runs of one suite, ordered by method (trained methods, controls, others) and seed.

    scores: the last checkpoint's undisturbed episodes of every run, with a column `run` (the
        folder's name).
    shuffled: the same of its episodes with shuffled tasks or high-level actions.
    random_returns: (split, task) -> R_random.  random_source: where it was measured.
    left_out: folders of runs that were not evaluated.
    finetuned: fine-tuning runs, whatever they learned. Where there are no others they are also
        `runs`.
    random_play: returns of random play on any suite.
    controls: what each control is there for, by method.
    """

    runs: tuple[Run, ...]
    suite: SuiteRecord
    scores: pd.DataFrame
    random_returns: Mapping[tuple[str, str], float]
    random_source: str
    shuffled: pd.DataFrame
    random_play: RandomPlay
    left_out: tuple[Path, ...] = ()
    finetuned: tuple[Run, ...] = ()
    controls: Mapping[str, str] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """Return every method: trained ones, controls, others, each in alphabetical order."""
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def trained_methods(self) -> list[str]:
        """Return the methods that learned something: controls after the others."""
        return list(dict.fromkeys(run.method for run in self.runs if run.trained))

    @property
    def splits(self) -> list[str]:
        """Return the splits that were evaluated, in the suite's order."""
        scored = set(self.scores["split"])
        return [split for split in self.suite.splits if split in scored]

    def of(self, method: str) -> list[Run]:
        """Return the runs of one method, by seed."""
        return [run for run in self.runs if run.method == method]

    @property
    def everything(self) -> list[Run]:
        """Return all runs, fine-tuning runs included, each once."""
        return list({run.path: run for run in (*self.runs, *self.finetuned)}.values())


def averaged_with(run: Run) -> tuple[str, str]:
    """Return what runs have in common that are averaged: the target of fine-tuning, the method."""
    target = f"{run.suite.name} {run.finetune['target']}" if run.finetune else ""
    return target, run.method


def same_budget(frames: Iterable[int]) -> bool:
    """Return whether runs of so many control steps count as runs of one budget."""
    budgets = list(frames)
    return max(budgets) <= SAME_BUDGET * min(budgets)


def load_runs(
    paths: Iterable[str | Path],
    reference_scores: str | Path | None = None,
    controls: Mapping[str, str] | None = None,
) -> Runs:
    """Read run folders, given as folders, globs or parents of run folders.

    R_random comes from a method named `random` among them, and of tasks that it did not play from
    SUITE.csv. Runs without scores are left out, and named in the result. Fine-tuning runs
    are apart from the others, and may be of several suites and targets beside them.

    Args:
        paths: of the runs.
        reference_scores: folder of SUITE.csv; see `envs.resources.reference_scores`.
        controls: notes on controls by method; by default those of the studies that the runs lie in.

    Raises:
        RunFolderError: no run was evaluated; a file, a column or the folder of reference scores is
            missing or malformed, which it names; or the runs cannot stand in one report, because
            they are of different suites, one method has the same seed twice or runs of different
            budgets, or a split was evaluated on some tasks only.
    """
    if reference_scores and not Path(reference_scores).is_dir():
        raise RunFolderError(f"{reference_scores}: no such folder; it is to hold SUITE.csv")
    folders = _folders(paths)
    evaluated = [folder for folder in folders if RunFolder(folder).scores.exists()]
    if not evaluated:
        missing = RunFolder(folders[0]).scores
        raise RunFolderError(f"{missing}: no such file; evaluate the run first")
    read = [read_run(folder) for folder in evaluated]
    finetuned = tuple(run for run in read if run.finetune)
    runs = [run for run in read if not run.finetune] or list(finetuned)
    _check_one_suite(runs)
    _check_seeds_differ(read)
    _check_same_budgets(read)
    _check_same_evaluation(runs)
    notes = read_controls(folders) if controls is None else controls
    notes = {run.method: notes[run.method] for run in runs if run.method in notes}
    trained = {run.method for run in runs if run.trained}
    runs.sort(
        key=lambda run: (run.method not in trained, run.method in notes, run.method, run.seed)
    )
    scores = pd.concat([_last_checkpoint(run, run.scores) for run in runs], ignore_index=True)
    shuffled = pd.concat([_last_checkpoint(run, run.shuffled) for run in runs], ignore_index=True)
    played = [
        (run.suite.name, _last_checkpoint(run, run.scores))
        for run in runs
        if run.method == RANDOM_METHOD
    ]
    random_play = RandomPlay(played, Path(reference_scores) if reference_scores else None)
    suite = runs[0].suite
    return Runs(
        tuple(runs),
        suite,
        scores,
        random_play.by_place(suite, scores),
        random_play.source(suite.name),
        shuffled,
        random_play,
        tuple(folder for folder in folders if folder not in evaluated),
        finetuned,
        notes,
    )


def left_out_note(runs: Runs) -> str:
    """Return a sentence that names the runs without scores; empty when there are none."""
    if not runs.left_out:
        return ""
    names = ", ".join(str(path) for path in runs.left_out)
    return f"Left out, because they were not evaluated: {names}."


def read_run(folder: Path) -> Run:
    """Read one run folder.

    Raises:
        RunFolderError: it names the file and what is wrong with it.
    """
    files = RunFolder(folder)
    config = _read_config(files)
    suite = read_suite(config, files.config)
    method = _method(config, files.config)
    seed = _seed(config, files.config)
    scores = read_scores(files.scores)
    shuffled = read_shuffled_scores(files.shuffled_scores)
    _check_identity(scores, suite, method, seed, files.scores)
    _check_identity(shuffled, suite, method, seed, files.shuffled_scores)
    _check_all_tasks(scores, suite, ["split"], files.scores)
    _check_all_tasks(shuffled, suite, ["split", "intervention"], files.shuffled_scores)
    metrics, timing = _read_logs(files)
    _check_finetune(config, files.config)
    return Run(
        path=folder,
        method=method,
        seed=seed,
        suite=suite,
        config=config,
        environment=_read_environment(files.environment),
        scores=scores,
        shuffled=shuffled,
        metrics=metrics,
        timing=timing,
        skill_usage=_read_usage(files.skill_usage, suite),
        videos=tuple(sorted(files.videos.glob("*.mp4"))),
    )


def _read_config(files: RunFolder) -> dict[str, Any]:
    config = read_mapping(files.config, yaml.safe_load)
    try:
        check_format(files.config, config.pop("format", 1))
    except FolderError as error:
        raise RunFolderError(str(error)) from error
    return config


def _read_environment(path: Path) -> dict[str, Any]:
    """Return what is recorded of a run's environment; empty where nothing is."""
    if not path.exists():
        return {}
    content = read_mapping(path, json.loads)
    counts = content.get("parameters", {})
    if not isinstance(counts, Mapping):
        raise RunFolderError(f"{path}: parameters is {counts!r}, not a count by part")
    for part, count in counts.items():
        if type(count) is not int:
            raise RunFolderError(f"{path}: parameters.{part} is {count!r}, not a whole number")
    return content


def _check_finetune(config: Mapping[str, Any], path: Path) -> None:
    """Check what a fine-tuning run records of its source, as far as reports read it."""
    record = config.get("finetune")
    if record is None:
        return
    if not isinstance(record, Mapping):
        raise RunFolderError(f"{path}: finetune is {record!r}, not a mapping of keys to values")
    for key in ("source_method", "source_suite", "target", "preset"):
        if not isinstance(record.get(key), str):
            raise RunFolderError(f"{path}: finetune.{key} is {record.get(key)!r}, not text")
    reference = record.get("source_reference_return")
    if not is_number(reference):
        raise RunFolderError(
            f"{path}: finetune.source_reference_return is {reference!r}, not a finite number"
        )


def _read_usage(path: Path, suite: SuiteRecord) -> pd.DataFrame:
    usage = read_skill_usage(path)
    for split, rows in usage.groupby("split"):
        known = suite.task_names(str(split)) if split in suite.splits else []
        _check_known(set(rows["task"]), known, f"split {split!r}", path)
    return usage


def _folders(paths: Iterable[str | Path]) -> list[Path]:
    """Return the named run folders, in sorted order."""
    try:
        return sorted(find_run_folders(paths), key=Path.resolve)
    except FolderError as error:
        raise RunFolderError(str(error)) from error


def _read_logs(files: RunFolder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return metrics and timing, of an archived run from its thinned learning curves."""
    if files.learning_curves.exists():
        curves = read_learning_curves(files.learning_curves)
        return curves.drop(columns="seconds"), curves[["frames", "seconds"]].dropna()
    return (
        read_json_lines(files.metrics, ("frames",)),
        read_json_lines(files.timing, ("frames", "seconds")),
    )


def _method(config: Mapping[str, Any], path: Path) -> str:
    agent = config.get("agent")
    name = config.get("method") or (agent.get("name") if isinstance(agent, Mapping) else None)
    if not isinstance(name, str) or not name:
        raise RunFolderError(f"{path}: neither `method` nor `agent.name` names the method")
    return name


def _seed(config: Mapping[str, Any], path: Path) -> int:
    seed = config.get("seed")
    if not isinstance(seed, int):
        raise RunFolderError(f"{path}: seed is {seed!r}, not a whole number")
    return seed


def _check_identity(
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
            f"{path}: column 'split' has {unknown[0]!r}; suite {suite.name} has "
            f"{list(suite.splits)}"
        )


def _check_all_tasks(scores: pd.DataFrame, suite: SuiteRecord, keys: list[str], path: Path) -> None:
    last = scores[scores["frames"] == scores["frames"].max()]
    for values, rows in last.groupby(keys):
        where = ", ".join(f"{key} {value!r}" for key, value in zip(keys, values, strict=True))
        _check_tasks(set(rows["task"]), suite.task_names(str(values[0])), where, path)


def _check_tasks(scored: set[str], expected: list[str], where: str, path: Path) -> None:
    _check_known(scored, expected, where, path)
    missing = [task for task in expected if task not in scored]
    if missing:
        raise RunFolderError(
            f"{path}: column 'task', {where}: {missing[0]!r} was not evaluated at the last "
            "checkpoint; a split counts only when all its tasks were"
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
        if place and run.finetune:
            raise RunFolderError(
                f"{first.path} was fine-tuned to {first.finetune['target']}, {run.path} to "
                f"{run.finetune['target']}: add the runs that they started from, or report one "
                "target"
            )
        if place:
            raise RunFolderError(
                f"suite {run.suite.name!r} is not the same in {first.path} and {run.path}: {place}"
            )


def _check_seeds_differ(runs: list[Run]) -> None:
    seen: dict[tuple[str, str, int], Path] = {}
    for run in runs:
        twin = seen.setdefault((*averaged_with(run), run.seed), run.path)
        if twin != run.path:
            raise RunFolderError(
                f"{twin} and {run.path} are both method {run.method!r} with seed {run.seed}: runs "
                "of one method need different seeds, and methods that differ need different names "
                "(config key `method`)"
            )


def _check_same_budgets(runs: list[Run]) -> None:
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        other = first.setdefault(averaged_with(run), run)
        if not same_budget([other.frames, run.frames]):
            raise RunFolderError(
                f"{other.path} was evaluated after {other.frames:,} frames, {run.path} of the same "
                f"method {run.method!r} after {run.frames:,}: runs of different budgets are not "
                "averaged; report them apart, or give them different names (config key `method`)"
            )


def _check_same_evaluation(runs: list[Run]) -> None:
    """Check that each run of a method, over which is averaged, has the same kinds of episodes."""
    seen: dict[str, tuple[Path, set[tuple[str, ...]]]] = {}
    for run in runs:
        evaluated = _evaluated(run)
        other, expected = seen.setdefault(run.method, (run.path, evaluated))
        for name, *kind in sorted(evaluated ^ expected):
            lacks = (name, *kind) in expected
            lacking = run.path if lacks else other
            having = other if lacks else run.path
            raise RunFolderError(
                f"{lacking / name}: nothing for split {', intervention '.join(map(repr, kind))} at "
                f"the last checkpoint, but {having} of the same method {run.method!r} has it"
            )


def _evaluated(run: Run) -> set[tuple[str, ...]]:
    """Return (file, split) and (file, split, intervention) of the last checkpoint's episodes."""
    files = RunFolder(run.path)
    scores = _last_checkpoint(run, run.scores)
    shuffled = _last_checkpoint(run, run.shuffled)
    kinds = zip(shuffled["split"], shuffled["intervention"], strict=True)
    return {(files.scores.name, split) for split in scores["split"]} | {
        (files.shuffled_scores.name, split, intervention) for split, intervention in kinds
    }


def _last_checkpoint(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """Return the last checkpoint's rows in an order of their own.

    They are sorted, so that no sum depends on the order in which the episodes were written.
    """
    rows = table[table["frames"] == run.frames]
    keys = [key for key in ("split", "task", "intervention", "episode") if key in rows]
    return rows.sort_values(keys).assign(run=str(run.path))
