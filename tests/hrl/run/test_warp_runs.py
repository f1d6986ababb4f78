"""Whole runs with physics=warp on Warp's CPU device: trained, evaluated, killed and continued."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hrl.config import ConfigError, load
from hrl.run.errors import ConfigMismatchError
from hrl.run.train import train
from tests.hrl.run.test_train import TRAIN, last_state, overrides, wait_for_metrics
from tests.hrl.same import assert_same

# Kernels of a scene are compiled by the first test that needs them, once a machine.
pytestmark = pytest.mark.timeout(1200)

WARP = "physics=warp"
DREAMER = (
    "agent.sequence_length=4",
    "agent.batch_size=4",
    "agent.replay_capacity=400",
    "agent.train_ratio=0.5",
)


def settings(agent: str, folder: Path, *more: str) -> list[str]:
    own = DREAMER if agent == "dreamer" else ()
    return overrides(folder, f"agent={agent}", WARP, *own, *more)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["ppo", "dreamer"])
def test_a_killed_run_ends_like_one_that_never_was(agent, tmp_path, capsys):
    whole = train(load(settings(agent, tmp_path / "whole")), "a test")
    assert "physics: warp on cpu" in capsys.readouterr().out
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert "eval/train/return" in lines[-1]
    folder = tmp_path / "killed"
    command = [sys.executable, str(TRAIN), *settings(agent, folder)]
    draw = random.Random(0)
    for _ in range(2):
        log = folder / "metrics.jsonl"
        beyond = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_metrics(folder, process, beyond)
        time.sleep(draw.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert_same(last_state(folder), last_state(whole))


@pytest.mark.slow
def test_a_run_keeps_its_simulator(tmp_path):
    folder = train(load(settings("ppo", tmp_path / "run", "frames=256")), "a test")
    with pytest.raises(ConfigMismatchError, match="physics"):
        train(load([*settings("ppo", folder), "physics=mujoco"]), "a test")
    train(load([*settings("ppo", folder), "physics=auto", "frames=512"]), "a test")
    assert load(settings("ppo", folder)).plain["physics"] == "warp"


def test_a_suite_that_warp_cannot_simulate_is_refused_before_anything_is_written(tmp_path):
    folder = tmp_path / "run"
    given = overrides(folder, "agent=ppo", "suite=compat_quadruped_escape", WARP, "num_envs=8")
    with pytest.raises(ConfigError, match=r"terrain.*physics=mujoco can"):
        train(load(given), "a test")
    assert not folder.exists()
