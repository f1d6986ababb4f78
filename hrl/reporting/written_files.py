"""Remember which files a report wrote, so that the next one leaves none of an older report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hrl.run.atomic_files import write_json

RECORD = ".report.json"


def replace_written_files(folder: Path, written: Sequence[Path]) -> list[Path]:
    """Record what a report wrote, and remove what an earlier one wrote there and this one did not.

    A file that was changed since then is its user's, and stays.

    Args:
        folder: of the report.
        written: every file of it.

    Returns:
        The files that were removed.

    Raises:
        OSError: the file system refused; it names the file.
    """
    new = {str(path.relative_to(folder)): _digest(path) for path in written}
    removed = []
    for name, digest in _recorded(folder).items():
        if name in new:
            continue
        path = folder / name
        with suppress(OSError, ValueError):  # gone, not to be read, or no path of this system
            inside = path.resolve().is_relative_to(folder.resolve())
            if inside and _digest(path) == digest:
                path.unlink()
                removed.append(path)
    write_json(folder / RECORD, {"files": new})
    return removed


# Private functions.


def _recorded(folder: Path) -> dict[str, str]:
    """Return the digests of the last report's files by name; none where the record is damaged."""
    try:
        files = json.loads((folder / RECORD).read_text())["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
