"""Estimate what a run takes in memory and on disk, before it is taken."""

import shutil
from pathlib import Path

import psutil
import torch

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
LARGEST_NAMED = 3


class MemoryEstimateError(MemoryError):
    """Report a run that does not fit into memory. Nothing was allocated."""


class DiskEstimateError(OSError):
    """Report files that do not fit on their disk. Nothing was written."""


class MemoryEstimate:
    """Collect named sizes in bytes, and print them as a table.

    Args:
        processes: on this machine, each of which takes as much.
    """

    resource = "memory"
    error: type[Exception] = MemoryEstimateError

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._sizes: dict[str, int] = {}

    def add(self, name: str, size: int) -> None:
        """Count `size` bytes under a name; sizes of the same name add up.

        Raises:
            ValueError: a negative size.
        """
        if size < 0:
            raise ValueError(f"the size of {name!r} must not be negative, it is {size}")
        self._sizes[name] = self._sizes.get(name, 0) + int(size) * self._processes

    @property
    def total(self) -> int:
        """Return the sum in bytes."""
        return sum(self._sizes.values())

    def check(self, available: int | None = None, limit_fraction: float = 0.9) -> None:
        """Refuse what cannot fit.

        Args:
            available: bytes; None asks this machine, or the GPU of a `GpuMemoryEstimate`.
            limit_fraction: the share of it that may be taken.

        Raises:
            MemoryEstimateError: the sum is more than that share; names the largest entries, the sum
                and the limit.
            DiskEstimateError: the same of a `DiskEstimate`.
        """
        available = self._available() if available is None else available
        if self.total <= limit_fraction * available:
            return
        largest = ", ".join(
            f"{name} {human_size(size)}" for name, size in self._ordered()[:LARGEST_NAMED]
        )
        limit = human_size(limit_fraction * available)
        raise self.error(
            f"this run needs {human_size(self.total)} of {self.resource} and may take {limit} "
            f"({limit_fraction:.0%} of the {human_size(available)} available); the largest parts: "
            f"{largest}"
        )

    def __str__(self) -> str:
        rows = [*self._ordered(), ("sum", self.total)]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {human_size(size):>10}" for name, size in rows)

    def _available(self) -> int:
        return available_memory()

    def _ordered(self) -> list[tuple[str, int]]:
        """Return the entries, largest first, by name where equal."""
        return sorted(self._sizes.items(), key=lambda item: (-item[1], item[0]))


class GpuMemoryEstimate(MemoryEstimate):
    """Collect sizes in a GPU's own memory.

    Args:
        device: the GPU.
    """

    resource = "GPU memory"

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __str__(self) -> str:
        return f"{self.resource}:\n{super().__str__()}"

    def _available(self) -> int:
        return int(torch.cuda.mem_get_info(self._device)[0])


class DiskEstimate(MemoryEstimate):
    """Collect sizes of files in a folder, which need not exist yet.

    Args:
        folder: on the file system that is asked for its free space.
        existing: bytes of files that exist already and that the new ones replace.
    """

    error = DiskEstimateError

    def __init__(self, folder: Path, existing: int = 0) -> None:
        super().__init__()
        self.resource = f"disk space in {folder}"
        self._folder = folder
        self._existing = existing

    def __str__(self) -> str:
        return f"{self.resource}:\n{super().__str__()}"

    def _available(self) -> int:
        folder = self._folder.absolute()
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        return shutil.disk_usage(nearest).free + self._existing


def human_size(size: float) -> str:
    """Return bytes in the largest unit that leaves at least 1: 1536 is "1.5 KiB"."""
    unit = 0
    while abs(size) >= 1024 and unit < len(UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.1f} {UNITS[unit]}" if unit else f"{size:.0f} B"


def available_memory(
    groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Return the bytes that this process can still take.

    These are the machine's, or its control group's where that leaves less. In a container the
    machine's memory is not the limit: beyond the group's own the kernel kills the process. Both
    versions of control groups are understood, and every group above ours counts.

    Args:
        groups: where the control groups are mounted.
        membership: which ones this process is in.
    """
    left = [_left_in_group(group) for group in _memory_groups(groups, membership)]
    return min([psutil.virtual_memory().available, *(size for size in left if size is not None)])


def _memory_groups(groups: Path, membership: Path) -> list[Path]:
    """Return the folders of this process's memory groups, from its own to the root's.

    Lines of the file `membership` are hierarchy:controllers:path.
    """
    if not membership.exists():
        return []
    folders = []
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = groups / "memory" if controllers else groups
        # Inside a container this path may be the host's and not exist; the container's own group is
        # the root then.
        own = root / path.lstrip("/")
        folders += [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return folders


def _left_in_group(group: Path) -> int | None:
    for limit_file, used_file in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = _read_size(group / limit_file), _read_size(group / used_file)
        if limit is not None and used is not None:
            return max(0, limit - used + _reclaimable(group / "memory.stat"))
    return None


def _read_size(path: Path) -> int | None:
    """Return the number in a file; None for a missing file and for "max", no limit."""
    if not path.exists():
        return None
    text = path.read_text().strip()
    return int(text) if text.isdigit() else None


def _reclaimable(path: Path) -> int:
    """Return the bytes of file pages that the kernel drops before it kills a process.

    They count as used, though they are free to take.
    """
    if not path.exists():
        return 0
    fields = dict(line.split() for line in path.read_text().splitlines())
    return int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
