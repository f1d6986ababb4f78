"""What produced a run is recorded as it is; files are whole or not there."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil
import pytest
import torch

from hrl.run.provenance import atomic_file, code_revision, describe, write_json, write_text_atomic


def git(folder: Path, *arguments: str) -> str:
    identity = [
        "-c",
        "user.name=nobody",
        "-c",
        "user.email=nobody@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_description_holds_what_a_reader_needs_to_repeat_the_run(tmp_path: Path) -> None:
    description = describe("python scripts/train.py seed=1", {"encoder": 10, "total": 30})
    assert description["command"] == "python scripts/train.py seed=1"
    assert description["parameters"] == {"encoder": 10, "total": 30}
    assert description["versions"]["torch"] == torch.__version__
    for package in (
        "mujoco",
        "mujoco-warp",
        "warp-lang",
        "dm-control",
        "gymnasium",
        "stable-baselines3",
    ):
        assert description["versions"][package] == metadata.version(package)
    assert description["versions"]["python"].startswith("3.")
    assert description["hardware"]["cores"] == os.cpu_count()
    assert description["hardware"]["memory"] == psutil.virtual_memory().total
    assert description["hardware"]["cpu"]
    assert (
        abs((datetime.now(UTC) - datetime.fromisoformat(description["created"])).total_seconds())
        < 60
    )
    write_json(tmp_path / "environment.json", description)
    assert json.loads((tmp_path / "environment.json").read_text()) == description


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_revision_is_the_commit_and_dirty_says_whether_the_code_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable, raising=False)
    git(tmp_path, "init", "--quiet")
    (tmp_path / "provenance.py").write_text("1\n")
    assert code_revision(tmp_path) == ("unknown", None), "nothing is committed yet"
    git(tmp_path, "add", "provenance.py")
    assert code_revision(tmp_path) == ("unknown", None)
    git(tmp_path, "commit", "--quiet", "-m", "first")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert code_revision(tmp_path) == (revision, False)
    (tmp_path / "provenance.py").write_text("2\n")
    assert code_revision(tmp_path) == (revision, True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_copy_inside_another_repository_has_no_revision(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "readme").write_text("another project")
    git(tmp_path, "add", "readme")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "provenance.py").write_text("1\n")
    assert code_revision(tmp_path / "site-packages") == ("unknown", None)


def test_without_git_the_revision_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe("train", {})["revision"] == "unknown"
    assert describe("train", {})["dirty"] is None


def test_a_write_that_fails_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    write_text_atomic(path, "seed: 0 # größer\n")
    assert path.read_bytes().decode() == "seed: 0 # größer\n"
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"half of" + bytes([1 // 0]))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            write_text_atomic(path, "seed: 1\n")
    assert path.read_text() == "seed: 0 # größer\n"
    assert list(tmp_path.iterdir()) == [path]
    write_text_atomic(path, "seed: 1\n")
    assert path.read_text() == "seed: 1\n"


def test_the_new_name_comes_after_the_content_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda number: (calls.append(os.readlink(f"/proc/self/fd/{number}")), fsync(number)),
    )
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_text_atomic(tmp_path / "config.yaml", "seed: 0\n")
    content, renamed, folder = calls
    assert Path(content).parent == tmp_path
    assert content.endswith(".tmp")
    assert (renamed, folder) == ("replace", str(tmp_path))


def test_what_is_not_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for value in (float("nan"), {1, 2}):
        with pytest.raises(ValueError, match=r"environment\.json cannot be written as JSON"):
            write_json(tmp_path / "environment.json", {"value": value})
    assert list(tmp_path.iterdir()) == []
