"""Run the cells of a study: here, on a SLURM cluster, or on a Ray cluster."""

from __future__ import annotations

from pathlib import Path

from hrl.study.config import StudyConfig
from hrl.study.executors.base import Executor, Job


def make_executor(study: StudyConfig, folder: Path) -> Executor:
    """Return the executor that a study names.

    Args:
        study: its configuration.
        folder: of the study, for the executor's own files.

    Raises:
        ConfigError: the extra of the executor is not installed, or there is no such cluster.
    """
    if study.executor == "slurm":
        from hrl.study.executors.slurm import SlurmExecutor

        return SlurmExecutor(study.slurm, folder / "slurm")
    if study.executor == "ray":
        from hrl.study.executors.ray import RayExecutor

        return RayExecutor(study.ray)
    from hrl.study.executors.local import LocalExecutor

    return LocalExecutor.of(study.local)


__all__ = ["Executor", "Job", "make_executor"]
