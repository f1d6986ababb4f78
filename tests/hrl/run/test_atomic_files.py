"""Files are whole or not there."""

import os
from pathlib import Path

import pytest

from hrl.run.atomic_files import atomic_file, link_atomic, write_json, write_text_atomic


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
