"""Define how a study ends early or incompletely; what its cells have saved stands."""

from __future__ import annotations

from pathlib import Path

from hrl.config import ConfigError
from hrl.run.errors import Interrupted


class FailedCellsError(ConfigError):
    """Report the cells that failed and reports that are missing, after all others were run."""


class StudyInterrupted(Interrupted):
    """End a study that a signal asked to stop, after its cells have saved."""

    def __init__(self, folder: Path, exit_code: int) -> None:
        Exception.__init__(
            self, f"stopped, its cells are saved; the same command continues {folder}"
        )
        self.exit_code = exit_code
