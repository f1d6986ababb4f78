"""Describe what produced a run: code revision, package versions, hardware."""

import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

PACKAGES = (
    "pixel-hrl",
    "torch",
    "mujoco",
    "mujoco-warp",
    "warp-lang",
    "dm-control",
    "gymnasium",
    "stable-baselines3",
    "numpy",
    "hydra-core",
    "metaworld",
    "gymnasium-robotics",
    "ogbench",
)
UNKNOWN = "unknown"


def describe(command: str, parameters: Mapping[str, int]) -> dict[str, Any]:
    """Return the content of a run folder's environment.json.

    Args:
        command: the command line that started the run.
        parameters: number of trainable parameters by part of the agent, and "total".

    Returns:
        JSON values: command, revision (git commit or "unknown"), dirty (uncommitted changes; None
        where there is no revision), versions, hardware (memory in bytes), parameters, created (ISO
        8601, UTC).
    """
    revision, dirty = code_revision()
    return {
        "command": command,
        "revision": revision,
        "dirty": dirty,
        "versions": package_versions(),
        "hardware": hardware(),
        "parameters": dict(parameters),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of each package that can change a result.

    A package that is absent has the version "not installed".
    """
    versions = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    return versions | {
        "torch": str(torch.__version__)
    }  # which also says, as 2.11.0+cu130, what it was built for


def hardware() -> dict[str, Any]:
    """Return the processor, memory and GPU of the machine.

    These are the CPU model, the logical cores of the machine and those that this process may use,
    the memory in bytes, and the names of the GPUs.
    """
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(psutil.Process().cpu_affinity() or [])
        if psutil.LINUX
        else os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "platform": platform.platform(),
    }


def code_revision(folder: Path | None = None) -> tuple[str, bool | None]:
    """Return the git commit of this package, and whether its work tree differs from it.

    An installed copy inside somebody else's repository (a virtual environment, say) is not that
    repository's code: the revision counts only where git tracks this file.
    """
    folder = folder or Path(__file__).resolve().parent
    tracked = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
    revision = _git(folder, "rev-parse", "HEAD") if tracked else None
    if not revision:
        return UNKNOWN, None
    return revision, bool(_git(folder, "status", "--porcelain", "--untracked-files=normal"))


@cache  # each costs milliseconds of reading files, at every checkpoint
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or UNKNOWN


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command, None where git is missing, refuses or hangs.

    It hangs where the folder is on a dead network drive.
    """
    command = ["git", "-C", str(folder), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
