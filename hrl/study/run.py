"""Plan a study, run what is missing, evaluate, and write its reports."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from hrl.agents.model_based import ModelBasedConfig
from hrl.reporting import RunFolderError, load_runs, write_report
from hrl.run.atomic_files import write_json
from hrl.run.folder import RunFolder, expanded, study_record
from hrl.run.recorded_cells import RecordedCell, recorded_cells
from hrl.run.stop_signals import stop_signals
from hrl.study.cells import Cell, CellResources, last_lines
from hrl.study.config import StudyConfig
from hrl.study.cost import check_disk, cost_rows, measured_rates, plan_text
from hrl.study.drive import Failure, StudyRunner, failure_text
from hrl.study.errors import FailedCellsError, StudyInterrupted
from hrl.study.executors import Executor, make_executor
from hrl.study.executors.base import CellProcess, visible_gpus
from hrl.study.executors.local import local_gpus
from hrl.study.plan import Plan, make_plan
from hrl.study.planned_run import PlannedRun
from hrl.study.status import status_text
from hrl.study.written import refuse_other_study

_SEED = re.compile(r"/seed_\d+$")


def plan_study(study: StudyConfig, only: Sequence[str] = (), flags: Sequence[str] = ()) -> Plan:
    """Return the plan of a study.

    Args:
        study: what is wanted.
        only: patterns of cells' names; empty for all.
        flags: --config-dir and --import of this process.

    Raises:
        ConfigError: as `make_plan` and `Plan.only`.
    """
    gpus = min(1, local_gpus()) if study.executor == "local" else 0
    plan = make_plan(study, gpus, flags)
    return plan.only(only) if only else plan


def prepare_executor(plan: Plan) -> Executor:
    """Return what runs a plan; everything that can be refused is.

    Raises:
        ConfigError: as `make_executor` and `Executor.check`.
    """
    executor = make_executor(plan.study, expanded(plan.study.folder).absolute())
    executor.check([cell for cell in plan.cells if not cell.is_finished()])
    return executor


def show_plan(plan: Plan, slots: int | None, flags: Sequence[str] = ()) -> None:
    """Print the plan and its cost, and refuse it where it does not fit onto the disk.

    Speeds that no run has shown yet are measured first, where cells run on this machine.

    Args:
        plan: of the study.
        slots: cells that run at once; None where a cluster decides.
        flags: --config-dir and --import of this process.

    Raises:
        DiskEstimateError: the checkpoints do not fit.
    """
    study = plan.study
    measure = None
    if study.executor == "local" and study.rate_seconds:
        measure = _Measurement(study, flags)
    rates = measured_rates(plan, measure)
    print(plan_text(plan, rates, slots), flush=True)
    check_disk(plan, cost_rows(plan, rates))


def run_study(plan: Plan, executor: Executor, command: str) -> list[Path]:
    """Run what is missing and write a report for each suite; return the reports' pages.

    A cell that fails does not stop the others, and the reports show what there is.

    Raises:
        FolderError: another process runs this study, its folder holds another one, or was removed
            or replaced.
        FailedCellsError: some cells failed, with the ends of their logs, or a report could not be
            written.
        StudyInterrupted: a signal asked to stop; all cells are saved.
    """
    with RunFolder(plan.folder).lock() as lock, stop_signals() as received:
        refuse_other_study(plan.folder, plan.study.name)
        _write_record(plan, command)
        runner = StudyRunner(plan.cells, executor, check=lock.check)
        try:
            runner.run(received)
        finally:
            executor.close()
        if received:
            raise StudyInterrupted(plan.folder, 128 + received[0])
        missing: dict[str, str] = {}
        pages = list(_write_reports(plan, command, missing))
    _raise_failures(runner.failures, missing, pages)
    return pages


def show_status(plan: Plan) -> None:
    """Print how far every cell is."""
    print(status_text(plan))


# Private functions.


class _Measurement:
    """Train a run for some seconds to see how fast it is; only its timing is kept."""

    def __init__(self, study: StudyConfig, flags: Sequence[str]) -> None:
        self._seconds = study.rate_seconds
        self._cores = study.resources.cores
        self._flags = tuple(flags)

    def __call__(self, run: PlannedRun, folder: Path) -> None:
        print(f"measuring the speed of {run.method} on {run.suite}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        overrides = [part for part in run.overrides if not part.startswith("folder=")]
        if isinstance(run.composed.config.agent, ModelBasedConfig):
            # Most of a run's updates are of everything, not of the world model alone.
            overrides.append("agent.actor_critic_start=0")
        quiet = ("tracking.wandb=disabled", "tracking.tensorboard=false", "evaluation.every=0")
        gpus = min(1, local_gpus())
        cell = Cell(
            f"rate {run.suite}/{run.method}",
            "train",
            (*overrides, *quiet, f"folder={folder}", "tracking.progress=false", *self._flags),
            folder,
            CellResources(self._cores, 0, gpus),
            folder.with_suffix(".log"),
        )
        CellProcess(cell, visible_gpus(range(gpus)), self._seconds).wait()
        files = RunFolder(folder)
        shutil.rmtree(files.checkpoints, ignore_errors=True)
        files.policy.unlink(missing_ok=True)


def _write_record(plan: Plan, command: str) -> None:
    """Write study.json: what the study is and where each cell's run lies."""
    cells = [
        {
            "name": cell.name,
            "command": cell.command,
            "folder": str(cell.folder),
            "log": str(cell.log),
            "frames": cell.frames,
        }
        for cell in _known_cells(plan)
    ]
    record = {"command": command, "study": asdict(plan.study), "cells": cells}
    write_json(study_record(plan.folder), record)


def _known_cells(plan: Plan) -> list[Cell | RecordedCell]:
    """Return all cells of a study, and those of the last record that are of its other seeds."""
    planned = {cell.name for cell in plan.every_cell}
    columns = {_SEED.sub("", name) for name in planned}
    others = (
        cell
        for cell in recorded_cells(plan.folder)
        if cell.name not in planned and _SEED.sub("", cell.name) in columns
    )
    return [*plan.every_cell, *others]


def _write_reports(plan: Plan, command: str, missing: dict[str, str]) -> Iterator[Path]:
    """Write the report of every suite that has evaluated runs of the study; yield the pages.

    Args:
        plan: of the study, of whose cells all are reported, whichever were chosen to run.
        command: what the user typed.
        missing: gets the reason why a suite has no report.
    """
    controls = {name: control.note for name, control in plan.study.controls.items()}
    cells = _known_cells(plan)
    for suite in plan.study.suites:
        names = (f"train {suite}/", f"finetune {suite}/")
        folders = [cell.folder for cell in cells if cell.name.startswith(names)]
        folders += [plan.folder / suite / name for name in plan.study.evaluation.baselines]
        evaluated = [folder for folder in folders if RunFolder(folder).scores.exists()]
        if not evaluated:
            continue
        try:
            runs = load_runs(evaluated, controls=controls)
            yield write_report(runs, plan.folder / "report" / suite, command)
        except RunFolderError as error:
            missing[suite] = str(error)


def _raise_failures(
    failures: Mapping[str, Failure], missing: Mapping[str, str], pages: Sequence[Path]
) -> None:
    parts = [f"no report on {suite}: {reason}" for suite, reason in missing.items()]
    if failures:
        text = failure_text(failures, lambda cell: last_lines(cell.log))
        parts += [f"{len(failures)} cells are missing; the same command tries them again:\n{text}"]
    if not parts:
        return
    if pages:
        parts += [f"reports on the others: {', '.join(map(str, pages))}"]
    raise FailedCellsError("\n".join(parts))
