"""Metrics survive a kill byte for byte, and a display that fails never takes the run with it."""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hrl.run.errors import LoggerError
from hrl.run.folder import RunFolder
from hrl.run.logger import Logger


def open_tracker(
    folder: Path, resume_at: Mapping[str, Any] | None = None, **displays: Any
) -> Logger:
    settings: dict[str, Any] = {"wandb_mode": "disabled", "tensorboard": False} | displays
    return Logger(
        RunFolder(folder), config={"agent": {"name": "ppo"}}, resume_at=resume_at, **settings
    )


def measured(frames: int) -> dict[str, float]:
    rng = np.random.default_rng(frames)
    return {
        "train/return": float(rng.normal()),
        "updates": frames // 10,
        "frames": frames,
        "loss/policy": rng.random(),
    }


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_holds_every_digit_in_a_fixed_order(tmp_path: Path) -> None:
    with open_tracker(tmp_path) as tracker:
        tracker.log(
            {
                "z": 0.1 + 0.2,
                "updates": 1,
                "a": np.float32(0.1),
                "frames": np.int64(10),
                "steps": 5,
                "b": 3,
            }
        )
    expected = '{"frames": 10, "steps": 5, "updates": 1, "a": 0.10000000149011612, "b": 3, "z": 0.30000000000000004}\n'
    assert (tmp_path / "metrics.jsonl").read_text() == expected


def test_lines_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path)
    tracker.log(measured(10))
    assert lines(tmp_path / "metrics.jsonl")[0]["frames"] == 10
    tracker.close()


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"frames": 1, "loss/policy": float("nan")}, "'loss/policy' is nan"),
        ({"frames": 1, "loss/policy": np.float32("inf")}, "'loss/policy' is inf"),
        ({"loss/policy": 1.0}, "need 'frames'"),
        ({"frames": 1, "name": "ppo"}, "'name' must be a number"),
        ({"frames": 1, "done": True}, "'done' must be a number"),
    ],
)
def test_what_is_no_finite_number_is_refused_by_name(
    tmp_path: Path, metrics: Any, message: str
) -> None:
    with open_tracker(tmp_path) as tracker, pytest.raises(ValueError, match=message):
        tracker.log(metrics)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_wall_clock_goes_to_its_own_file(tmp_path: Path) -> None:
    with open_tracker(tmp_path) as tracker:
        tracker.log_timing(1000, 12.3456789, 81.0)
    assert lines(tmp_path / "timing.jsonl") == [
        {"frames": 1000, "seconds": 12.346, "frames_per_second": 81.0}
    ]
    assert (tmp_path / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize("saved_at", [0, 30, 70])
def test_a_run_killed_and_continued_ends_with_the_same_bytes(tmp_path: Path, saved_at: int) -> None:
    through, killed = tmp_path / "through", tmp_path / "killed"
    for folder in (through, killed):
        folder.mkdir()
    with open_tracker(through) as tracker:
        for frames in range(10, 101, 10):
            tracker.log(measured(frames))

    tracker, position = open_tracker(killed), None
    for frames in range(10, 81, 10):
        tracker.log(measured(frames))
        tracker.log_timing(frames, frames / 7, 7.0)
        if frames == saved_at:
            tracker.flush()
            position = json.loads(json.dumps(tracker.position()))
    with open(killed / "metrics.jsonl", "ab") as file:
        file.write(b'{"frames": 90, "los')  # the kill came in the middle of a line
    with open_tracker(killed, position) as tracker:
        for frames in range(saved_at + 10, 101, 10):
            tracker.log(measured(frames))

    assert (killed / "metrics.jsonl").read_bytes() == (through / "metrics.jsonl").read_bytes()
    assert [line["frames"] for line in lines(killed / "timing.jsonl")] == list(
        range(10, saved_at + 1, 10)
    )


def test_a_file_that_is_not_the_checkpoints_is_refused_and_not_touched(tmp_path: Path) -> None:
    with open_tracker(tmp_path) as tracker:
        tracker.log(measured(10))
        tracker.log_timing(10, 1.0, 10.0)
        position = tracker.position()
    for name in ("metrics", "timing"):
        path = tmp_path / f"{name}.jsonl"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(
            LoggerError, match=rf"{name}\.jsonl has {len(whole) - 1} bytes, but had {len(whole)}"
        ):
            open_tracker(tmp_path, position)
        path.write_bytes(whole[:-1] + b" and another line\n")
        with pytest.raises(LoggerError, match=f"no line that ends at byte {len(whole)}"):
            open_tracker(tmp_path, position)
        assert path.read_bytes() == whole[:-1] + b" and another line\n"
        path.write_bytes(whole)
    open_tracker(tmp_path, position).close()
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(LoggerError, match=r"metrics\.jsonl has 0 bytes"):
        open_tracker(tmp_path, position)


def test_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="online, offline, disabled, not 'on'"):
        open_tracker(tmp_path, wandb_mode="on")
    with pytest.raises(ValueError, match="lacks timing, wandb_id"):
        open_tracker(tmp_path, {"metrics": 0, "frames": 0})
    assert list(tmp_path.iterdir()) == []


def test_flush_brings_the_lines_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}"))
    )
    with open_tracker(tmp_path) as tracker:
        tracker.flush()
        assert synced == [str(tmp_path / "metrics.jsonl"), str(tmp_path / "timing.jsonl")]


# Displays.


def tensorboard_steps(folder: Path, key: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(key)]


def test_tensorboard_shows_a_continued_run_as_one(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path, tensorboard=True)
    for frames in (10, 20, 30, 40):
        tracker.log({"frames": frames, "loss/policy": frames / 2})
        if frames == 20:
            position = tracker.position()
    tracker.close()
    time.sleep(1.1)  # TensorBoard orders the files of a run by the second in their names
    with open_tracker(tmp_path, position, tensorboard=True) as tracker:
        tracker.log({"frames": 30, "loss/policy": -1.0})
        tracker.log_video("video/walk", tmp_path / "videos" / "000000030_walk.mp4", 30)
    assert tensorboard_steps(tmp_path, "loss/policy") == [(10, 5.0), (20, 10.0), (30, -1.0)]


def test_a_run_that_starts_anew_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    """Killed before its first checkpoint, so that there is no position to go on from."""
    tracker = open_tracker(tmp_path, tensorboard=True)
    for frames in (10, 20, 30):
        tracker.log({"frames": frames, "loss/policy": 7.0})
    tracker.flush()
    (tmp_path / "tensorboard" / "notes.txt").write_text("the user's own")
    with open_tracker(tmp_path, tensorboard=True) as again:
        again.log({"frames": 10, "loss/policy": 1.0})
    tracker.close()
    assert tensorboard_steps(tmp_path, "loss/policy") == [(10, 1.0)]
    assert (tmp_path / "tensorboard" / "notes.txt").exists()


def test_wandb_works_offline_without_account_network_or_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers there
    video = tmp_path / "walk.mp4"
    video.write_bytes(b"not looked into")
    with open_tracker(tmp_path, wandb_mode="offline") as tracker:
        tracker.log(measured(10))
        tracker.log_video("video/walk", video, 10)
        position = tracker.position()
        started = time.monotonic()
    assert time.monotonic() - started < 5.0
    with open_tracker(tmp_path, position, wandb_mode="offline") as tracker:
        tracker.log(measured(20))
        assert tracker.position()["wandb_id"] == position["wandb_id"]
    assert capfd.readouterr() == ("", "")
    identity = (tmp_path / "wandb" / "run_id").read_text()
    assert identity == position["wandb_id"]
    records = list((tmp_path / "wandb").glob(f"offline-run-*/run-{identity}.wandb"))
    assert records
    assert any(b"loss/policy" in path.read_bytes() for path in records)
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/videos/video/walk_*.mp4"))
    assert "WANDB_CACHE_DIR" not in os.environ


def test_a_display_that_does_not_start_is_left_out_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**settings: Any) -> None:
        raise ConnectionError("the service did not answer")

    monkeypatch.setattr("wandb.init", refuse)
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="did not start") as caught:
        tracker = open_tracker(tmp_path, wandb_mode="offline", tensorboard=True)
    assert len(caught) == 2
    assert "the service did not answer" in str(caught[1].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracker.log(measured(10))
        tracker.close()
    assert len(lines(tmp_path / "metrics.jsonl")) == 1


def test_a_display_that_fails_later_is_dropped_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise BrokenPipeError("the service is gone")

    tracker = open_tracker(tmp_path, tensorboard=True)
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", fail)
    with pytest.warns(UserWarning, match="TensorBoard failed .*the service is gone"):
        tracker.log(measured(10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracker.log(measured(20))
        tracker.log(measured(30))
        tracker.close()
    assert [line["frames"] for line in lines(tmp_path / "metrics.jsonl")] == [10, 20, 30]


def test_a_display_that_is_off_is_not_even_imported(tmp_path: Path) -> None:
    program = (
        "import sys, hrl.run.logger as tracking, hrl.run.folder as folder\n"
        "tracker = tracking.Logger(folder.RunFolder(sys.argv[1]), config={}, wandb_mode='disabled', tensorboard=False)\n"
        "tracker.log({'frames': 1}); tracker.close()\n"
        "assert not {'wandb', 'tensorboard'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "timing.jsonl"]
