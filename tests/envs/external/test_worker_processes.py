"""Worker processes under signals, when they hang, and when the process that trains is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from envs import Suite, Task, make_vec
from envs.external import patience
from envs.external.forkserver import SHARED_SIGNALS
from envs.external.worker_pool import ExternalEnvError
from envs.vector.external import ExternalVectorEnv
from hrl.run.stop_signals import STOP_SIGNALS, stop_signals

ROOT = Path(__file__).parents[3]
STILL = np.zeros((2, 2), np.float32)


def _task(
    name: str, kwargs: str = "{}", evaluation_seed: int = 0, known_as: str = "Counter-v0"
) -> Task:
    known = {
        "id": f"tests.envs.external_fakes:{known_as}",
        "kwargs": kwargs,
        "render": "auto",
        "camera": "",
    }
    return Task(name, "gym", known, 12, evaluation_seed)


def _make(*tasks: Task) -> ExternalVectorEnv:
    suite = Suite("counters", 1, 100.0, "kwargs", {"train": tasks})
    env = make_vec(suite, 2, image_size=24, threads=2)
    assert isinstance(env, ExternalVectorEnv)
    return env


@pytest.fixture(scope="module")
def slow_env() -> Iterator[ExternalVectorEnv]:
    env = _make(_task("slow", "{seconds: 0.2}"))
    yield env
    env.close()


def _family_of(processes: list[int]) -> list[int]:
    """Return the processes with the one that started them."""
    return [psutil.Process(processes[0]).ppid(), *processes]


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"])
def test_libraries_of_a_worker_compute_with_one_thread(
    slow_env: ExternalVectorEnv, name: str
) -> None:
    """Threads of several workers would fight for the cores; what the user has set stays."""
    for process in slow_env.worker_processes:
        assert psutil.Process(process).environ()[name] == os.environ.get(name, "1")


def test_all_signals_that_stop_a_run_spare_its_workers() -> None:
    assert set(STOP_SIGNALS) <= set(SHARED_SIGNALS)


@pytest.mark.parametrize("number", SHARED_SIGNALS)
def test_a_signal_to_all_processes_of_a_run_ends_no_worker(
    slow_env: ExternalVectorEnv, number: signal.Signals
) -> None:
    slow_env.reset(seed=0)
    before = slow_env.worker_processes

    def send() -> None:
        for process in _family_of(before):
            os.kill(process, number)

    within_a_step = threading.Timer(0.1, send)
    within_a_step.start()
    slow_env.step(STILL)
    within_a_step.join()
    *_, truncated, _ = slow_env.step(STILL)
    assert not truncated.any()
    assert slow_env.worker_processes == before


def test_a_run_whose_whole_process_group_is_told_to_end_saves_first(tmp_path: Path) -> None:
    """As Ctrl-C in a terminal and the time limit of a batch system do."""
    folder = tmp_path / "run"
    overrides = [
        "suite=gym/tests.envs.external_fakes:Slow-v0",
        f"folder={folder}",
        "agent=ppo",
        "size=debug",
        "threads=1",
        "tracking.wandb=disabled",
        "tracking.progress=false",
        "evaluation.every=0",
        "frames=1_000_000",
    ]
    command = [sys.executable, str(ROOT / "scripts/train.py"), *overrides]
    finds_tests = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=finds_tests, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        metrics = folder / "metrics.jsonl"
        # The empty file is there before signals are waited for, when nothing is lost yet.
        while not (metrics.exists() and metrics.read_text()):
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGTERM)
        _, printed = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, printed
    assert list((folder / "checkpoints").glob("*.training.safetensors"))


def test_a_worker_that_hangs_is_named_and_replaced_until_it_is_hopeless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = _make(_task("fine", evaluation_seed=1), _task("stuck", "{hangs_at: 1}", 2))
    env.reset(seed=0)
    monkeypatch.setenv(patience.VARIABLE, "0.3")
    monkeypatch.setattr("envs.external.worker_pool._POLL_SECONDS", 0.05)
    first = env.worker_processes[1]
    named = r"environments 1 to 1 \(tasks fine, stuck\) gave no answer for 0\.3 s"
    with pytest.warns(UserWarning, match=named):
        _, rewards, _, truncated, _ = env.step(STILL)
    assert truncated.tolist() == [False, True]
    assert rewards.tolist() == [1, 0]
    assert not psutil.pid_exists(first)
    with pytest.warns(UserWarning, match=named):
        env.step(STILL)
    with pytest.raises(ExternalEnvError, match=rf"{named}.* 3 times"):
        env.step(STILL)
    env.close()


def test_deaths_of_workers_are_counted_where_steps_lie_between_them() -> None:
    """So that metrics tell them, each since the line before; the warning comes once."""
    env = _make(_task("fragile", "{dies_at: 2}"))
    env.reset(seed=0)
    counts = []
    for _ in range(3):
        env.step(STILL)
        with pytest.warns(UserWarning, match=r"died \(code 7\)"):
            env.step(STILL)
        counts.append(env.take_counts())
    assert counts == [{"env/worker_deaths": 2}] * 3
    assert env.take_counts() == {"env/worker_deaths": 0}
    env.close()


def test_a_long_silence_is_told_before_it_ends_a_worker(
    slow_env: ExternalVectorEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_env.reset(seed=0)
    monkeypatch.setattr("envs.external.worker_pool._POLL_SECONDS", 0.05)
    monkeypatch.setattr("envs.external.worker_pool._NOTICE_SECONDS", 0.1)
    with pytest.warns(UserWarning, match=r"environments 0 to 0 \(tasks slow\): no answer for 0.1"):
        *_, truncated, _ = slow_env.step(STILL)
    assert not truncated.any()


def test_a_signal_ends_the_wait_for_a_worker_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HURRIED_SECONDS", 0.3)
    monkeypatch.setattr("envs.external.worker_pool._POLL_SECONDS", 0.05)
    env = _make(_task("stuck", "{hangs_at: 1}"))
    env.reset(seed=0)
    with stop_signals() as received:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.warns(UserWarning, match=r"gave no answer for 0\.3 s"):
            *_, truncated, _ = env.step(STILL)
    assert received == [signal.SIGTERM]
    assert truncated.all()
    assert patience.longest_silence() == patience.DEFAULT_SECONDS
    env.close()


def test_a_limit_that_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for written in ("soon", "-1", "nan"):
        monkeypatch.setenv(patience.VARIABLE, written)
        with pytest.raises(ValueError, match=f"{patience.VARIABLE} must be a positive number"):
            _make(_task("fine"))


@pytest.mark.parametrize("dies", [False, True])
def test_programs_of_environments_end_with_their_worker(dies: bool, tmp_path: Path) -> None:
    """By the environments' own `close`, or with their process group where a worker died."""
    numbers = tmp_path / "numbers"
    kwargs = f"{{numbers: {numbers}{', dies_at: 1' if dies else ''}}}"
    env = _make(
        _task("one", kwargs, 1, "WithProgram-v0"), _task("two", kwargs, 2, "WithProgram-v0")
    )
    env.reset(seed=0)
    programs = _running(numbers)
    assert len(programs) == 2, "one for each world, none of those that only looked at the spaces"
    if dies:
        with pytest.warns(UserWarning, match=r"died \(code 7\)"):
            env.step(STILL)
        assert not set(programs) & set(_running(numbers))
    env.close()
    assert not _running(numbers)
    if not dies:
        closed = Path(f"{numbers}.closed").read_text().split()
        assert {str(program.pid) for program in programs} <= set(closed)


def _running(numbers: Path) -> list[psutil.Process]:
    """Return the programs that run; nobody may have collected the end of the others."""
    written = [int(number) for number in numbers.read_text().split()]
    known = [psutil.Process(number) for number in written if psutil.pid_exists(number)]
    return [process for process in known if process.status() != psutil.STATUS_ZOMBIE]


MAIN_PROCESS = """
import numpy as np
from envs import Suite, Task, make_vec
known = {
    "id": "tests.envs.external_fakes:Counter-v0",
    "kwargs": "{hangs_at: 1}",
    "render": "auto",
    "camera": "",
}
task = Task("stuck", "gym", known, 12, 0)
env = make_vec(Suite("counters", 1, 100.0, "kwargs", {"train": (task,)}), 1, image_size=24)
env.reset(seed=0)
print(*env.worker_processes, flush=True)
env.step(np.zeros((1, 2), np.float32))
"""


@pytest.mark.slow
def test_workers_die_with_the_process_that_trains_even_if_they_hang() -> None:
    command = [sys.executable, "-c", MAIN_PROCESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        processes = _family_of([int(number) for number in process.stdout.readline().split()])
        started = [psutil.Process(number) for number in processes]
        process.kill()
        gone, alive = psutil.wait_procs(started, timeout=20)
    assert len(gone) == 2
    assert not alive


def test_an_error_of_a_users_module_in_a_worker_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was imported here, where something that workers lack was there: a variable, say."""
    (tmp_path / "of_the_user.py").write_text("raise OSError('no screen here')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("envs.extensions._imported", ["of_the_user"])
    env = _make(_task("one"))
    try:
        with pytest.raises(ExternalEnvError, match=r"--import=of_the_user: .*no screen here"):
            env.reset()
    finally:
        env.close()
