"""Run cells on this machine, as many side by side as its cores, memory and GPUs allow."""

from __future__ import annotations

import os
from collections.abc import Sequence

from typing_extensions import override

from hrl.config import ConfigError
from hrl.run.memory import available_memory, human_size
from hrl.study.cells import Cell
from hrl.study.config import LocalConfig
from hrl.study.executors.base import CellProcess, Executor, Job, visible_gpus

MEMORY_FRACTION = 0.9


class LocalExecutor(Executor):
    """Hold the cores, the memory and the GPUs of a machine, and give them to cells.

    Args:
        cores: of the processor.
        memory: in bytes.
        gpus: indices of the GPUs.
    """

    def __init__(self, cores: int, memory: int, gpus: Sequence[int] = ()) -> None:
        self.cores = cores
        self.memory = memory
        self.gpus = list(gpus)
        self._running: list[tuple[Cell, CellProcess, list[int]]] = []

    @classmethod
    def of(cls, config: LocalConfig) -> LocalExecutor:
        """Return the pool of this machine, within the limits of a configuration."""
        memory = (
            int(MEMORY_FRACTION * available_memory())
            if config.memory_gib is None
            else int(config.memory_gib * 2**30)
        )
        present = local_gpus()
        gpus = present if config.gpus is None else config.gpus
        if gpus > present:
            raise ConfigError(f"local.gpus is {gpus}; this machine has {present}")
        return cls(config.cores or len(os.sched_getaffinity(0)), memory, range(gpus))

    @override
    def check(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            need = cell.resources
            for what, asked, there in (
                ("cores", need.cores, self.cores),
                ("GPUs", need.gpus, len(self.gpus)),
                ("bytes of memory", need.memory, self.memory),
            ):
                if asked > there:
                    raise ConfigError(_too_large(cell.name, what, asked, there))
        first = cells[0].resources if cells else None
        if first is not None:
            rooms = [self.cores // first.cores, self.memory // max(1, first.memory)]
            rooms += [len(self.gpus) // first.gpus] if first.gpus else []
            self.slots = max(1, min(rooms))

    @override
    def fitting(self, ready: Sequence[Cell]) -> list[Cell]:
        self._forget_ended()
        used = [cell.resources for cell, _, _ in self._running]
        cores = self.cores - sum(need.cores for need in used)
        memory = self.memory - sum(need.memory for need in used)
        gpus = len(self.gpus) - sum(need.gpus for need in used)
        chosen = []
        for cell in ready:
            need = cell.resources
            if need.cores <= cores and need.memory <= memory and need.gpus <= gpus:
                chosen.append(cell)
                cores -= need.cores
                memory -= need.memory
                gpus -= need.gpus
        return chosen

    @override
    def start(self, cells: Sequence[Cell]) -> list[Job]:
        self._forget_ended()
        jobs: list[Job] = []
        for cell in cells:
            taken = {gpu for _, _, gpus in self._running for gpu in gpus}
            free = [gpu for gpu in self.gpus if gpu not in taken]
            mine = free[: cell.resources.gpus]
            process = CellProcess(cell, visible_gpus(mine))
            self._running.append((cell, process, mine))
            jobs.append(process)
        return jobs

    @override
    def close(self) -> None:
        self._forget_ended()

    def _forget_ended(self) -> None:
        self._running = [entry for entry in self._running if entry[1].exit_code() is None]


def _too_large(name: str, what: str, asked: int, there: int) -> str:
    if what == "bytes of memory":
        return (
            f"{name} needs {human_size(asked)} of memory and may take {human_size(there)}: raise "
            "local.memory_gib, or make its runs smaller"
        )
    return f"{name} needs {asked} {what}; there are {there} to use"


def local_gpus() -> int:
    """Return the number of GPUs of this machine that torch can use."""
    import torch

    return torch.cuda.device_count()
