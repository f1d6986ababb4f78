"""Run cells as jobs of a SLURM cluster, by the library submitit.

A job saves and continues exactly in two ways. Before its time limit the training leaves by itself
with exit code 75, and the study submits the cell again. When the cluster preempts the job, submitit
calls `CellTask.checkpoint`, and requeues it.
"""

from __future__ import annotations

import math
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from typing_extensions import override

from hrl.config import ConfigError
from hrl.study.cells import Cell
from hrl.study.config import SlurmConfig
from hrl.study.executors.base import (
    CellProcess,
    Executor,
    Job,
    note,
    require_extra,
    visible_gpus,
    wait_until_free,
)

START_SECONDS = 60
"""Seconds that a job may take before the training's own time limit counts."""
LOOK_SECONDS = 5.0
"""Seconds between two questions to the cluster."""
GONE = 75
"""Exit code of a job that left the queue without a result: killed, cancelled, or its node lost. The
cell continues, unless it makes no progress."""
FAILED = 1
"""Exit code of a job that failed outside the cell, or that sbatch refused."""
IGNORED = ("TERM", "USR2", "CONT")
"""Signals that SLURM may send to all processes of a job, of which `CellTask` makes one."""


class CellTask:
    """Run a cell inside a job, and save it when the cluster takes the job's node away.

    Args:
        cell: what to run.
        time_limit: seconds after which a training saves and leaves.
    """

    def __init__(self, cell: Cell, time_limit: float) -> None:
        self.cell = cell
        self.time_limit = time_limit
        self._process: CellProcess | None = None

    def __call__(self) -> int:
        """Return the exit code of the cell."""
        wait_until_free(self.cell)
        signal.signal(signal.SIGTERM, self._stop)  # preemption, and scancel
        variables = {} if self.cell.resources.gpus else visible_gpus([])
        self._process = CellProcess(self.cell, variables, self.time_limit, IGNORED)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Let the cell save, and return what a requeued job runs. submitit calls this."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.stop()
            self._process.wait_to_end()
        return DelayedSubmission(CellTask(self.cell, self.time_limit))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._process is not None:
            self._process.stop()


class SlurmExecutor(Executor):
    """Submit cells as arrays of jobs.

    Args:
        config: what to ask the cluster for.
        folder: for submitit's files; on a disk that all nodes share.
    """

    def __init__(self, config: SlurmConfig, folder: Path) -> None:
        require_extra("submitit", "slurm")
        import submitit

        self._config = config
        self._folder = folder
        try:
            self._submitit = submitit.SlurmExecutor(folder, max_num_timeout=1_000_000)
        except RuntimeError as error:  # no srun
            raise ConfigError(
                f"executor=slurm: {error}; this is no machine of a cluster"
            ) from error
        self._queue = _Queue()
        try:
            self._submitit.update_parameters(**self._parameters())
        except ValueError as error:
            raise ConfigError(f"slurm: {' '.join(str(error).split())}") from error

    @override
    def check(self, cells: Sequence[Cell]) -> None:
        """Refuse nothing: only the cluster knows its nodes, and sbatch says what it refuses."""

    @override
    def fitting(self, ready: Sequence[Cell]) -> list[Cell]:
        return list(ready)

    @override
    def start(self, cells: Sequence[Cell]) -> list[Job]:
        groups = defaultdict(list)
        for cell in cells:
            groups[cell.resources].append(cell)
        jobs: dict[str, Job] = {}
        for group in groups.values():
            jobs |= {cell.name: job for cell, job in zip(group, self._submit(group), strict=True)}
        return [jobs[cell.name] for cell in cells]

    def _submit(self, cells: Sequence[Cell]) -> list[Job]:
        """Submit cells that need the same as one array; where sbatch refuses, all have failed."""
        import submitit

        need = cells[0].resources
        self._submitit.update_parameters(
            cpus_per_task=need.cores,
            mem=f"{math.ceil(need.memory / 2**20)}M",
            gpus_per_node=need.gpus or None,
        )
        limit = self._time_limit
        try:
            with self._submitit.batch():
                jobs = [self._submitit.submit(CellTask(cell, limit)) for cell in cells]
        except submitit.core.utils.FailedJobError as error:
            return [_RefusedJob(cell, error) for cell in cells]
        self._queue.forget()
        return [_SlurmJob(cell, job, self._queue) for cell, job in zip(cells, jobs, strict=True)]

    @override
    def close(self) -> None:
        """Nothing is held."""

    @property
    def _time_limit(self) -> float:
        config = self._config
        return max(60.0, 60.0 * config.minutes - config.warning_seconds - START_SECONDS)

    def _parameters(self) -> dict[str, Any]:
        config = self._config
        named = {"partition": config.partition, "account": config.account}
        return {
            "job_name": "pixel-hrl",
            "time": config.minutes,
            "signal_delay_s": config.warning_seconds,
            "array_parallelism": config.parallel,
            # Submitit's own process takes no file of the current directory for a module.
            "setup": ["export PYTHONSAFEPATH=1", *config.setup],
            "additional_parameters": {"requeue": True, **config.parameters},
            **{key: value for key, value in named.items() if value},
        }


class _SlurmJob(Job):
    """Follow a job by its result file and by the cluster's queue."""

    def __init__(self, cell: Cell, job: Any, queue: _Queue) -> None:
        self._cell = cell
        self._job = job
        self._queue = queue

    @override
    def exit_code(self) -> int | None:
        if self._queue.has(self._job.job_id):
            return None
        if not self._job.paths.result_pickle.exists():
            return GONE
        try:
            return int(self._job.result())
        except Exception as error:  # of the job itself, such as a Python that lacks a package
            note(self._cell, error)
            return FAILED

    @override
    def stop(self) -> None:
        self._job.cancel(check=False)


class _RefusedJob(Job):
    """Stand for a job that the cluster did not take."""

    def __init__(self, cell: Cell, error: Exception) -> None:
        note(cell, error)

    @override
    def exit_code(self) -> int:
        return FAILED

    @override
    def stop(self) -> None:
        """There is nothing to stop."""


class _Queue:
    """Ask the cluster, not too often, which of the user's jobs it holds."""

    def __init__(self) -> None:
        self._jobs: set[str] = set()
        self._asked = float("-inf")

    def has(self, job_id: str) -> bool:
        """Return whether a job waits or runs, as far as the cluster last said."""
        if time.monotonic() - self._asked > LOOK_SECONDS:
            self._ask()
        return job_id in self._jobs

    def forget(self) -> None:
        """Ask anew at the next question: jobs were added."""
        self._asked = float("-inf")

    def _ask(self) -> None:
        command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            self._jobs = set(result.stdout.split())
            self._asked = time.monotonic()
