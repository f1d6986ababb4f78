"""Define the errors of a run that their message explains, and the end of one that can continue."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from hrl.config_field import ConfigError

CONTINUE = (
    75,  # EX_TEMPFAIL: time_limit has passed
    *(128 + number for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)),
)
"""Exit codes of a command that has saved its run, which continues when it is started again."""


class FolderError(ConfigError):
    """Report a run folder that cannot be used."""


class MixedScoresError(ConfigError):
    """Report scores that cannot stand in one table with those that are already there."""


class UnevaluatedRunsError(ConfigError):
    """Report runs that could not be evaluated, after the others were.

    Attributes:
        reasons: why, by run folder.
    """

    def __init__(self, reasons: Mapping[Path, str], count: int) -> None:
        lines = [f"  {folder}: {reason}" for folder, reason in reasons.items()]
        super().__init__("\n".join([f"{len(reasons)} of {count} runs were not evaluated:", *lines]))
        self.reasons = dict(reasons)


class ConfigMismatchError(ValueError):
    """Report that a run is to be continued with a configuration that is not its own.

    Attributes:
        differences: {dotted key: (saved value, given value)}.
    """

    def __init__(self, differences: Mapping[str, tuple[object, object]]) -> None:
        lines = [
            f"  {key}: {old!r} in the run, {new!r} given" for key, (old, new) in differences.items()
        ]
        super().__init__("the run was started with another configuration:\n" + "\n".join(lines))
        self.differences = dict(differences)


class CheckpointError(ValueError):
    """Report a file that cannot be used as a checkpoint, or a folder without one that can."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class CheckpointWriteError(RuntimeError):
    """Report a checkpoint that could not be written (a full disk, say).

    Earlier checkpoints are untouched.
    """

    def __init__(self, frames: int, path: Path, reason: str, last_good: Path | None) -> None:
        earlier = (
            f"the last good checkpoint is {last_good}"
            if last_good
            else "there is no earlier checkpoint"
        )
        super().__init__(
            f"the checkpoint at {frames} frames could not be written to {path}: {reason}; {earlier}"
        )
        self.frames = frames
        self.path = path
        self.reason = reason
        self.last_good = last_good


class LoggerError(ValueError):
    """Report a metrics file that is not the one a checkpoint belongs to."""


class NonFiniteError(ArithmeticError):
    """Report that a loss, an action, a reward or another quantity is NaN or infinite.

    Attributes:
        path: the file for a rerun, None where it could not be written.
    """

    def __init__(self, problem: str, counters: Mapping[str, int], path: Path | None) -> None:
        where = ", ".join(f"{name} {value}" for name, value in counters.items())
        saved = (
            f"what it was computed from is in {path}"
            if path
            else "what it was computed from could not be saved"
        )
        super().__init__(f"{problem} at {where}; {saved}")
        self.path = path


class Interrupted(Exception):  # noqa: N818  nothing went wrong
    """End a run before its budget is spent; the run is saved.

    Attributes:
        exit_code: 128 plus the number of the signal that asked to stop, as shells have it; 75
            (EX_TEMPFAIL: call again later) where time_limit has passed.
    """

    def __init__(self, folder: Path, frames: int, exit_code: int) -> None:
        super().__init__(
            f"stopped and saved at {frames:,} frames; the same command continues {folder}"
        )
        self.exit_code = exit_code
