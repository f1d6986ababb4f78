"""Time is summed over starts, whatever ended each."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from hrl.config import ConfigError
from hrl.run.stopwatch import Stopwatch


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_starts_add_up_and_what_lies_between_does_not_count(tmp_path: Path) -> None:
    path, clock = tmp_path / "demo" / "wall_seconds.json", Clock()
    with Stopwatch(path, clock=clock) as first:
        clock.now += 30
        assert first.seconds == 30
    clock.now += 1000
    with suppress(KeyboardInterrupt), Stopwatch(path, clock=clock):
        clock.now += 5
        raise KeyboardInterrupt
    clock.now += 1000
    with Stopwatch(path, clock=clock) as last:
        clock.now += 7
        assert last.seconds == 42
    assert json.loads(path.read_text()) == {"wall_seconds": 42.0}


def test_a_killed_start_counts(tmp_path: Path) -> None:
    path = tmp_path / "wall_seconds.json"
    program = (
        "import pathlib, sys, time; from hrl.run.stopwatch import Stopwatch\n"
        "with Stopwatch(pathlib.Path(sys.argv[1]), interval=0.05): time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Stopwatch(path) as again:
        assert 0.1 < again.seconds < 60


@pytest.mark.parametrize("content", ["", "{}", "[3]", '{"wall_seconds": "long"}'])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "wall_seconds.json").write_text(content)
    with pytest.raises(ConfigError, match=r"wall_seconds\.json holds no wall_seconds: remove it"):
        Stopwatch(tmp_path / "wall_seconds.json")
