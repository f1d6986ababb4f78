"""A run folder says which format it has, and belongs to one process at a time."""

import errno
import fcntl
import shutil
from pathlib import Path

import pytest
import yaml

from hrl.run.errors import FolderError
from hrl.run.folder import FORMAT, RunFolder, find_run_folders


def test_a_configuration_comes_back_without_the_format_of_its_folder(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_config({"seed": 3, "agent": {"name": "ppo"}})
    assert yaml.safe_load(folder.config.read_text())["format"] == FORMAT
    assert folder.read_config() == {"seed": 3, "agent": {"name": "ppo"}}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("seed: 3\n", r"format 1, .* version 0\.1\.0 of pixel-hrl reads it"),
        ("format: 3\nseed: 3\n", r"format 3, and this version reads 2: a newer pixel-hrl reads it"),
        ("format: [1]\n", r"format \[1\], and this version reads 2"),
        ("- a list\n", "holds no configuration"),
    ],
)
def test_another_format_is_refused_with_the_version_that_reads_it(written, message, tmp_path):
    (tmp_path / "config.yaml").write_text(written)
    with pytest.raises(FolderError, match=message):
        RunFolder(tmp_path).read_config()


def test_a_folder_without_a_run_is_named(tmp_path):
    folder = RunFolder(tmp_path / "new")
    assert not folder.holds_run()
    with pytest.raises(FolderError, match=r"new is not a run folder: it has no config\.yaml"):
        folder.read_config()
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FolderError, match=r"yet holds thesis\.tex"):
        RunFolder(tmp_path).holds_run()


@pytest.mark.parametrize(
    "content",
    [
        b"a: [",
        b"\xff\xfe\x81",
        b"",
        b"- a\n- b",
        b"just text",
        b"5",
        b"null",
        b"\x00\x00",
        b"a: 2001-99-99",
        b"a: &x [*x]",
        b"&x {a: {b: *x}}",
        b"a: " + 400 * b"[" + 400 * b"]",
        b"a: !!python/object/apply:os.system [ls]",
        b"--- 1\n--- 2",
    ],
)
def test_a_configuration_that_is_no_yaml_is_named(content, tmp_path):
    folder = RunFolder(tmp_path)
    folder.config.write_bytes(content)
    with pytest.raises(FolderError, match=r"config\.yaml holds no (YAML|configuration)"):
        folder.read_config()


def test_videos_of_play_are_no_foreign_files(tmp_path):
    folder = RunFolder(tmp_path)
    folder.play.mkdir()
    assert not folder.holds_run()


def test_the_users_home_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert RunFolder("~/runs/x").path == tmp_path / "runs" / "x"
    assert RunFolder("~").path == tmp_path
    assert RunFolder("runs/~/x").path == Path("runs/~/x")


@pytest.mark.parametrize("name", ["notes.txt", "notes.txt/run"])
def test_a_file_where_a_folder_is_expected_is_named(name, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FolderError, match=r"notes\.txt is a file, not a folder; name another"):
        RunFolder(tmp_path / name).holds_run()


def test_dumps_of_numbers_that_are_not_finite_are_no_foreign_files(tmp_path):
    folder = RunFolder(tmp_path)
    folder.nonfinite(3).touch()
    assert not folder.holds_run()


def test_a_folder_that_is_written_by_another_process_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    refused = pytest.raises(FolderError, match="being written by another process")
    with folder.lock(), refused, RunFolder(tmp_path / "run").lock():
        pass
    with folder.lock():
        pass  # the lock is free again


def test_links_in_circles_are_not_followed(tmp_path):
    RunFolder(tmp_path / "run").path.mkdir()
    RunFolder(tmp_path / "run").write_config({"seed": 3})
    for name in ("again", "twice"):
        (tmp_path / name).symlink_to(tmp_path)
    assert find_run_folders([tmp_path]) == [tmp_path / "run"]


@pytest.mark.parametrize("change", ["removed", "moved", "replaced"])
def test_a_lock_notices_that_its_folder_is_another(change, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.lock() as lock:
        lock.check()
        if change == "removed":
            shutil.rmtree(folder.path)
        else:
            folder.path.rename(tmp_path / "elsewhere")
        if change == "replaced":
            folder.path.mkdir()
            (folder.path / ".lock").touch()
        with pytest.raises(FolderError, match=r"run was removed, moved or replaced"):
            lock.check()


def test_a_file_system_without_locks_is_refused_with_the_file_and_what_to_do(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(FolderError, match=r"run/\.lock cannot be locked \(No locks.*name a folder"),
        RunFolder(tmp_path / "run").lock(),
    ):
        pass


def test_where_no_lock_can_be_asked_for_nobody_is_known_to_write(tmp_path, monkeypatch):
    """So that the plan and the state of a study show there too."""
    assert not RunFolder(tmp_path / "nothing").is_locked()
    with RunFolder(tmp_path).lock():
        assert RunFolder(tmp_path).is_locked()

    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert not RunFolder(tmp_path).is_locked()


def test_temporary_files_of_a_killed_process_are_removed_at_the_next_start(tmp_path):
    files = RunFolder(tmp_path)
    files.videos.mkdir()
    files.play.mkdir()
    left = [tmp_path / ".config.yaml.0123abcd.tmp", files.videos / ".000_a.mp4.tmp"]
    left += [files.play / ".train_a.mp4.tmp"]
    written = tmp_path / ".scores.csv.0123abcd.tmp"
    for path in (*left, written):
        path.touch()
    with open(written) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # by a process that evaluates at the same time
        with files.lock():
            assert not any(path.exists() for path in left)
            assert written.exists()
