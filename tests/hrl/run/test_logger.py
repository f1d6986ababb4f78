"""Metrics survive a kill byte for byte, and a display that fails never takes the run with it."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from hrl.evaluation.video_writer import write_mp4
from hrl.run.errors import LoggerError
from hrl.run.folder import RunFolder
from hrl.run.logger import Logger, _run_id


def open_logger(
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
    with open_logger(tmp_path) as logger:
        logger.log(
            {
                "z": 0.1 + 0.2,
                "updates": 1,
                "a": np.float32(0.1),
                "frames": np.int64(10),
                "steps": 5,
                "b": 3,
            }
        )
    expected = (
        '{"frames": 10, "steps": 5, "updates": 1, '
        '"a": 0.10000000149011612, "b": 3, "z": 0.30000000000000004}\n'
    )
    assert (tmp_path / "metrics.jsonl").read_text() == expected


def test_lines_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    logger = open_logger(tmp_path)
    logger.log(measured(10))
    assert lines(tmp_path / "metrics.jsonl")[0]["frames"] == 10
    logger.close()


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
    with open_logger(tmp_path) as logger, pytest.raises(ValueError, match=message):
        logger.log(metrics)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_wall_clock_goes_to_its_own_file(tmp_path: Path) -> None:
    with open_logger(tmp_path) as logger:
        logger.log_timing(1000, 12.3456789, 81.0)
    assert lines(tmp_path / "timing.jsonl") == [
        {"frames": 1000, "seconds": 12.346, "frames_per_second": 81.0}
    ]
    assert (tmp_path / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize("saved_at", [0, 30, 70])
def test_a_run_killed_and_continued_ends_with_the_same_bytes(tmp_path: Path, saved_at: int) -> None:
    through, killed = tmp_path / "through", tmp_path / "killed"
    for folder in (through, killed):
        folder.mkdir()
    with open_logger(through) as logger:
        for frames in range(10, 101, 10):
            logger.log(measured(frames))

    logger, position = open_logger(killed), None
    for frames in range(10, 81, 10):
        logger.log(measured(frames))
        logger.log_timing(frames, frames / 7, 7.0)
        if frames == saved_at:
            logger.flush()
            position = json.loads(json.dumps(logger.position()))
    with open(killed / "metrics.jsonl", "ab") as file:
        file.write(b'{"frames": 90, "los')  # the kill came in the middle of a line
    with open_logger(killed, position) as logger:
        for frames in range(saved_at + 10, 101, 10):
            logger.log(measured(frames))

    assert (killed / "metrics.jsonl").read_bytes() == (through / "metrics.jsonl").read_bytes()
    assert [line["frames"] for line in lines(killed / "timing.jsonl")] == list(
        range(10, saved_at + 1, 10)
    )


def logged(folder: Path) -> Mapping[str, Any]:
    """Log three lines into both files and return where they end."""
    with open_logger(folder) as logger:
        for frames in (10, 20, 30):
            logger.log(measured(frames))
            logger.log_timing(frames, 1.0, 10.0)
        return logger.position()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-1], r"has \d+ bytes, but had \d+ when"),
        (lambda whole: whole[:-1] + b" and another line\n", "line 3 is damaged"),
        (lambda whole: whole.replace(b'"frames": 20', b'"frames: 20"'), "line 2 is damaged"),
        (lambda whole: whole.replace(b'"frames": 20', b'"framez": 20'), "line 2 is damaged"),
        (lambda whole: b"\xff" + whole[1:], "line 1 is damaged"),
        (lambda whole: b"[" * 100_000 + whole, "line 1 is damaged"),
        (lambda whole: whole.replace(b"10", b"1" * 400, 1), "line 1 is damaged"),
        (lambda whole: b"", "has 0 bytes"),
    ],
)
def test_metrics_that_are_not_the_checkpoints_are_refused_and_not_touched(
    damage: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    position = logged(tmp_path)
    path = tmp_path / "metrics.jsonl"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(LoggerError, match=rf"metrics\.jsonl:? {message}"):
        open_logger(tmp_path, position)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (lambda whole: whole[:-1], [10, 20]),
        (lambda whole: whole.replace(b'"frames": 20', b'"frames: 20"'), [10]),
        (lambda whole: b"", []),
    ],
)
def test_lost_times_are_left_out_with_a_warning(
    damage: Callable[[bytes], bytes], left: list[int], tmp_path: Path
) -> None:
    position = logged(tmp_path)
    path = tmp_path / "timing.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"timing\.jsonl was cut or damaged"):
        logger = open_logger(tmp_path, position)
    logger.log_timing(40, 2.0, 10.0)
    logger.close()
    assert [line["frames"] for line in lines(path)] == [*left, 40]


def test_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="online, offline, disabled, not 'on'"):
        open_logger(tmp_path, wandb_mode="on")
    with pytest.raises(ValueError, match="lacks timing, wandb_id"):
        open_logger(tmp_path, {"metrics": 0, "frames": 0})
    assert list(tmp_path.iterdir()) == []


def test_flush_brings_the_lines_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}"))
    )
    with open_logger(tmp_path) as logger:
        logger.flush()
        assert synced == [str(tmp_path / "metrics.jsonl"), str(tmp_path / "timing.jsonl")]


def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    with open_logger(tmp_path) as logger:
        logger.log(measured(10))
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OSError, match=r"No space left on device: '.*/metrics\.jsonl'"):
                logger.flush()


# TensorBoard and W&B.


def tensorboard_steps(folder: Path, key: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(key)]


def test_tensorboard_shows_a_continued_run_as_one(tmp_path: Path) -> None:
    logger = open_logger(tmp_path, tensorboard=True)
    for frames in (10, 20, 30, 40):
        logger.log({"frames": frames, "loss/policy": frames / 2})
        if frames == 20:
            position = logger.position()
    logger.close()
    time.sleep(1.1)  # TensorBoard orders the files of a run by the second in their names
    with open_logger(tmp_path, position, tensorboard=True) as logger:
        logger.log({"frames": 30, "loss/policy": -1.0})
    assert tensorboard_steps(tmp_path, "loss/policy") == [(10, 5.0), (20, 10.0), (30, -1.0)]


def test_tensorboard_shows_videos_that_move(tmp_path: Path) -> None:
    video = tmp_path / "walk.mp4"
    write_mp4(video, (np.full((64, 200, 3), 20 * time, np.uint8) for time in range(12)), fps=20)
    with open_logger(tmp_path, tensorboard=True) as logger:
        logger.log_video("video/walk", video, 30)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (shown,) = events.Images("video/walk")
    image = Image.open(BytesIO(shown.encoded_image_string))
    assert (shown.step, shown.width, shown.height) == (30, *image.size)
    assert image.format == "GIF"
    assert getattr(image, "n_frames", 1) == 6


def test_a_run_that_starts_anew_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    """Killed before its first checkpoint, so that there is no position to go on from."""
    logger = open_logger(tmp_path, tensorboard=True)
    for frames in (10, 20, 30):
        logger.log({"frames": frames, "loss/policy": 7.0})
    logger.flush()
    (tmp_path / "tensorboard" / "notes.txt").write_text("the user's own")
    with open_logger(tmp_path, tensorboard=True) as again:
        again.log({"frames": 10, "loss/policy": 1.0})
    logger.close()
    assert tensorboard_steps(tmp_path, "loss/policy") == [(10, 1.0)]
    assert (tmp_path / "tensorboard" / "notes.txt").exists()


def test_wandb_works_offline_without_account_network_or_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers there
    video = tmp_path / "walk.mp4"
    video.write_bytes(b"not looked into")
    with open_logger(tmp_path, wandb_mode="offline") as logger:
        logger.log_video("video/walk", video, 10)
        logger.log(measured(10))
        position = logger.position()
        started = time.monotonic()
    assert time.monotonic() - started < 5.0
    with open_logger(tmp_path, position, wandb_mode="offline") as logger:
        logger.log(measured(20))
        assert logger.position()["wandb_id"] == position["wandb_id"]
    assert capfd.readouterr() == ("", "")
    identity = (tmp_path / "wandb" / "run_id").read_text()
    assert identity == position["wandb_id"]
    records = list((tmp_path / "wandb").glob(f"offline-run-*/run-{identity}.wandb"))
    assert records
    assert any(b"loss/policy" in path.read_bytes() for path in records)
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/videos/video/walk_*.mp4"))
    assert "WANDB_CACHE_DIR" not in os.environ


@pytest.mark.parametrize("damage", [b"", b"\xff\x00", b"../x\n", b"0123456789abc"])
def test_a_damaged_id_of_wandb_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    """An empty one is what a kill between two system calls, or a full disk, leaves."""
    first = _run_id(tmp_path)
    assert _run_id(tmp_path) == first
    (tmp_path / "run_id").write_bytes(damage)
    second = _run_id(tmp_path)
    assert re.fullmatch("[0-9a-f]{12}", second)
    assert _run_id(tmp_path) == second != first


LOGGED_RUN = """
import ast, os, sys
import psutil
from hrl.run.folder import RunFolder
from hrl.run.logger import Logger, _run_id
folder, position, first, last = sys.argv[1:]
logger = Logger(
    RunFolder(folder),
    config={},
    wandb_mode="offline",
    tensorboard=False,
    resume_at=ast.literal_eval(position),
)
for frames in range(int(first), int(last), 10):
    logger.log({"frames": frames, "loss": frames / 8})
logger.flush()
print(logger.position(), flush=True)
if position != "None":
    logger.close()
    sys.exit()
for child in psutil.Process().children(recursive=True):
    child.kill()
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_wandb_holds_every_step_after_a_kill_of_the_run_and_its_service(tmp_path: Path) -> None:
    # A service of its own, not that of this process.
    environment = {key: value for key, value in os.environ.items() if "WANDB" not in key}

    def log(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LOGGED_RUN, str(tmp_path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    killed = log("None", "10", "60")
    assert killed.returncode == -signal.SIGKILL
    assert log(killed.stdout.strip(), "60", "70").returncode == 0
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    expected = [json.loads(line) for line in lines]
    assert [record["frames"] for record in expected] == list(range(10, 70, 10))
    assert {record["frames"]: record for record in wandb_history(tmp_path)} == {
        record["frames"]: record for record in expected
    }


def wandb_history(folder: Path) -> list[dict[str, float]]:
    """The steps in the files that W&B writes offline.

    Their format is LevelDB's log: blocks of 32 KiB, in which each part of a record follows its
    checksum, size and kind (1 a whole record, 2 the first, 3 a middle, 4 the last part).
    """
    steps = []
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        data, position, raw = path.read_bytes(), 7, b""
        while position + 7 <= len(data):
            left = 2**15 - position % 2**15
            if left < 7:
                position += left
                continue
            _, size, kind = struct.unpack("<IHB", data[position : position + 7])
            raw += data[position + 7 : position + 7 + size]
            position += 7 + size
            if kind not in (1, 4):
                continue
            record, raw = wandb_internal_pb2.Record.FromString(raw), b""
            if record.WhichOneof("record_type") == "history":
                items = {item.key or item.nested_key[0]: item for item in record.history.item}
                values = {key: json.loads(item.value_json) for key, item in items.items()}
                steps.append({key: v for key, v in values.items() if not key.startswith("_")})
    return steps


def test_a_continued_run_gives_wandb_again_what_it_lacks(
    tmp_path: Path, wandb_arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_logger(tmp_path, wandb_mode="offline") as logger:
        for frames in (10, 20, 30):
            logger.log({"frames": frames})
        position = logger.position()
        logger.log({"frames": 40})
    with open_logger(tmp_path, position, wandb_mode="offline"):
        pass
    assert [step for _, step in wandb_arguments["run"].logged] == [10, 20, 30]
    monkeypatch.setattr(WandbRun, "starting_step", 21)
    with open_logger(tmp_path, position, wandb_mode="online") as logger:
        logger.log({"frames": 40})
    assert [step for _, step in wandb_arguments["run"].logged] == [30, 40]


WANDB_CONFIG = {
    "agent": {"name": "skills"},
    "suite": {"name": "point_mass"},
    "method": "flat",
    "seed": 3,
    "tracking": {"group": ""},
}


class WandbRun:
    """What a run calls of `wandb`, remembered."""

    starting_step = 0

    def __init__(self) -> None:
        self.defined: list[tuple[str, dict[str, Any]]] = []
        self.logged: list[tuple[dict[str, Any], int]] = []

    def define_metric(self, name: str, **settings: Any) -> None:
        self.defined.append((name, settings))

    def log(self, metrics: dict[str, Any], step: int, commit: bool = False) -> None:
        assert commit, "W&B waits for the next step otherwise"
        self.logged.append((metrics, step))

    def finish(self) -> None:
        pass


@pytest.fixture
def wandb_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of `wandb.init`."""
    found: dict[str, Any] = {}

    def init(**arguments: Any) -> WandbRun:
        found.update(arguments, run=WandbRun())
        return found["run"]

    monkeypatch.setattr("wandb.init", init)
    for variable in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(variable)
    return found


def open_wandb(folder: Path, **changes: Any) -> None:
    Logger(
        RunFolder(folder), config=WANDB_CONFIG | changes, wandb_mode="offline", tensorboard=False
    ).close()


def test_wandb_names_a_run_by_suite_method_and_seed(
    tmp_path: Path, wandb_arguments: dict[str, Any]
) -> None:
    open_wandb(tmp_path)
    assert wandb_arguments["project"] == "pixel-hrl"
    assert wandb_arguments["name"] == "point_mass-flat-3"
    assert wandb_arguments["group"] == "point_mass-flat"
    assert wandb_arguments["tags"] == ["point_mass", "flat", "skills"]
    assert wandb_arguments["run"].defined == [("frames", {}), ("*", {"step_metric": "frames"})]
    open_wandb(tmp_path, tracking={"group": "half_hour"})
    assert wandb_arguments["group"] == "half_hour"


@pytest.mark.parametrize(
    ("variable", "argument"),
    [
        ("WANDB_PROJECT", "project"),
        ("WANDB_NAME", "name"),
        ("WANDB_RUN_GROUP", "group"),
        ("WANDB_TAGS", "tags"),
        ("WANDB_ENTITY", "entity"),
        ("WANDB_MODE", "mode"),
        ("WANDB_DIR", "dir"),
    ],
)
def test_what_the_user_says_by_a_variable_is_left_to_wandb(
    variable: str,
    argument: str,
    tmp_path: Path,
    wandb_arguments: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, "offline")
    open_wandb(tmp_path)
    assert argument not in wandb_arguments


OWN_VARIABLES = {
    "WANDB_PROJECT": "thesis",
    "WANDB_NAME": "my-run",
    "WANDB_RUN_GROUP": "my-group",
    "WANDB_TAGS": "chapter-five,final",
    "WANDB_BASE_URL": "http://127.0.0.1:9",
}


def test_wandb_itself_takes_the_users_variables(tmp_path: Path) -> None:
    """The real library, offline: its own record holds the names."""
    own, run = tmp_path / "own", tmp_path / "run"
    own.mkdir()
    run.mkdir()
    program = (
        "import sys; from hrl.run.logger import Logger; from hrl.run.folder import RunFolder; "
        "Logger(RunFolder(sys.argv[1]), config={}, wandb_mode='offline', tensorboard=False).close()"
    )
    variables = os.environ | OWN_VARIABLES | {"WANDB_DIR": str(own)}
    subprocess.run([sys.executable, "-c", program, str(run)], check=True, env=variables, timeout=90)
    (record,) = (own / "wandb").glob("offline-run-*/run-*.wandb")
    content = record.read_bytes()
    for value in (b"thesis", b"my-run", b"my-group", b"chapter-five"):
        assert value in content
    assert b"suite-method-0" not in content


def test_a_log_that_does_not_start_is_left_out_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**settings: Any) -> None:
        raise ConnectionError("the service did not answer")

    monkeypatch.setattr("wandb.init", refuse)
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="did not start") as caught:
        logger = open_logger(tmp_path, wandb_mode="offline", tensorboard=True)
    assert len(caught) == 2
    assert "the service did not answer" in str(caught[1].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logger.log(measured(10))
        logger.close()
    assert len(lines(tmp_path / "metrics.jsonl")) == 1


def test_a_log_that_fails_later_is_dropped_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise BrokenPipeError("the service is gone")

    logger = open_logger(tmp_path, tensorboard=True)
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", fail)
    with pytest.warns(UserWarning, match="TensorBoard failed .*the service is gone"):
        logger.log(measured(10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logger.log(measured(20))
        logger.log(measured(30))
        logger.close()
    assert [line["frames"] for line in lines(tmp_path / "metrics.jsonl")] == [10, 20, 30]


def test_a_log_that_is_off_is_not_even_imported(tmp_path: Path) -> None:
    program = (
        "import sys, hrl.run.logger as logging, hrl.run.folder as folder\n"
        "logger = logging.Logger(folder.RunFolder(sys.argv[1]), config={}, "
        "wandb_mode='disabled', tensorboard=False)\n"
        "logger.log({'frames': 1}); logger.close()\n"
        "assert not {'wandb', 'tensorboard'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "timing.jsonl"]
