"""The checkpoints of a run: the newest whole one is found whatever happened to the process or to
the files.

The file itself is described in `hrl.run.checkpoint_format`.
"""

import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

from hrl.run.atomic_files import remove_abandoned
from hrl.run.checkpoint_format import JSON, Checkpoint, CheckpointTree, read, write
from hrl.run.errors import CheckpointError, CheckpointWriteError

KEEP = 2
"""Checkpoints that a run keeps."""


class Checkpoints:
    """The checkpoints of one run: the last `keep` of them, as
    folder/step_{frames:012d}.safetensors.

    Temporary files of a killed writer are removed at construction.
    """

    def __init__(self, folder: Path, keep: int = KEEP) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1 checkpoint, not {keep}")
        self.folder = Path(folder)
        self.keep = keep
        self._unusable: set[Path] = set()
        remove_abandoned(self.folder, "step_*.safetensors.*")

    def path(self, frames: int) -> Path:
        return self.folder / f"step_{frames:012d}.safetensors"

    def save(
        self, frames: int, state: Mapping[str, CheckpointTree], metadata: Mapping[str, JSON]
    ) -> Path:
        """Write a checkpoint, then delete all but the last `keep` up to this one.

        Args:
            frames: control steps done so far, the checkpoint's name.
            state: what `write` takes; nothing may change it before this returns.
            metadata: JSON values about it.

        Raises:
            ValueError: a key or a value that cannot be saved; nothing was written.
            CheckpointWriteError: the file system refused; earlier checkpoints are whole.
        """
        path = self.path(frames)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write(path, frames, state, metadata)
        except OSError as error:
            raise CheckpointWriteError(frames, path, str(error), self._last_good()) from error
        self._unusable.discard(path)
        self._delete_old(path)
        return path

    def load_latest(self, parts: Collection[str] | None = None) -> Checkpoint | None:
        """The newest whole checkpoint, None where there is no file at all.

        A file that is not whole is skipped with a warning that names it and the reason.

        Args:
            parts: of its state, as `read` takes them; all by default.

        Raises:
            CheckpointError: there are files and none is whole; the message lists them with their
                reasons.
        """
        failures: list[CheckpointError] = []
        for path in reversed(self._files()):
            try:
                checkpoint = read(path, parts)
            except CheckpointError as error:
                failures.append(error)
                continue
            self._skip(failures, path)
            return checkpoint
        if failures:
            reasons = "\n".join(f"  {error.path.name}: {error.reason}" for error in failures)
            raise CheckpointError(
                self.folder, f"none of {len(failures)} checkpoints is whole:\n{reasons}"
            )
        return None

    def _files(self) -> list[Path]:
        """All checkpoint files, oldest first."""
        named = [
            path
            for path in self.folder.glob("step_*.safetensors")
            if re.fullmatch(r"step_\d{12,}", path.stem)
        ]
        return sorted(named, key=_frames_of)

    def _skip(self, failures: list[CheckpointError], used: Path) -> None:
        for error in failures:
            self._unusable.add(error.path)
            warnings.warn(f"checkpoint {error} - skipped, {used.name} is used", stacklevel=3)

    def _delete_old(self, newest: Path) -> None:
        """Files that were found unusable never count as one of the `keep`, and are left for the
        user to look at.
        """
        older = [path for path in self._files() if _frames_of(path) <= _frames_of(newest)]
        for path in [path for path in older if path not in self._unusable][: -self.keep]:
            path.unlink(missing_ok=True)

    def _last_good(self) -> Path | None:
        for path in reversed(self._files()):
            try:
                return read(path).path
            except CheckpointError:
                continue
        return None


def _frames_of(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))
