"""Turn a study into its cells, checked before any of them starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import product
from pathlib import Path

from envs import Suite
from envs.resources import reference_scores
from hrl.config import ComposedConfig, ConfigError, RunConfig, load
from hrl.overrides import as_text
from hrl.reporting.random_play import RANDOM_METHOD
from hrl.run.build import check_learns
from hrl.run.distributed import rank_config
from hrl.run.finetune import compose_finetune, read_request
from hrl.run.finetune_source import planned_source
from hrl.run.folder import expanded, refuse_file
from hrl.run.recorded_cells import recorded_cells
from hrl.study.cells import Cell, CellResources
from hrl.study.config import FinetuningConfig, MethodConfig, StudyConfig
from hrl.study.planned_run import (
    PROCESS_BYTES,
    PlannedRun,
    evaluation_memory,
    placed_run,
    training_memory,
)
from hrl.study.reuse import FinishedRuns
from hrl.study.written import check_source, check_written

SHOWN_NAMES = 8  # of cells, in an error


@dataclass(frozen=True)
class Plan:
    """Hold what a study consists of.

    Attributes:
        study: its configuration.
        runs: training runs.
        cells: the commands to run, in the order of their start.
        every_cell: all commands of the study, of which `cells` may be a choice.
    """

    study: StudyConfig
    runs: tuple[PlannedRun, ...]
    cells: tuple[Cell, ...]
    every_cell: tuple[Cell, ...]

    @property
    def folder(self) -> Path:
        """Return where the study writes."""
        return expanded(self.study.folder).absolute()

    def only(self, patterns: Sequence[str]) -> Plan:
        """Return the plan of the cells that match a pattern, and of those that they need.

        Args:
            patterns: parts of the cells' names; or, with a *, which stands for anything, their
                beginnings.

        Raises:
            ConfigError: a pattern that no cell matches.
        """
        by_name = {cell.name: cell for cell in self.cells}
        for pattern in patterns:
            if not any(_matches(name, pattern) for name in by_name):
                shown = ", ".join(list(by_name)[:SHOWN_NAMES])
                more = len(by_name) - SHOWN_NAMES
                rest = f" and {more} more, which --status lists" if more > 0 else ""
                raise ConfigError(f"--only={pattern} matches no cell; they are {shown}{rest}")
        chosen = {name for name in by_name if any(_matches(name, one) for one in patterns)}
        needed = {before for name in chosen for before in _with_before(name, by_name)}
        return replace(self, cells=tuple(cell for cell in self.cells if cell.name in needed))


def make_plan(study: StudyConfig, device_gpus: int = 0, flags: Sequence[str] = ()) -> Plan:
    """Return the cells of a study: train, then evaluate, then fine-tune and evaluate again.

    Args:
        study: what is wanted.
        device_gpus: GPUs of a cell where the study does not say.
        flags: --config-dir and --import of this process, which every cell needs too.

    Raises:
        ConfigError: a run that cannot be configured, an unknown suite, split or task, or two cells
            with the same folder; names it.
    """
    return _Planner(study, device_gpus, tuple(flags)).plan()


class _Planner:
    """Make the cells of one study."""

    def __init__(self, study: StudyConfig, device_gpus: int, flags: tuple[str, ...]) -> None:
        self.study = study
        self.flags = flags
        # Absolute, as cells may start elsewhere.
        self.folder = expanded(study.folder).absolute()
        refuse_file(self.folder)
        asked = study.resources.gpus
        self.gpus = device_gpus if asked is None else asked
        self.finished = FinishedRuns(
            [expanded(root).absolute() for root in study.reuse], self.folder
        )
        self.recorded = {cell.name: cell.folder for cell in recorded_cells(self.folder)}
        self.tuned_names: dict[tuple[str, str, str, str], str] = {}

    def plan(self) -> Plan:
        runs = [
            run for name, method in self.study.columns.items() for run in self._runs(name, method)
        ]
        trained = [self._train(run) for run in runs]
        tuned: list[Cell] = []
        for name, tuning in self.study.finetuning.items():
            sources = self._sources(name, tuning, list(zip(runs, trained, strict=True)))
            tuned += self._finetune(name, tuning, sources)
        _refuse_same_folders(cell for cell in [*trained, *tuned] if cell.command != "evaluate")
        evaluated = [self._evaluate(run, cell) for run, cell in zip(runs, trained, strict=True)]
        baselines = [
            self._baseline(suite, name)
            for suite, name in product(self.study.suites, self.study.evaluation.baselines)
        ]
        self._check_random_play(runs)
        cells = (*trained, *evaluated, *baselines, *tuned)
        return Plan(self.study, tuple(runs), cells, cells)

    # Private methods.

    def _runs(self, name: str, method: MethodConfig) -> Iterator[PlannedRun]:
        for suite in method.suites or self.study.suites:
            overrides = [
                *self.study.overrides,
                *method.overrides,
                f"suite={suite}",
                as_text(f"method={name}"),
                f"frames={method.frames or self.study.frames}",
                f"threads={max(1, self.study.resources.cores // max(1, self.gpus))}",
            ]
            try:
                composed = load(overrides)
                check_learns(composed.config)
                tasks = Suite.from_dict(composed.plain["suite"])
                rank_config(composed.config, tasks, max(1, self.gpus))
            except ConfigError as error:
                raise ConfigError(f"method {name} on suite {suite}: {error}") from error
            for seed in self.study.seeds[: method.seeds]:
                yield self._run(name, composed, overrides, suite, seed)

    def _run(
        self, name: str, composed: ComposedConfig, overrides: list[str], suite: str, seed: int
    ) -> PlannedRun:
        own = self.folder / suite / name / f"seed_{seed}"
        run = placed_run(name, suite, composed, overrides, seed, own)
        if own.exists():
            check_written(own, run.composed.plain)
            return run
        before = self.recorded.get(f"train {suite}/{name}/seed_{seed}")
        found = self.finished.find(run.composed, before)
        if found is None:
            return run
        return replace(placed_run(name, suite, composed, overrides, seed, found), reused=True)

    def _resources(self, memory: int, most_gpus: int | None = None) -> CellResources:
        asked = self.study.resources.memory_gib
        gpus = self.gpus if most_gpus is None else min(self.gpus, most_gpus)
        size = memory + max(1, gpus) * PROCESS_BYTES if asked is None else int(asked * 2**30)
        return CellResources(self.study.resources.cores, size, gpus)

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name.replace(' ', '/')}.log"

    def _train(self, run: PlannedRun) -> Cell:
        name = f"train {run.suite}/{run.method}/seed_{run.seed}"
        return Cell(
            name,
            "train",
            (*run.overrides, "tracking.progress=false", *self.flags),
            run.folder,
            self._resources(training_memory(run)),
            self._log(name),
            frames=run.composed.config.frames,
        )

    def _evaluate(self, run: PlannedRun, trained: Cell) -> Cell:
        name = trained.name.replace("train", "evaluate", 1)
        splits = self._splits(run.tasks)
        return self._evaluation(name, run, (str(run.folder),), run.folder, splits, trained.name)

    def _baseline(self, suite: str, name: str) -> Cell:
        folder = self.folder / suite / name
        overrides = [*self.study.overrides, f"agent={name}", f"suite={suite}"]
        try:
            run = placed_run(name, suite, load(overrides), overrides, 0, folder)
        except ConfigError as error:
            raise ConfigError(f"baseline {name} on suite {suite}: {error}") from error
        splits = self._splits(run.tasks)
        return self._evaluation(f"evaluate {suite}/{name}", run, run.overrides, folder, splits)

    def _evaluation(
        self,
        name: str,
        run: PlannedRun,
        targets: tuple[str, ...],
        folder: Path,
        splits: tuple[str, ...],
        *after: str,
    ) -> Cell:
        wanted = self.study.evaluation
        options = (
            f"--episodes={wanted.episodes}",
            f"--splits={','.join(splits)}",
            f"--videos={wanted.videos if after else 0}",
        )
        return Cell(
            name,
            "evaluate",
            (*targets, *options, *self.flags),
            folder,
            self._resources(evaluation_memory(run, splits, wanted.episodes), most_gpus=1),
            self._log(name),
            episodes=wanted.episodes,
            splits=splits,
            after=after,
        )

    def _splits(self, suite: Suite) -> tuple[str, ...]:
        wanted = self.study.evaluation.splits
        for split in wanted:
            if split not in suite.splits:
                raise ConfigError(
                    f"evaluation.splits: suite {suite.name} has no split {split!r}; choose from "
                    f"{', '.join(suite.splits)}"
                )
        return tuple(wanted or suite.splits)

    def _check_random_play(self, runs: Iterable[PlannedRun]) -> None:
        """Refuse suites on which no score could be worked out once everything is trained."""
        if RANDOM_METHOD in self.study.evaluation.baselines:
            return
        for suite in dict.fromkeys(run.tasks.name for run in runs):
            stored = reference_scores(suite)
            if not stored.exists():
                raise ConfigError(
                    "evaluation.baselines leaves out random, and nothing else says what random "
                    f"play earns on suite {suite}, which scores are normalised by: add random, or "
                    f"measure it into {stored}"
                )

    def _check_target(self, name: str, tuning: FinetuningConfig, run: PlannedRun) -> None:
        """Refuse targets on which random play would be unknown to the report."""
        target = tuning.suite or run.suite
        stored = reference_scores(target)
        if stored.exists():
            return
        if target != run.suite:
            raise ConfigError(
                f"finetuning.{name}.suite is {target}, and no file says what random play earns "
                f"there, which scores are normalised by: measure it into {stored} (pixel-hrl "
                "suites --help)"
            )
        played = self._splits(run.tasks)
        for split, tasks in run.tasks.splits.items():
            targets = {split, *(task.name for task in tasks)} & set(tuning.tasks)
            if targets and split not in played:
                raise ConfigError(
                    f"finetuning.{name}.tasks has {min(targets)} of split {split}, which "
                    "evaluation.splits leaves out: random play would be unknown there"
                )

    def _sources(
        self, name: str, tuning: FinetuningConfig, runs: Sequence[tuple[PlannedRun, Cell]]
    ) -> list[tuple[PlannedRun, Cell]]:
        """Return the runs that fine-tuning starts from, with their cells.

        Raises:
            ConfigError: a method has none.
        """
        suites = tuning.from_suites or self.study.suites
        seeds = self.study.seeds[: tuning.seeds]
        methods = tuning.methods or list(self.study.methods)
        found = [
            (run, cell)
            for run, cell in runs
            if run.method in methods and run.suite in suites and run.seed in seeds
        ]
        lacking = [one for one in methods if one not in {run.method for run, _ in found}]
        if lacking and (tuning.methods or not found):
            raise ConfigError(
                f"finetuning.{name}: method {lacking[0]} has no run on {', '.join(suites)} to "
                "start from"
            )
        return found

    def _finetune(
        self, name: str, tuning: FinetuningConfig, sources: Sequence[tuple[PlannedRun, Cell]]
    ) -> Iterator[Cell]:
        """Yield fine-tuning cells, each followed by its evaluation."""
        checked: set[tuple[str, str]] = set()
        for run, source in sources:
            first = (run.method, run.suite) not in checked
            checked.add((run.method, run.suite))
            if first:
                self._check_target(name, tuning, run)
            for task, parts in product(tuning.tasks, tuning.parts):
                cell = self._tuned(name, tuning, run, source, task, parts)
                if first or cell.folder.exists():  # other seeds ask for the same
                    tuned = _check_finetuning(name, cell, run)
                    if first:
                        self._refuse_same_name(f"finetuning.{name}", run.suite, tuned, cell)
                label = cell.name.replace("finetune", "evaluate", 1)
                yield cell
                target = (str(cell.folder),)
                yield self._evaluation(label, run, target, cell.folder, ("train",), cell.name)

    def _refuse_same_name(self, key: str, suite: str, tuned: RunConfig, cell: Cell) -> None:
        """Refuse fine-tuning runs that a report could not tell apart, before they are trained."""
        assert tuned.finetune is not None
        target = (suite, tuned.suite["name"], tuned.finetune.target, tuned.method)
        twin = self.tuned_names.setdefault(target, cell.name)
        if twin != cell.name:
            raise ConfigError(
                f"{key}: {cell.name} and {twin} would both be method {tuned.method!r} with the "
                "same target and seeds, which a report cannot tell apart; name one by method=NAME "
                'after its preset, as in parts=["all method=NAME"]'
            )

    def _tuned(
        self,
        name: str,
        tuning: FinetuningConfig,
        run: PlannedRun,
        source: Cell,
        task: str,
        parts: str,
    ) -> Cell:
        preset, *more = parts.split()
        label = re.sub(r"[^A-Za-z0-9_.]+", "-", f"{run.method} {parts}")
        place = f"{run.suite}/finetune/{name}/{task}/{label}/seed_{run.seed}"
        folder = self.folder / place
        arguments = [f"from={run.folder}", f"task={task}", f"parts={preset}", *more]
        arguments += [f"suite={tuning.suite}"] if tuning.suite else []
        # Other settings are another method in the report; other states of parts name themselves.
        named = not any(setting.startswith("method=") for setting in more) and any(
            not setting.startswith("parts.") for setting in more
        )
        arguments += [as_text(f"method={label}")] if named else []
        arguments += [f"frames={tuning.frames}", f"folder={folder}", "tracking.progress=false"]
        cell_name = f"finetune {place}"
        return Cell(
            cell_name,
            "finetune",
            (*arguments, *self.flags),
            folder,
            source.resources,
            self._log(cell_name),
            frames=tuning.frames,
            after=(source.name,),
        )


# Private functions.


def _check_finetuning(name: str, cell: Cell, run: PlannedRun) -> RunConfig:
    """Refuse a fine-tuning run that could not start from a run, before that is trained.

    Returns:
        What the fine-tuning run will be.

    Raises:
        ConfigError: as `hrl.run.finetune.compose_finetune`, with the name of the fine-tuning.
    """
    own = [argument for argument in cell.arguments if not argument.startswith("-")]
    try:
        source = planned_source(run.composed, run.tasks)
        composed = compose_finetune(read_request(own), source)
    except ConfigError as error:
        raise ConfigError(f"finetuning {name} from {run.method}: {error}") from error
    check_written(cell.folder, composed.plain)
    check_source(cell.folder, run.folder, run.composed.config.frames)
    return composed.config


def _refuse_same_folders(cells: Iterable[Cell]) -> None:
    seen: dict[Path, str] = {}
    for cell in cells:
        if cell.folder in seen:
            names = f"{seen[cell.folder]} and {cell.name}"
            raise ConfigError(f"{names} have the same folder {cell.folder}")
        seen[cell.folder] = cell.name


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(name, f"{pattern}*" if "*" in pattern else f"*{pattern}*")


def _with_before(name: str, cells: dict[str, Cell]) -> set[str]:
    cell = cells[name]
    return {name}.union(*(_with_before(one, cells) for one in cell.after if one in cells))
