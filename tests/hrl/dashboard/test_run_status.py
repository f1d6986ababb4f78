"""Tests of what is said of a run from its folder alone."""

from pathlib import Path

import pytest

from hrl.dashboard.run_status import LEAST_PATIENCE, FollowedRun, RunStatus, locked_inodes
from hrl.run.folder import RunFolder
from tests.hrl.dashboard.logs import append, let_pass, log, log_steadily, start_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return start_run(tmp_path / "run", method="skills", seed=3)


def status(run: Path, exit_code: int | None = None, locked: bool = False) -> RunStatus:
    inodes = {(run / ".lock").stat().st_ino} if locked else set()
    return FollowedRun(run).status(inodes, exit_code)


def test_a_run_names_itself_and_how_far_it_is(run: Path) -> None:
    log_steadily(run, 30)
    found = status(run, locked=True)
    assert (found.suite, found.method, found.seed, found.kind) == ("points", "skills", 3, "train")
    assert (found.state, found.frames, found.budget, found.share) == ("running", 300, 1000, 0.3)
    assert found.rate == pytest.approx(5.0)  # 10 frames in 2 seconds
    assert found.seconds_left == pytest.approx(140.0)
    assert not found.evaluated


def test_its_speed_is_that_of_the_last_lines(run: Path) -> None:
    log_steadily(run, 20)
    for line in range(1, 11):
        log(run, 200 + 10 * line, 40.0 + 10 * line)
    assert status(run, locked=True).rate == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("frames", "age", "locked", "exit_code", "expected"),
    [
        (300, 0, True, None, "running"),
        (300, 0, False, None, "running"),  # on another machine, whose locks are not seen
        (300, 2 * LEAST_PATIENCE, True, None, "stalled"),
        (300, 2 * LEAST_PATIENCE, False, None, "stopped"),
        (300, 2 * LEAST_PATIENCE, False, 143, "stopped"),  # saved after a signal
        (300, 2 * LEAST_PATIENCE, False, 2, "failed"),
        (1000, 0, False, None, "finished"),
        (1000, 2 * LEAST_PATIENCE, False, 2, "finished"),
    ],
)
def test_states(
    run: Path, frames: int, age: float, locked: bool, exit_code: int | None, expected: str
) -> None:
    log_steadily(run, frames // 10)
    let_pass(run, age)
    found = status(run, exit_code, locked)
    assert found.state == expected
    names = {alert.name for alert in found.alerts}
    assert names == ({expected} & {"stalled", "stopped", "failed"})


def test_a_run_whose_lines_take_long_is_given_time(run: Path) -> None:
    for line in range(1, 4):
        log(run, 10 * line, 600.0 * line)
    let_pass(run, 3 * LEAST_PATIENCE)
    assert status(run, locked=True).state == "running"


def test_a_number_that_is_not_finite_is_an_error(run: Path) -> None:
    log_steadily(run, 3)
    RunFolder(run).nonfinite(7).touch()
    let_pass(run, 2 * LEAST_PATIENCE)
    found = status(run)
    assert found.state == "failed"
    assert next((one.level, one.name) for one in found.alerts) == ("error", "not finite")


def test_a_folder_that_is_not_there_or_damaged_is_waiting(tmp_path: Path) -> None:
    assert FollowedRun(tmp_path / "later").status(set()).state == "waiting"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("a: [")
    assert FollowedRun(tmp_path / "run").status(set()).budget == 0


ODD = [float("nan"), float("inf"), 10**400, -1, None, "many", [1], {}, True]


@pytest.mark.parametrize("odd", ODD, ids=lambda value: str(value)[:6])
def test_a_configuration_of_odd_values_hides_no_other_run(tmp_path: Path, odd: object) -> None:
    """A folder may be a stranger's, or of another version."""
    for key in ("frames", "seed", "method", "agent", "suite", "finetune"):
        run = start_run(tmp_path / key, **{"method": "skills", key: odd})
        log_steadily(run, 30, **{"manager/task/value_most": 9e9})
        assert status(run).frames == 300
    suite = {"name": odd, "reference_return": odd}
    run = start_run(tmp_path / "return", suite=suite)
    log_steadily(run, 30, **{"manager/task/value_most": 9e9})
    assert status(run).frames == 300


@pytest.mark.parametrize("odd", ODD, ids=lambda value: str(value)[:6])
def test_lines_of_odd_values_are_left_out(run: Path, odd: object) -> None:
    log_steadily(run, 20)
    append(run / "timing.jsonl", {"frames": odd, "seconds": 41.0})
    append(run / "timing.jsonl", {"frames": 205, "seconds": odd})
    append(run / "metrics.jsonl", {"frames": odd})
    log(run, 210, 42.0)
    found = status(run)
    assert (found.frames, found.seconds) == (210, 42.0)
    assert found.rate == pytest.approx(5.0, rel=0.1)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not list locks")
def test_locks_are_seen_without_taking_any(run: Path) -> None:
    inode = (run / ".lock").stat().st_ino
    assert inode not in locked_inodes()
    with RunFolder(run).lock():
        assert inode in locked_inodes()
        assert status_now(run).state == "running"
    assert inode not in locked_inodes()


def status_now(run: Path) -> RunStatus:
    log_steadily(run, 2)
    return FollowedRun(run).status(locked_inodes())
