"""The pool of this machine, with programs in place of trainings."""

import signal
import time

import pytest

from hrl.config import ConfigError
from hrl.study.cells import CellResources
from hrl.study.executors import base, make_executor
from hrl.study.executors.base import CellProcess, cell_command, require_extra
from hrl.study.executors.local import LocalExecutor
from tests.hrl.study.fake_cells import cell, program

GIB = 2**30


def needing(folder, name, cores=1, memory=GIB, gpus=0):
    return cell(folder, name, resources=CellResources(cores, memory, gpus))


@pytest.fixture
def programs(monkeypatch):
    """Lets a cell's arguments be the program that it runs."""
    monkeypatch.setattr(base, "cell_command", lambda one, limit=None: program(one.arguments[0]))


def ended(process, seconds=30):
    end = time.monotonic() + seconds
    while process.exit_code() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    return process.exit_code()


@pytest.mark.parametrize(
    ("need", "message"),
    [
        ({"cores": 3}, "big needs 3 cores; there are 2 to use"),
        ({"gpus": 1}, "big needs 1 GPUs; there are 0 to use"),
        ({"memory": 5 * GIB}, r"big needs 5.0 GiB of memory and may take 4.0 GiB: raise"),
    ],
)
def test_a_cell_that_could_never_run_is_refused_by_name(need, message, tmp_path):
    pool = LocalExecutor(cores=2, memory=4 * GIB)
    with pytest.raises(ConfigError, match=message):
        pool.check([needing(tmp_path, "small"), needing(tmp_path, "big", **need)])


def test_cores_memory_and_gpus_are_never_oversubscribed(tmp_path, programs):
    pool = LocalExecutor(cores=4, memory=4 * GIB, gpus=[0, 1])
    long = {"arguments": ("import time; time.sleep(60)",)}
    cells = [
        cell(tmp_path, "a", resources=CellResources(1, GIB, 1), **long),
        cell(tmp_path, "b", resources=CellResources(1, GIB, 1), **long),
        cell(tmp_path, "c", resources=CellResources(1, GIB, 1), **long),  # no GPU is left
        cell(tmp_path, "d", resources=CellResources(3, GIB, 0), **long),  # no cores are left
        cell(tmp_path, "e", resources=CellResources(1, 3 * GIB, 0), **long),  # no memory is left
        cell(tmp_path, "f", resources=CellResources(1, GIB, 0), **long),
    ]
    chosen = pool.fitting(cells)
    assert [one.name for one in chosen] == ["a", "b", "f"]
    jobs = pool.start(chosen)
    try:
        assert pool.fitting(cells[3:5]) == []
        jobs[0].stop()
        ended(jobs[0])
        assert [one.name for one in pool.fitting(cells[2:5])] == ["c"]
        jobs += pool.start([cells[2]])
    finally:
        for job in jobs:
            job.stop()
    assert {ended(job) for job in jobs} == {128 + signal.SIGUSR1}


SHOW = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])"


def test_a_process_sees_its_gpus_alone_and_appends_to_its_log(tmp_path, programs):
    pool = LocalExecutor(cores=4, memory=4 * GIB, gpus=[0, 1])
    cells = [
        cell(tmp_path, name, resources=CellResources(1, 1, gpus), arguments=(SHOW,))
        for name, gpus in (("a", 1), ("b", 1), ("c", 0))
    ]
    for one in cells:
        one.log.parent.mkdir(exist_ok=True)
        one.log.write_text("before\n")
    assert [ended(job) for job in pool.start(cells)] == [0, 0, 0]
    assert [one.log.read_text() for one in cells] == [
        "before\n0 1\n",
        "before\n1 1\n",
        "before\n 1\n",
    ]


TWICE_DEADLY = """
import signal, sys, time
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
print("ready", flush=True)
while not seen:
    time.sleep(0.02)
time.sleep(0.3)
sys.exit(138 if len(seen) == 1 else 1)
"""


def test_a_cell_gets_one_signal_however_often_it_is_asked_to_stop(tmp_path, programs):
    one = cell(tmp_path, "one", arguments=(TWICE_DEADLY,))
    process = CellProcess(one, ignored=("TERM", "USR2"))
    end = time.monotonic() + 30
    while "ready" not in one.log.read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
    process._process.send_signal(signal.SIGTERM)
    process._process.send_signal(signal.SIGUSR2)
    for _ in range(3):
        process.stop()
    process.wait_to_end()
    assert process.exit_code() == 138


def test_a_file_in_the_current_directory_is_no_module_of_a_cell(tmp_path, monkeypatch):
    """A study may be started in a folder that a stranger made."""
    for name in ("random", "yaml", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('it was executed')")
    monkeypatch.chdir(tmp_path)
    process = CellProcess(cell(tmp_path, "one", arguments=("--help",)))
    assert ended(process) == 0, (tmp_path / "logs" / "one.log").read_text()


def test_only_trainings_have_a_time_limit(tmp_path):
    train = cell(tmp_path, "train", arguments=("agent=ppo",))
    assert cell_command(train, 90.0)[-3:] == ["train", "agent=ppo", "time_limit=90"]
    evaluate = cell(tmp_path, "evaluate", command="evaluate", arguments=("run",))
    assert cell_command(evaluate, 90.0)[-2:] == ["evaluate", "run"]
    assert "time_limit" not in " ".join(cell_command(train))


def test_an_executor_whose_extra_is_missing_is_refused_with_its_name(monkeypatch):
    monkeypatch.setattr(base, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=r"executor=ray needs the extra 'ray'.*pixel-hrl\[ray\]"):
        require_extra("ray", "ray")


@pytest.mark.parametrize("name", ["slurm", "ray"])
def test_make_executor_asks_for_the_extra(name, monkeypatch, tmp_path, study):
    monkeypatch.setattr(base, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=f"executor={name} needs the extra"):
        make_executor(study(f"executor={name}"), tmp_path)
