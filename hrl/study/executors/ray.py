"""Run cells as tasks of a Ray cluster; those of a lost node start anew on another and continue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from hrl.config import ConfigError
from hrl.run.memory import human_size
from hrl.study.cells import Cell
from hrl.study.config import RayConfig
from hrl.study.executors.base import (
    CellProcess,
    Executor,
    Job,
    note,
    require_extra,
    visible_gpus,
    wait_until_free,
)

CANCELLED = 75
"""Exit code of a cell that this study stopped: it is saved and continues."""
LOST = 1
"""Exit code of a cell whose node was lost more often than it may be."""


class RayExecutor(Executor):
    """Hand cells to a Ray cluster, which places them by cores, memory and GPUs.

    Args:
        config: which cluster.
    """

    def __init__(self, config: RayConfig) -> None:
        require_extra("ray", "ray")
        import ray

        self._retries = config.retries
        self._owns = not ray.is_initialized()
        if self._owns:
            try:
                ray.init(address=config.address, log_to_driver=False)
            except (ConnectionError, ValueError) as error:
                raise ConfigError(
                    f"executor=ray: no cluster at {config.address}: {error}"
                ) from error

    @override
    def check(self, cells: Sequence[Cell]) -> None:
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for cell in cells:
            asked = _asked(cell)
            if not any(all(node.get(key, 0) >= asked[key] for key in asked) for node in nodes):
                need = cell.resources
                raise ConfigError(
                    f"{cell.name} needs {need.cores} cores, {need.gpus} GPUs and "
                    f"{human_size(need.memory)} of memory; no node of the Ray cluster has them all"
                )

    @override
    def fitting(self, ready: Sequence[Cell]) -> list[Cell]:
        return list(ready)

    @override
    def start(self, cells: Sequence[Cell]) -> list[Job]:
        return [_RayJob(cell, self._submit(cell)) for cell in cells]

    @override
    def close(self) -> None:
        import ray

        if self._owns:
            ray.shutdown()

    def _submit(self, cell: Cell) -> Any:
        import ray

        need = cell.resources
        task = ray.remote(run_cell).options(
            num_cpus=need.cores,
            num_gpus=need.gpus,
            memory=need.memory,
            max_retries=self._retries,
            name=cell.name,
        )
        return task.remote(cell)


class _RayJob(Job):
    """Follow a task."""

    def __init__(self, cell: Cell, reference: Any) -> None:
        self._cell = cell
        self._reference = reference

    @override
    def exit_code(self) -> int | None:
        import ray

        if not ray.wait([self._reference], timeout=0)[0]:
            return None
        try:
            return int(ray.get(self._reference))
        except ray.exceptions.TaskCancelledError:
            return CANCELLED
        except ray.exceptions.RayError as error:
            note(self._cell, error)
            return LOST

    @override
    def stop(self) -> None:
        import ray

        ray.cancel(self._reference)


def run_cell(cell: Cell) -> int:
    """Run a cell on the node that Ray chose; return its exit code."""
    wait_until_free(cell)
    variables = {} if cell.resources.gpus else visible_gpus([])
    process = CellProcess(cell, variables)
    try:
        return process.wait()
    except KeyboardInterrupt:  # ray.cancel
        process.stop()
        return process.wait()


def _asked(cell: Cell) -> dict[str, float]:
    need = cell.resources
    asked = {"CPU": need.cores, "GPU": need.gpus, "memory": need.memory}
    return {key: amount for key, amount in asked.items() if amount}
