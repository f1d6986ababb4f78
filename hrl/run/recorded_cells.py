"""Read which cells a study's folder names, wherever the folder lies now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hrl.run.folder import study_record


@dataclass(frozen=True)
class RecordedCell:
    """Hold a cell of `study.json`: a command of a study, which may not have been started.

    Attributes:
        name: such as "train point_mass/ppo/seed_0".
        command: subcommand of `pixel-hrl`.
        folder: of its run.
        log: of its process.
        frames: control steps that its training ends at; 0 for an evaluation.
    """

    name: str
    command: str
    folder: Path
    log: Path
    frames: int

    @property
    def place(self) -> str:
        """Return the run's place below the study's folder, such as "point_mass/ppo/seed_0"."""
        return self.name.partition(" ")[2]


def recorded_cells(folder: Path) -> list[RecordedCell]:
    """Return the cells that a study's folder names; none where there is no record or a damaged one.

    What lies in the folder itself comes before what the record says, as the folder may have been
    moved, copied, or mounted elsewhere; runs of other studies that this one reuses lie where the
    record says. A damaged cell is left out.

    Args:
        folder: of the study.
    """
    try:
        cells = json.loads(study_record(folder).read_text())["cells"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []
    if not isinstance(cells, list):
        return []
    found = (_read(folder, cell) for cell in cells if isinstance(cell, Mapping))
    return [cell for cell in found if cell is not None]


# Private functions.


def _read(folder: Path, cell: Mapping[str, object]) -> RecordedCell | None:
    try:
        name, frames = str(cell["name"]), int(str(cell["frames"]))
        read = RecordedCell(
            name, str(cell["command"]), Path(str(cell["folder"])), Path(str(cell["log"])), frames
        )
        read.folder.exists()  # an error for what can be no path of this system
        own = folder / read.place
        if not read.place or not own.exists():
            return read
        return replace(read, folder=own, log=folder / "logs" / read.command / f"{read.place}.log")
    except (OSError, ValueError, LookupError):
        return None
