"""Read from a study's record which of its methods are controls, and what each is there for."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from hrl.reporting.suite_record import RunFolderError
from hrl.reporting.tables import read_mapping
from hrl.run.atomic_files import write_json
from hrl.run.folder import study_record


def read_controls(runs: Iterable[Path]) -> dict[str, str]:
    """Return the notes on the controls of the studies that runs lie in, by method.

    A study's record is looked for in the folders above each run. What is a method of one study and
    a control of another counts as a method.

    Raises:
        RunFolderError: a record is damaged; it names the file.
    """
    records = {path for run in runs if (path := _record_above(run)) is not None}
    studies = [_study(path) for path in sorted(records)]
    methods = {name for study in studies for name in study["methods"]}
    controls = {name: note for study in studies for name, note in study["controls"].items()}
    return {name: note for name, note in controls.items() if name not in methods}


def write_controls(folder: Path, methods: Iterable[str], controls: Mapping[str, str]) -> None:
    """Write the record of an archived study: names of methods, and controls with their notes."""
    study = {
        "methods": {name: {} for name in methods if name not in controls},
        "controls": {name: {"note": note} for name, note in controls.items()},
    }
    write_json(study_record(folder), {"study": study})


# Private functions.


def _record_above(run: Path) -> Path | None:
    for folder in run.resolve().parents:
        path = study_record(folder)
        if path.is_file():
            return path
    return None


def _study(path: Path) -> dict[str, dict[str, str]]:
    """Return the notes of a study's methods and controls, by name."""
    study = read_mapping(path, json.loads).get("study")
    notes: dict[str, dict[str, str]] = {}
    for key in ("methods", "controls"):
        named = study.get(key) if isinstance(study, Mapping) else None
        if not isinstance(named, Mapping) or not all(
            isinstance(entry, Mapping) for entry in named.values()
        ):
            raise RunFolderError(f"{path}: study.{key} is missing or not a mapping of methods")
        notes[key] = {str(name): str(entry.get("note", "")) for name, entry in named.items()}
    return notes
