"""Give the temporary files of workers a folder, which is removed even after a kill."""

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

_PREFIX = "pixel-hrl-external-"
_LOCK = ".lock"


class TemporaryFolder:
    """Make a folder among the temporary files, and remove those of processes that were killed.

    A folder is locked while the process that made it lives; the kernel releases the lock with the
    process, so a free lock means that nobody will remove the folder.

    Attributes:
        path: the folder.
    """

    def __init__(self) -> None:
        _remove_abandoned()
        # It gets its name once it is locked, or another process could take it for abandoned.
        unlocked = Path(tempfile.mkdtemp(prefix="pixel-hrl-new-"))
        self._lock = os.open(unlocked / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = unlocked.with_name(unlocked.name.replace("pixel-hrl-new-", _PREFIX, 1))
        unlocked.rename(self.path)
        self._finalizer = weakref.finalize(self, _remove, self.path, self._lock)

    def remove(self) -> None:
        """Remove the folder with all that is in it; it may be gone already."""
        self._finalizer()


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Of another user, say, or removed by another process meanwhile.
        with suppress(OSError), open(folder / _LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
