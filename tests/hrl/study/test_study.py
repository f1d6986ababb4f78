"""A tiny real study: killed in the middle, continued, one cell failing, nothing done twice."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.hrl.study.slurm_cluster import wait_for

pytestmark = pytest.mark.slow

FAILING = "controls.k1.overrides=['agent=skills','num_envs=1']"  # fewer than the suite has tasks


@pytest.fixture
def start(config_dir, tmp_path):
    """Starts the study in a process, which does not outlive the test."""
    processes = []

    def start(*more):
        command = [sys.executable, "-m", "hrl.cli", "study", "experiment=tiny", "folder=study"]
        options = [f"--config-dir={config_dir}", "local.cores=1", "frames=4096", "--seeds=1"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([*command, *options, FAILING, *more], cwd=tmp_path, **pipes)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def finish(process):
    out, err = process.communicate(timeout=1500)
    return process.returncode, out, err


def test_a_study_is_killed_continued_and_reported(start, tmp_path):
    folder = tmp_path / "study"
    ppo = folder / "debug" / "ppo" / "seed_3"
    killed = start()
    wait_for(lambda: (ppo / "metrics.jsonl").exists(), 600)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    time.sleep(1)

    code, out, err = finish(start())
    assert code == 2
    assert "2 cells are missing" in err
    assert "train debug/k1/seed_3: exit code 2; the end of" in err
    assert "num_envs is 1; suite debug has" in err
    assert "evaluate debug/k1/seed_3: not started, because train debug/k1/seed_3 failed" in err
    page = folder / "report" / "debug" / "report.html"
    assert str(page) in err
    summary = json.loads((page.parent / "summary.json").read_text())
    assert {"ppo", "skills", "random"} <= set(json.dumps(summary).replace('"', " ").split())
    assert out.count("finished  train debug/ppo/seed_3") == 1

    metrics = {path: path.stat().st_mtime_ns for path in folder.glob("debug/*/*/metrics.jsonl")}
    code, out, err = finish(start())
    assert code == 2
    started = [line for line in out.splitlines() if line.startswith("started")]
    assert started == ["started   train debug/k1/seed_3"]
    assert metrics == {path: path.stat().st_mtime_ns for path in metrics}

    code, out, _ = finish(start("--status"))
    assert code == 0
    assert "finished  100% train debug/ppo/seed_3" in out
    assert "failed      0% train debug/k1/seed_3" in out


def test_a_signal_saves_every_cell_and_the_study_continues(start, tmp_path):
    folder = tmp_path / "study"
    ppo = folder / "debug" / "ppo" / "seed_3"
    process = start("frames=10_000_000", "--only=train*ppo")
    metrics = ppo / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text(), 600)
    os.kill(process.pid, signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 128 + signal.SIGTERM
    assert "the same command continues" in err
    logged = json.loads(metrics.read_text().splitlines()[-1])["frames"]
    names = [path.name for path in (ppo / "checkpoints").glob("*.training.safetensors")]
    assert f"step_{logged:012d}.training.safetensors" in names
