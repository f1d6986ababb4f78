"""Keep the checkpoints of a run, each a pair of files: the policy and the training state.

The newest whole pair is found whatever happened to the process or to the files. A pair is written
in this order, each file atomically::

    step_N.policy.safetensors     what acting needs: weights, and the configuration of the run
    step_N.training.safetensors   what only learning needs, and the checksum of its policy file
    policy.safetensors            a second name of the newest policy file, in the run folder

A kill before the second step leaves the pair before, because a policy file counts only with the
training file that names it. The files themselves are described in `hrl.run.checkpoint_format`.

Where several processes train a run, each first writes what is its own (its environments and replay,
say), the last one being done before the policy file is begun::

    step_N.rank_0.safetensors     and so on, one a rank; the training file holds their checksums
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrl.ranks import ONE_RANK, Ranks
from hrl.run.atomic_files import link_atomic, remove_abandoned
from hrl.run.checkpoint_format import JSON, Checkpoint, CheckpointTree, read, write
from hrl.run.errors import CheckpointError, CheckpointWriteError

KEEP = 2
"""Checkpoints that a run keeps."""
POLICY = "policy"
"""Key of a checkpoint's state whose value is saved in the policy file."""
POLICY_METADATA = ("config",)
"""Keys of a checkpoint's metadata that the policy file has too."""
RANKS = "ranks"
"""Key of a checkpoint's metadata: processes that trained the run; absent for one."""


class Checkpoints:
    """Keep the last checkpoints of one run.

    Temporary files of a killed writer are removed at construction.

    Args:
        folder: of the checkpoints, which need not exist.
        newest_policy: file that the newest policy can also be found at; none by default.
        keep: number of checkpoints to keep.
        ranks: of the run; the first one alone writes pairs and deletes files.
    """

    def __init__(
        self,
        folder: Path,
        newest_policy: Path | None = None,
        keep: int = KEEP,
        ranks: Ranks = ONE_RANK,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1 checkpoint, not {keep}")
        self.folder = Path(folder)
        self.newest_policy = newest_policy
        self.keep = keep
        self.ranks = ranks
        self._unusable: set[Path] = set()
        if ranks.is_first:
            remove_abandoned(self.folder, "step_*.safetensors.*")
            if newest_policy is not None:
                remove_abandoned(newest_policy.parent, f"{newest_policy.name}.*")

    def path(self, frames: int) -> Path:
        """Return the file of the training state after so many control steps."""
        return self.folder / f"step_{frames:012d}.training.safetensors"

    def save(
        self, frames: int, state: Mapping[str, CheckpointTree], metadata: Mapping[str, JSON]
    ) -> Path:
        """Write a checkpoint, then delete all but the last `keep` up to this one.

        Args:
            frames: control steps done so far, the checkpoint's name.
            state: what `write` takes; nothing may change it before this returns. The mapping
                `state["policy"]` goes into the policy file.
            metadata: JSON values about it.

        Returns:
            The file of the training state.

        Raises:
            ValueError: a key or a value that cannot be saved; nothing was written.
            CheckpointWriteError: the file system refused; earlier checkpoints are whole.
        """
        path = self.path(frames)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write_pair(path, frames, state, metadata)
            self.publish_policy(path)
        except OSError as error:
            raise CheckpointWriteError(frames, path, str(error), self._last_good()) from error
        self._unusable.discard(path)
        self._delete_old(path)
        return path

    def save_ranks(
        self,
        frames: int,
        state: Mapping[str, CheckpointTree],
        own: Mapping[str, CheckpointTree],
        metadata: Mapping[str, JSON],
    ) -> Path:
        """Write a checkpoint of several ranks, all of which call this; see `save`.

        Args:
            frames: control steps done so far, the same on all ranks.
            state: what all ranks have in common; that of the first one is written.
            own: what this rank alone has. Its mappings are joined with those of `state` under the
                same keys when they are read.
            metadata: JSON values about it, of the first rank.

        Raises:
            CheckpointWriteError: the file system refused this rank's file, or the pair.
        """
        path = self.path(frames)
        file = rank_path(path, self.ranks.index)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            written = write(file, frames, own, {})
        except OSError as error:
            raise CheckpointWriteError(frames, file, str(error), self._last_good()) from error
        checksums = self.ranks.gather(written)
        if self.ranks.is_first:
            about = {**metadata, RANKS: self.ranks.count, "rank_checksums": checksums}
            self.save(frames, state, about)
        self.ranks.gather(None)  # no rank goes on before the checkpoint is whole
        return path

    def load_latest(
        self, check: Callable[[Checkpoint], None] = lambda checkpoint: None
    ) -> Checkpoint | None:
        """Return the newest usable checkpoint, None where there is none at all.

        A pair that is not whole is skipped with a warning that names the file and the reason.

        Args:
            check: raises CheckpointError for a checkpoint that is whole but cannot be used here; it
                gets the training file's metadata without the state.

        Raises:
            CheckpointError: there are checkpoints and none can be used; the message lists them with
                their reasons.
        """

        def read_checked(path: Path) -> Checkpoint:
            check(read(path, parts=()))
            return self._with_own(_read_pair(path))

        return self._newest(lambda path: self._read_together(path, read_checked))

    def load_policy(self) -> Checkpoint | None:
        """Return the policy of the newest whole checkpoint, None where there is none at all.

        Memory is taken for the policy alone.

        Raises:
            CheckpointError: there are checkpoints and none can be used.
        """
        return self._newest(_read_policy)

    def publish_policy(self, path: Path) -> None:
        """Let the newest policy be found at `newest_policy`.

        Args:
            path: the file of the training state that belongs to it.
        """
        if self.newest_policy is not None:
            link_atomic(policy_path(path), self.newest_policy)

    # Private methods.

    def _read_together(self, path: Path, read_one: Callable[[Path], Checkpoint]) -> Checkpoint:
        """Return a checkpoint that every rank can read.

        Raises:
            CheckpointError: one of them cannot.
        """
        checkpoint = None
        failure = None
        try:
            checkpoint = read_one(path)
        except CheckpointError as error:
            failure = error
        reasons = self.ranks.gather(failure.reason if failure else "")
        if failure:
            raise failure
        assert checkpoint is not None
        bad = next((rank for rank, reason in enumerate(reasons) if reason), None)
        if bad is not None:
            raise CheckpointError(path, f"rank {bad} cannot use it: {reasons[bad]}")
        return checkpoint

    def _with_own(self, shared: Checkpoint) -> Checkpoint:
        """Return a checkpoint with what belongs to this rank alone.

        Raises:
            CheckpointError: the rank's file is damaged or of another checkpoint.
        """
        checksums = shared.metadata.get("rank_checksums")
        if checksums is None:
            return shared
        own = read(rank_path(shared.path, self.ranks.index))
        if own.checksum != checksums[self.ranks.index]:
            raise CheckpointError(own.path, f"it does not belong to {shared.path.name}")
        return replace(shared, state=_joined(shared.state, own.state))

    def _write_pair(
        self,
        path: Path,
        frames: int,
        state: Mapping[str, CheckpointTree],
        metadata: Mapping[str, JSON],
    ) -> None:
        if not isinstance(state, Mapping) or not isinstance(state.get(POLICY, {}), Mapping):
            raise ValueError(f"a checkpoint's state and its {POLICY!r} must each be a mapping")
        policy: Mapping[str, CheckpointTree] = state.get(POLICY, {})  # type: ignore[assignment]
        rest = {key: value for key, value in state.items() if key != POLICY}
        about_policy = {key: metadata[key] for key in POLICY_METADATA if key in metadata}
        written = write(policy_path(path), frames, policy, about_policy)
        try:
            write(path, frames, rest, {**metadata, "policy_checksum": written})
        except (ValueError, OSError):
            policy_path(path).unlink()
            raise

    def _newest(self, read_checkpoint: Callable[[Path], Checkpoint]) -> Checkpoint | None:
        failures: list[CheckpointError] = []
        for path in reversed(self._files()):
            try:
                checkpoint = read_checkpoint(path)
            except CheckpointError as error:
                failures.append(error)
                self._unusable.add(path)
                continue
            _warn_of(failures, checkpoint.path)
            return checkpoint
        if failures:
            reasons = "\n".join(f"  {error.path.name}: {error.reason}" for error in failures)
            raise CheckpointError(
                self.folder, f"none of {len(failures)} checkpoints can be used:\n{reasons}"
            )
        return None

    def _files(self) -> list[Path]:
        """Return the training files, oldest first."""
        named = [
            path
            for path in self.folder.glob("step_*.training.safetensors")
            if re.fullmatch(r"step_\d{12,}\.training\.safetensors", path.name)
        ]
        return sorted(named, key=_frames_of)

    def _delete_old(self, newest: Path) -> None:
        """Delete old pairs, the training file first, and policies without a training file.

        Pairs that were found unusable never count as one of the `keep`, and are left for the user
        to look at.
        """
        older = [path for path in self._files() if _frames_of(path) <= _frames_of(newest)]
        for path in [path for path in older if path not in self._unusable][: -self.keep]:
            path.unlink(missing_ok=True)
        policies = {policy_path(path) for path in self._files()}
        for policy in self.folder.glob("step_*.policy.safetensors"):
            if policy not in policies:
                policy.unlink(missing_ok=True)
        steps = {path.name.split(".")[0] for path in self._files()}
        for own in self.folder.glob("step_*.rank_*.safetensors"):
            if own.name.split(".")[0] not in steps:
                own.unlink(missing_ok=True)

    def _last_good(self) -> Path | None:
        for path in reversed(self._files()):
            try:
                return _read_pair(path).path
            except CheckpointError:
                continue
        return None


def newest_frames(folder: Path) -> int:
    """Return the control steps of the newest checkpoint by its name, without reading it.

    Args:
        folder: of the checkpoints, which need not exist.

    Returns:
        0 where there is none.
    """
    return max(map(_frames_of, folder.glob("step_*.training.safetensors")), default=0)


def newest_policy_path(folder: Path) -> Path | None:
    """Return the policy's file of the newest checkpoint by its name; None where there is none.

    Args:
        folder: of the checkpoints, which need not exist.
    """
    return max(folder.glob("step_*.policy.safetensors"), key=_frames_of, default=None)


def policy_path(path: Path) -> Path:
    """Return the policy file that belongs to a file of the training state."""
    return path.with_name(path.name.replace(".training.", ".policy."))


def training_path(path: Path) -> Path:
    """Return the file of the training state that belongs to a policy file."""
    return path.with_name(path.name.replace(".policy.", ".training."))


def rank_path(path: Path, rank: int) -> Path:
    """Return the file of what one rank alone has, beside a file of the training state."""
    return path.with_name(path.name.replace(".training.", f".rank_{rank}."))


def _joined(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return both states; mappings that both have are joined."""
    both = {key: {**shared[key], **own[key]} for key in shared.keys() & own.keys()}
    return {**shared, **own, **both}


def _read_pair(path: Path) -> Checkpoint:
    training = read(path)
    policy = _matching_policy(training)
    return replace(training, state={**training.state, POLICY: policy.state})


def _read_policy(path: Path) -> Checkpoint:
    """Read a policy; of its training file only the header, which is refused where it was cut."""
    return _matching_policy(read(path, parts=()))


def _matching_policy(training: Checkpoint) -> Checkpoint:
    policy = read(policy_path(training.path))
    if policy.checksum != training.metadata.get("policy_checksum"):
        raise CheckpointError(policy.path, f"it does not belong to {training.path.name}")
    return policy


def _warn_of(failures: list[CheckpointError], used: Path) -> None:
    for error in failures:
        warnings.warn(f"checkpoint {error} - skipped, {used.name} is used", stacklevel=4)


def _frames_of(path: Path) -> int:
    return int(path.name.split(".")[0].removeprefix("step_"))
