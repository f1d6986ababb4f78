"""Tests of which runs are watched, and of sums over them."""

import json
from pathlib import Path

import pytest

from hrl.dashboard import watcher
from hrl.dashboard.tables import duration, grid, headline, study_title
from hrl.dashboard.watcher import Snapshot, Watcher, latest_videos
from hrl.run.errors import FolderError
from hrl.run.folder import study_record
from tests.hrl.dashboard.logs import let_pass, log_steadily, start_run, write_study

PLACES = [f"points/{method}/seed_{seed}" for method in ("ppo", "skills") for seed in (11, 12)]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of four runs: one finished, one running, two not started."""
    monkeypatch.setattr(watcher, "FRESH", 0.0)
    folder = tmp_path / "quick"
    write_study(folder, 1000, *PLACES)
    log_steadily(start_run(folder / PLACES[0], method="ppo", seed=11), 100)
    log_steadily(start_run(folder / PLACES[1], method="ppo", seed=12), 40)
    return folder


def test_runs_of_a_study_are_there_before_they_start(study: Path) -> None:
    runs = Watcher([study]).snapshot().runs
    assert [(run.suite, run.method, run.seed, run.state) for run in runs] == [
        ("points", "ppo", 11, "finished"),
        ("points", "ppo", 12, "running"),
        ("points", "skills", 11, "waiting"),
        ("points", "skills", 12, "waiting"),
    ]
    rows = grid(runs)
    assert list(rows) == [("points", "train", "ppo"), ("points", "train", "skills")]
    assert list(rows["points", "train", "skills"]) == [11, 12]


def test_a_study_that_was_moved_shows_each_run_once(study: Path, tmp_path: Path) -> None:
    """As one on a cluster's disk does that is mounted elsewhere here."""
    moved = study.rename(tmp_path / "elsewhere")
    runs = Watcher([moved]).snapshot().runs
    assert [(run.method, run.seed, run.state) for run in runs] == [
        ("ppo", 11, "finished"),
        ("ppo", 12, "running"),
        ("skills", 11, "waiting"),
        ("skills", 12, "waiting"),
    ]


def test_progress_and_time_left_by_hand(study: Path) -> None:
    watched = Watcher([study])
    snapshot = watched.snapshot()
    assert snapshot.share == (1000 + 400) / 4000
    assert snapshot.seconds_left is None, "no run of skills has shown its speed"
    log_steadily(start_run(study / PLACES[2], method="skills", seed=11), 20)
    # At 5 frames a second: 600 frames, 800 and 1000 are 480 seconds of two runs at a time.
    snapshot = watched.snapshot()
    assert snapshot.seconds_left == pytest.approx((600 + 800 + 1000) / 5 / 2)
    assert headline(snapshot) == (
        "4 runs: 2 running, 1 waiting, 1 finished; 40 % of all frames; about 4 min left"
    )
    assert Snapshot((), 0.0, 0.0).share == 0.0


def test_the_longest_run_alone_bounds_the_time_left(study: Path) -> None:
    log_steadily(start_run(study / PLACES[2], method="skills", seed=11), 90)
    log_steadily(start_run(study / PLACES[3], method="skills", seed=12), 90)
    assert Watcher([study]).snapshot().seconds_left == pytest.approx(600 / 5)


def test_exit_codes_that_the_study_recorded_count(study: Path) -> None:
    run = study / PLACES[1]
    let_pass(run, 3600)
    record = study / "logs" / "train" / f"{PLACES[1]}.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"exit_code": 2}))
    assert Watcher([study]).snapshot().runs[1].state == "failed"
    record.write_text("{")
    assert Watcher([study]).snapshot().runs[1].state == "stopped"


@pytest.mark.parametrize(
    "odd",
    [float("nan"), 10**400, None, "x", "\0", "x" * 5000, [], {}],
    ids=lambda value: repr(value)[:6],
)
@pytest.mark.parametrize("key", ["name", "command", "folder", "log", "frames"])
def test_a_cell_of_odd_values_hides_no_other(study: Path, key: str, odd: object) -> None:
    record = json.loads(study_record(study).read_text())
    record["cells"][3][key] = odd
    study_record(study).write_text(json.dumps(record))
    runs = Watcher([study]).snapshot().runs
    assert [run.state for run in runs][:3] == ["finished", "running", "waiting"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"\x00\xff", b"[" * 100_000, b'{"cells": {}}'])
def test_a_damaged_record_of_a_study_leaves_its_runs(study: Path, content: bytes) -> None:
    study_record(study).write_bytes(content)
    assert len(Watcher([study]).snapshot().runs) == 2
    assert study_title([study]) == str(study)


def test_runs_that_come_later_are_found_and_what_is_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "FRESH", 0.0)
    start_run(tmp_path / "runs" / "a")
    watched = Watcher([tmp_path / "runs"])
    assert len(watched.snapshot().runs) == 1
    start_run(tmp_path / "runs" / "b", seed=1)
    assert len(watched.snapshot().runs) == 2
    with pytest.raises(FolderError, match="nowhere: no run folder and no study there"):
        Watcher([tmp_path / "runs", tmp_path / "nowhere"])
    with pytest.raises(FolderError, match="no run folder was given"):
        Watcher([])


def test_what_was_read_stays_for_a_moment(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "FRESH", 60.0)
    watched = Watcher([study])
    first = watched.snapshot()
    log_steadily(start_run(study / PLACES[2], method="skills"), 2)
    assert watched.snapshot() is first


def test_the_latest_videos_are_the_newest(study: Path) -> None:
    videos = study / PLACES[0] / "videos"
    videos.mkdir()
    for name in ("000000100_a.mp4", "000000900_a.mp4", "000000500_b.mp4", "notes.txt"):
        (videos / name).touch()
    run = Watcher([study]).snapshot().runs[0]
    assert [path.name for path in latest_videos(run, 2)] == ["000000900_a.mp4", "000000500_b.mp4"]


def test_titles_and_times_as_a_reader_writes_them(study: Path) -> None:
    assert study_title([study, Path("runs/x")]) == "quick: Does it help?; runs/x"
    assert [duration(seconds) for seconds in (None, 5, 130, 9000)] == [
        "-",
        "5 s",
        "2 min",
        "2 h 30 min",
    ]
