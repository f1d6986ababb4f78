"""Temporary folders of workers: none stays, not even after a kill."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from envs.external.temporary_folder import TemporaryFolder

KILLED = """
import os, signal
from envs.external.temporary_folder import TemporaryFolder
folder = TemporaryFolder()
(folder.path / "of_a_library").mkdir()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for /tmp, with a folder that is not ours."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "external-of-another-program").mkdir()
    (tmp_path / "pixel-hrl-external-without-a-lock").mkdir()
    return tmp_path


def test_what_a_killed_process_left_is_removed_at_the_next_start(temporary: Path) -> None:
    before = set(temporary.iterdir())
    subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert len(set(temporary.iterdir()) - before) == 1
    folder = TemporaryFolder()
    assert set(temporary.iterdir()) - before == {folder.path}
    folder.remove()
    folder.remove()
    assert set(temporary.iterdir()) == before


def test_a_folder_in_use_stays(temporary: Path) -> None:
    folder = TemporaryFolder()
    (folder.path / "file").touch()
    other = TemporaryFolder()
    assert (folder.path / "file").exists()
    path = other.path
    del other  # never closed, as after an error
    assert not path.exists()
    folder.remove()
