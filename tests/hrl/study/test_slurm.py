"""A real SLURM cluster of one machine preempts a cell, which continues to the bit."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from hrl.study.config import SlurmConfig
from hrl.study.drive import StudyRunner
from tests.hrl.study.real_cells import assert_as_if_never_stopped, in_the_middle, real_cell
from tests.hrl.study.slurm_cluster import output, slurm_cluster, why_not

REASON = why_not() or ("" if find_spec("submitit") else "submitit is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(REASON), reason=REASON)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm_cluster(tmp_path_factory.mktemp("slurm")):
        yield


def executor(folder):
    from hrl.study.executors.slurm import SlurmExecutor

    return SlurmExecutor(SlurmConfig(partition="low", minutes=60), folder / "slurm")


def test_a_preempted_cell_saves_and_continues_to_the_bit(cluster, tmp_path):
    cell = real_cell(tmp_path)
    preempt = ["sbatch", "--partition=high", "--output=/dev/null", "--wrap=sleep 5"]
    thread = in_the_middle(cell, lambda: subprocess.run(preempt, check=True))
    shown = []
    runner = StudyRunner([cell], executor(tmp_path), shown.append)
    runner.run(())
    thread.join()
    log = cell.log.read_text()
    assert not runner.failures, log
    assert log.count("stopped and saved at") == 1
    assert log.count(f"continuing {cell.folder} at") == 1
    assert_as_if_never_stopped(cell, tmp_path / "reference")


def test_a_requeued_job_continues_to_the_bit(cluster, tmp_path):
    """The cluster's warning, after which submitit requeues the job itself."""
    cell = real_cell(tmp_path)

    def warn():
        job = output("squeue", "--noheader", "--format=%i").split()[0]
        subprocess.run(["scancel", "--signal=USR2", job], check=True)
        # A requeued job waits two minutes unless it is let go.
        subprocess.run([sys.executable, "-c", RELEASE, job], check=True, timeout=300)

    thread = in_the_middle(cell, warn)
    runner = StudyRunner([cell], executor(tmp_path), lambda line: None)
    runner.run(())
    thread.join()
    log = cell.log.read_text()
    assert not runner.failures, log
    assert log.count(f"continuing {cell.folder} at") == 1
    assert_as_if_never_stopped(cell, tmp_path / "reference")


RELEASE = """
import subprocess, sys, time
job = sys.argv[1]
state = ["squeue", "--noheader", "--format=%T", f"--job={job}"]
while "PENDING" not in subprocess.run(state, capture_output=True, text=True).stdout:
    time.sleep(0.5)
subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
"""


def test_a_time_limit_is_left_in_time_and_the_job_submitted_again(cluster, tmp_path, monkeypatch):
    from hrl.study.executors.slurm import SlurmExecutor

    slurm = executor(tmp_path)
    limits = iter([0.5, 0.5, 3600.0])
    monkeypatch.setattr(SlurmExecutor, "_time_limit", property(lambda self: next(limits)))
    cell = real_cell(tmp_path)
    shown = []
    runner = StudyRunner([cell], slurm, shown.append)
    runner.run(())
    assert not runner.failures, cell.log.read_text()
    assert sum("exit code 75" in line for line in shown) == 2
    assert_as_if_never_stopped(cell, tmp_path / "reference")


def test_a_job_that_the_cluster_refuses_is_a_failed_cell(cluster, tmp_path):
    from hrl.study.executors.slurm import SlurmExecutor

    slurm = SlurmExecutor(SlurmConfig(partition="nowhere"), tmp_path / "slurm")
    cell = real_cell(tmp_path)
    runner = StudyRunner([cell], slurm, lambda line: None)
    runner.run(())
    assert list(runner.failures) == [cell.name]
    assert "partition" in cell.log.read_text()


def test_cells_are_one_array_and_a_failed_one_says_why(cluster, tmp_path, monkeypatch):
    """Also in a folder that a stranger made, whose modules are not imported."""
    from dataclasses import replace

    (tmp_path / "random.py").write_text("raise SystemExit('it was executed')")
    monkeypatch.chdir(tmp_path)
    cells = [
        replace(
            real_cell(tmp_path / name, name),
            command="evaluate",
            arguments=(str(tmp_path / "no_run"),),
            splits=("train",),
        )
        for name in ("a", "b")
    ]
    runner = StudyRunner(cells, executor(tmp_path), lambda line: None)
    runner.run(())
    assert {failure.exit_code for failure in runner.failures.values()} == {2}
    assert all("no run folder there" in cell.log.read_text() for cell in cells)
    jobs = {path.name.split("_")[0] for path in (tmp_path / "slurm").glob("*_submission.sh")}
    assert len(jobs) == 1
