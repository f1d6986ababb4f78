"""Tests of files that are read while they are written: each byte once, whatever happens to them."""

import builtins
import json
from pathlib import Path

import pytest

from hrl.dashboard import followed
from hrl.dashboard.followed import MOST_LINES, TAIL_BYTES, Columns, Tail
from tests.hrl.dashboard.logs import append


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_lines_are_seen_when_they_are_whole(path: Path) -> None:
    tail = Tail(path)
    tail.poll()
    assert not tail.records, "the file is not there yet"
    with open(path, "w") as file:
        file.write('{"frames": 1}\n{"frames": 2, "lo')
        file.flush()
        tail.poll()
        assert [record["frames"] for record in tail.records] == [1]
        file.write('ss": 0.5}\n')
    tail.poll()
    assert tail.records[-1] == {"frames": 2, "loss": 0.5}
    assert tail.last("loss") == 0.5


def test_what_is_no_object_or_no_finite_number_is_left_out(path: Path) -> None:
    path.write_text('nonsense\n[1]\n{"a": NaN, "b": true, "c": "x", "frames": 1}\n{"a": 3}\n')
    tail = Tail(path)
    tail.poll()
    assert len(tail.records) == 2
    assert (tail.values("a"), tail.values("b"), tail.values("c")) == ([3.0], [], [])
    assert tail.names() == {"a", "b", "c", "frames"}


def test_only_the_end_is_read_and_then_only_what_is_new(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"frames": 1, "filling": "x" * 1000}) + "\n"
    path.write_text(line * (3 * TAIL_BYTES // len(line)))
    read: list[int] = []

    class Counting:
        def __init__(self, *arguments: str) -> None:
            self._file = builtins.open(*arguments)  # noqa: SIM115

        def __enter__(self) -> "Counting":
            return self

        def __exit__(self, *error: object) -> None:
            self._file.close()

        def seek(self, place: int) -> None:
            self._file.seek(place)

        def read(self, count: int = -1) -> bytes:
            content: bytes = self._file.read(count)
            read.append(len(content))
            return content

    monkeypatch.setattr(followed, "open", Counting, raising=False)
    tail = Tail(path)
    tail.poll()
    assert len(tail.records) == MOST_LINES
    assert sum(read) <= TAIL_BYTES
    read.clear()
    tail.poll()
    assert read == []
    append(path, {"frames": 2})
    tail.poll()
    assert tail.last("frames") == 2
    assert sum(read) < 200


def test_a_run_that_continues_from_a_checkpoint_cuts_its_log(path: Path) -> None:
    tail, columns = Tail(path), Columns(path)
    for frames in (1, 2, 3):
        append(path, {"frames": frames, "a": float(frames)})
    tail.poll()
    columns.read(["a"])
    kept = path.read_bytes().splitlines(keepends=True)[:1]
    path.write_bytes(b"".join(kept))
    for frames in (2, 3, 4):  # as long as before and longer, yet other lines
        append(path, {"frames": frames, "a": 10.0 * frames})
    tail.poll()
    assert tail.values("a") == [1.0, 20.0, 30.0, 40.0]
    frames_read, values = columns.read(["a"])["a"]
    assert frames_read.tolist() == [1, 2, 3, 4]
    assert values.tolist() == [1, 20, 30, 40]


def test_columns_are_read_when_they_are_asked_for(path: Path) -> None:
    columns = Columns(path)
    assert [one.tolist() for one in columns.read(["a"])["a"]] == [[], []]
    append(path, {"frames": 1, "a": -1.5e-7, "train/return/a": 7, "b": 2})
    append(path, {"frames": 2, "b": 3})
    append(path, {"a": 9, "frames": 4})
    append(path, {"frames": 3, "a": "text", "ba": 5})
    assert [one.tolist() for one in columns.read(["a"])["a"]] == [[1, 4], [-1.5e-7, 9]]
    both = columns.read(["a", "b"])
    assert [one.tolist() for one in both["b"]] == [[1, 2], [2, 3]]
    assert both["a"][0].tolist() == [1, 4]
    append(path, {"frames": 5, "b": 4})
    assert columns.read(["b"])["b"][1].tolist() == [2, 3, 4]


def test_columns_hold_what_json_has(path: Path) -> None:
    numbers = [0, -1, 1.5, 1e300, -2.5e-12, 123456789, 0.1 + 0.2]
    for index, value in enumerate(numbers):
        append(path, {"frames": index, "x/y.z": value})
    assert Columns(path).read(["x/y.z"])["x/y.z"][1].tolist() == numbers
