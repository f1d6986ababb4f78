"""Plan a study, run what is missing, evaluate, and write its reports."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from hrl.reporting import RunFolderError, load_runs, write_report
from hrl.run.atomic_files import write_json
from hrl.run.folder import RunFolder, expanded, study_record
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
        FolderError: another process runs this study, or its folder was removed or replaced.
        FailedCellsError: some cells failed; it has the ends of their logs.
        StudyInterrupted: a signal asked to stop; all cells are saved.
    """
    with RunFolder(plan.folder).lock() as lock, stop_signals() as received:
        _write_record(plan, command)
        runner = StudyRunner(plan.cells, executor, check=lock.check)
        try:
            runner.run(received)
        finally:
            executor.close()
        if received:
            raise StudyInterrupted(plan.folder, 128 + received[0])
        pages = list(_write_reports(plan, command))
    _raise_failures(runner.failures, pages)
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
        for cell in plan.cells
    ]
    record = {"command": command, "study": asdict(plan.study), "cells": cells}
    write_json(study_record(plan.folder), record)


def _write_reports(plan: Plan, command: str) -> Iterator[Path]:
    """Write the report of every suite that has evaluated runs; yield the pages."""
    controls = {name: control.note for name, control in plan.study.controls.items()}
    for suite in plan.study.suites:
        folders = [run.folder for run in plan.runs if run.suite == suite]
        folders += [
            cell.folder for cell in plan.cells if cell.name.startswith(f"finetune {suite}/")
        ]
        folders += [plan.folder / suite / name for name in plan.study.evaluation.baselines]
        evaluated = [folder for folder in folders if RunFolder(folder).scores.exists()]
        if not evaluated:
            continue
        try:
            runs = load_runs(evaluated, controls=controls)
            yield write_report(runs, plan.folder / "report" / suite, command)
        except RunFolderError as error:
            print(f"no report on {suite}: {error}", flush=True)


def _raise_failures(failures: Mapping[str, Failure], pages: Sequence[Path]) -> None:
    if not failures:
        return
    text = failure_text(failures, lambda cell: last_lines(cell.log))
    shown = f"\nreports on the others: {', '.join(map(str, pages))}" if pages else ""
    raise FailedCellsError(
        f"{len(failures)} cells are missing; the same command tries them again:\n{text}{shown}"
    )
