"""What a run will take in memory and on disk, said before it is taken."""

import shutil
from pathlib import Path

import psutil
import torch

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
LARGEST_NAMED = 3


class MemoryEstimateError(MemoryError):
    """A run does not fit. Nothing was allocated."""


class DiskEstimateError(OSError):
    """A run's files do not fit where they are to lie. Nothing was written."""


class MemoryEstimate:
    """A table of named sizes in bytes; printed, it is what the run says before it takes them."""

    resource = "memory"
    error: type[Exception] = MemoryEstimateError

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    def add(self, name: str, size: int) -> None:
        """Count `size` bytes under a name; the sizes of one name add up.

        Raises:
            ValueError: a negative size.
        """
        if size < 0:
            raise ValueError(f"the size of {name!r} must not be negative, it is {size}")
        self._sizes[name] = self._sizes.get(name, 0) + int(size)

    @property
    def total(self) -> int:
        """Sum in bytes."""
        return sum(self._sizes.values())

    def check(self, available: int | None = None, limit_fraction: float = 0.9) -> None:
        """Refuse what cannot fit.

        Args:
            available: bytes; None asks this machine, or the GPU of a `GpuMemoryEstimate`.
            limit_fraction: the share of it that may be taken.

        Raises:
            MemoryBudgetError (DiskBudgetError of a `DiskEstimate`): the sum is more than that
            share; the largest entries,
                the sum and the limit are named.
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
            f"({limit_fraction:.0%} of the {human_size(available)} available); the largest parts: {largest}"
        )

    def __str__(self) -> str:
        rows = [*self._ordered(), ("sum", self.total)]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {human_size(size):>10}" for name, size in rows)

    def _available(self) -> int:
        return available_memory()

    def _ordered(self) -> list[tuple[str, int]]:
        """Largest first; by name where equal."""
        return sorted(self._sizes.items(), key=lambda item: (-item[1], item[0]))


class GpuMemoryEstimate(MemoryEstimate):
    """The same of a GPU's own memory."""

    resource = "GPU memory"

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __str__(self) -> str:
        return f"{self.resource}:\n{super().__str__()}"

    def _available(self) -> int:
        return int(torch.cuda.mem_get_info(self._device)[0])


class DiskEstimate(MemoryEstimate):
    """The same of files in a folder, which need not be there yet.

    Args:
        folder: on the file system that is asked for its free space.
        there: bytes of files that lie there already and that the new ones take the place of.
    """

    error = DiskEstimateError

    def __init__(self, folder: Path, there: int = 0) -> None:
        super().__init__()
        self.resource = f"disk space in {folder}"
        self._folder, self._there = folder, there

    def __str__(self) -> str:
        return f"{self.resource}:\n{super().__str__()}"

    def _available(self) -> int:
        folder = self._folder.absolute()
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        return shutil.disk_usage(existing).free + self._there


def human_size(size: float) -> str:
    """Bytes in the largest unit that leaves at least 1: 1536 is "1.5 KiB"."""
    unit = 0
    while abs(size) >= 1024 and unit < len(UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.1f} {UNITS[unit]}" if unit else f"{size:.0f} B"


def available_memory(
    groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Bytes that this process can still take: the machine's, or its control group's where that
    leaves less.

    In a container the machine's memory is not the limit: beyond the group's own the kernel kills
    the process. Both versions of control groups are understood, and every group above ours counts.

    Args:
        groups: where the control groups are mounted.
        membership: which ones this process is in.
    """
    left = [_left_in_group(group) for group in _memory_groups(groups, membership)]
    return min([psutil.virtual_memory().available, *(size for size in left if size is not None)])


def _memory_groups(groups: Path, membership: Path) -> list[Path]:
    """Folders of this process's memory groups, from its own to the root's. Lines are
    hierarchy:controllers:path.
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
    """None for a missing file and for "max", no limit."""
    if not path.exists():
        return None
    text = path.read_text().strip()
    return int(text) if text.isdigit() else None


def _reclaimable(path: Path) -> int:
    """File pages that the kernel drops before it kills: they count as used, though they are free to
    take.
    """
    if not path.exists():
        return 0
    fields = dict(line.split() for line in path.read_text().splitlines())
    return int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
