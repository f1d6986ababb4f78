"""Start a cell as a process, and define what an executor does with cells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec

import psutil

from envs.extensions import search_path
from hrl.config import ConfigError
from hrl.study.cells import LIMITED, Cell

STOP = signal.SIGUSR1
"""The signal by which a cell is asked to save and leave."""


class Job(ABC):
    """Follow a cell that was started."""

    @abstractmethod
    def exit_code(self) -> int | None:
        """Return the exit code, 128 plus the number for a signal; None while it runs."""

    @abstractmethod
    def stop(self) -> None:
        """Ask the cell to save and leave; `exit_code` tells when it has."""


class Executor(ABC):
    """Run cells somewhere."""

    slots: int | None = None
    """Cells that run at once; None where a cluster decides."""

    @abstractmethod
    def check(self, cells: Sequence[Cell]) -> None:
        """Refuse cells that could never run, before any starts.

        Raises:
            ConfigError: names a cell, what it needs and what there is.
        """

    @abstractmethod
    def fitting(self, ready: Sequence[Cell]) -> list[Cell]:
        """Return the cells, of those that may start, for which there is room now."""

    @abstractmethod
    def start(self, cells: Sequence[Cell]) -> list[Job]:
        """Start cells that fit."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what the executor holds, after its jobs have ended."""


class CellProcess(Job):
    """Run a cell's command in a process, its output appended to the cell's log.

    The process is in a session of its own, so that a Ctrl-C of the study does not reach it beside
    `stop`; two signals would make it leave without saving. If this process dies, it is asked to
    save and leave.

    Args:
        cell: what to run.
        variables: of the environment, beside this process's own.
        time_limit: seconds after which a training saves and leaves; None for no limit.
        ignored: signals that the batch system may send to all processes of a job, and that only
            this process is to act on.
    """

    def __init__(
        self,
        cell: Cell,
        variables: dict[str, str] | None = None,
        time_limit: float | None = None,
        ignored: Sequence[str] = (),
    ) -> None:
        cell.log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *("setpriv", "--pdeathsig", STOP.name.removeprefix("SIG"), "--"),
            *("env", *(f"--ignore-signal={name}" for name in ignored)),
            *cell_command(cell, time_limit),
        ]
        threads = str(cell.resources.cores)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": search_path()}
        environment |= variables or {}
        self._stopped = False
        with open(cell.log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        """Return the exit code; see `Job`."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def stop(self) -> None:
        """Ask the process once to save and leave."""
        if not self._stopped and self._process.poll() is None:
            self._stopped = True
            self._process.send_signal(STOP)

    def wait(self) -> int:
        """Return the exit code when the process has ended; signals are handled meanwhile."""
        while (code := self.exit_code()) is None:
            time.sleep(0.2)
        return code

    def wait_to_end(self) -> None:
        """Return when the process has ended, also from a signal handler that interrupts `wait`."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            while process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.2)


def note(cell: Cell, error: Exception) -> None:
    """Append to a cell's log what went wrong outside the cell."""
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    with open(cell.log, "a") as log:
        log.write(f"\n{error}\n")


def wait_until_free(cell: Cell) -> None:
    """Return when no process writes the cell's run: that of a lost node may still be saving."""
    while cell.is_running():
        time.sleep(1.0)


def cell_command(cell: Cell, time_limit: float | None = None) -> list[str]:
    """Return the command line of a cell, for a process with `search_path` as its PYTHONPATH."""
    limit = [f"time_limit={time_limit:g}"] if time_limit and cell.command in LIMITED else []
    gpus = cell.resources.gpus
    by_several = gpus > 1 and cell.command in LIMITED
    program = ["hrl.study.torchrun", str(gpus)] if by_several else ["hrl.cli"]
    return [sys.executable, "-P", "-m", *program, cell.command, *cell.arguments, *limit]


def visible_gpus(indices: Sequence[int]) -> dict[str, str]:
    """Return the variable that lets a process see these GPUs alone, or none."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, indices))}


def require_extra(package: str, executor: str) -> None:
    """Refuse an executor whose library is not installed.

    Raises:
        ConfigError: names the extra.
    """
    if find_spec(package) is None:
        raise ConfigError(
            f"executor={executor} needs the extra {executor!r}, which is not installed: "
            f"pip install 'pixel-hrl[{executor}]'"
        )
