"""Write files that are either whole or not there."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any


def write_json(path: Path, data: Any) -> None:
    """Write `data` as indented JSON, atomically; the errors are those of `json_text`."""
    write_text_atomic(path, json_text(path, data))


def json_text(path: Path, data: Any) -> str:
    """Return `data` as indented JSON, to be written to `path`.

    Raises:
        ValueError: something in it is not JSON (NaN and infinity are not).
    """
    try:
        text = json.dumps(data, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be written as JSON: {error}") from error
    return text + "\n"


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 text so that a reader finds the old file or the new one, whole.

    This holds for a reader at the same time and for one after a power cut.
    """
    with atomic_file(path) as file:
        file.write(text.encode())


@contextmanager
def staged_texts(texts: Mapping[Path, str]) -> Iterator[None]:
    """Bring texts to the disk, and let them take their names when the block ends well.

    The block is entered once the disk holds all of them, so that a full one changes no file. The
    first of the texts takes its name last.
    """
    with ExitStack() as files:
        for path, text in texts.items():
            file = files.enter_context(atomic_file(path))
            with named_errors(path):
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        yield


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Name the file in an error of the block that names none, as those of a full disk do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the name `path` when the block ends well.

    When the block raises, the file vanishes; an OSError names it. The temporary file lies in the
    same folder (a rename across file systems is a copy), is locked while its writer lives (see
    `remove_abandoned`), and reaches the disk before the rename does.
    """
    temporary = _temporary_name(path)
    try:
        with named_errors(path), open(temporary, "xb") as file:
            # Some network file systems have no locks; nothing is cleaned up there.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def link_atomic(source: Path, path: Path) -> None:
    """Give a whole file a second name, which replaces what had it before, atomically.

    The file is copied where the file system has no hard links.
    """
    temporary = _temporary_name(path)
    try:
        os.link(source, temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError:
        with open(source, "rb") as original, atomic_file(path) as file:
            shutil.copyfileobj(original, file)
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path, pattern: str) -> list[Path]:
    """Remove temporary files of `atomic_file` whose writer was killed; return their paths.

    A file that is still being written stays. The kernel releases a lock with its process, so a free
    lock means that nobody will finish the file.
    """
    return [path for path in sorted(folder.glob(f".{pattern}.tmp")) if _remove_if_unlocked(path)]


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _remove_if_unlocked(path: Path) -> bool:
    with suppress(OSError), open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    return False


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: on POSIX a name lives in its folder, which is synced by itself."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
