"""What produced a run is recorded as it is."""

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

from hrl.run.atomic_files import write_json
from hrl.run.provenance import code_revision, describe


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
