"""Files are whole or not there."""

import os
from pathlib import Path

import pytest

from hrl.run.atomic_files import (
    atomic_file,
    link_atomic,
    staged_texts,
    write_json,
    write_text_atomic,
)


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
        with pytest.raises(OSError, match=r"full: '.*/config\.yaml'"):
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


def test_a_full_disk_changes_none_of_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "evaluation.json", tmp_path / "scores.csv"
    with staged_texts({first: "old", second: "old"}):
        assert not first.exists()
    fsync = os.fsync

    def full(number: int) -> None:
        if "scores" in os.readlink(f"/proc/self/fd/{number}"):
            raise OSError(28, "No space left on device")
        fsync(number)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with (
            pytest.raises(OSError, match=r"No space left on device: '.*/scores\.csv'"),
            staged_texts({first: "new", second: "new"}),
        ):
            raise AssertionError("the block is not entered")
    assert [path.read_text() for path in (first, second)] == ["old", "old"]
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_the_first_of_several_files_takes_its_name_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    replace = os.replace
    monkeypatch.setattr(
        os, "replace", lambda *paths: (names.append(paths[1].name), replace(*paths))
    )
    with staged_texts({tmp_path / name: name for name in ("record", "scores", "usage")}):
        assert not names
    assert names == ["usage", "scores", "record"]


def test_what_is_not_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for value in (float("nan"), {1, 2}):
        with pytest.raises(ValueError, match=r"environment\.json cannot be written as JSON"):
            write_json(tmp_path / "environment.json", {"value": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_replaces_what_had_it(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a hard link, or by a copy where the file system has none."""
    if not links:
        monkeypatch.setattr(
            os, "link", lambda *paths: (_ for _ in ()).throw(OSError(1, "no links"))
        )
    (tmp_path / "policy").write_text("old")
    (tmp_path / "step").write_text("new")
    link_atomic(tmp_path / "step", tmp_path / "policy")
    assert (tmp_path / "policy").read_text() == "new"
    assert (tmp_path / "policy").samefile(tmp_path / "step") == links
    (tmp_path / "step").unlink()
    assert (tmp_path / "policy").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
