"""Runs of several processes: refused where they cannot be, exact after a kill, ended by a death."""

import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from envs import load_suite
from hrl.cli import main
from hrl.config import CONFIG_DIR, ConfigError, load
from hrl.ranks import ONE_RANK
from hrl.run.checkpoint_format import read
from hrl.run.checkpoints import Checkpoints
from hrl.run.distributed import check_same_ranks, join_ranks, rank_config, rank_device
from hrl.run.train import train
from tests.hrl.in_ranks import (
    RANKS,
    assert_learned_the_same,
    noise_by_thread,
    small_learner,
    trained,
)
from tests.hrl.same import assert_same

ROOT = CONFIG_DIR.parent
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
QUIET = ("tracking.wandb=disabled", "tracking.videos=0", "tracking.progress=false", "threads=1")
MODEL_BASED = (
    *("agent.sequence_length=4", "agent.batch_size=4", "agent.replay_capacity=400"),
    "agent.train_ratio=0.5",
)


def overrides(folder: Path, *more: str) -> list[str]:
    return ["suite=debug", "size=debug", "device=cpu", f"folder={folder}", *QUIET, *more]


def launched(*arguments: str, ranks: int = RANKS, **options: object) -> subprocess.Popen:
    """A torchrun of so many processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("variables", {})}
    command = [sys.executable, *TORCHRUN, str(ranks), *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


@pytest.fixture
def two_launched(monkeypatch):
    """As if torchrun had started this process as the second of two on this machine."""
    for name, value in (
        ("TORCHELASTIC_RUN_ID", "a test"),
        ("WORLD_SIZE", "2"),
        ("LOCAL_WORLD_SIZE", "2"),
        ("RANK", "1"),
        ("LOCAL_RANK", "1"),
    ):
        monkeypatch.setenv(name, value)


# What is refused, and what would work.


@pytest.mark.parametrize(
    ("given", "count", "message"),
    [
        ("num_envs=9", 2, "num_envs is 9, and torchrun started 2 .*: give num_envs=8, or start"),
        ("num_envs=4", 8, "num_envs is 4, and torchrun started 8 .*: give num_envs=24, or start"),
        ("num_envs=8", 4, "an environment for each of the 3 training tasks .*: give num_envs=12"),
        ("agent=sb3_ppo", 2, "agent sb3_ppo cannot be .*: start it without torchrun, or .* ppo, "),
        ("agent=sb3_sac", 2, "agent sb3_sac cannot be trained by several processes"),
        ("agent=random", 2, "agent random cannot be trained by several processes"),
        ("agent=dreamer agent.batch_size=7", 2, "agent.batch_size is 7; every one of 2 processes"),
        ("agent=director agent.compile=parts", 2, "agent.compile is 'parts'; .* choose none"),
        ("agent=dreamer agent.cuda_graph=true", 2, "agent.cuda_graph is True; .* choose false"),
        ("agent=ppo agent.cuda_graph=true", 2, "agent.cuda_graph is True; .* choose false"),
    ],
)
def test_what_processes_cannot_share_is_refused_with_what_would_work(given, count, message):
    agent = [] if "agent=" in given else ["agent=ppo"]
    config = load(["suite=debug", "size=debug", *agent, *given.split()]).config
    with pytest.raises(ConfigError, match=message):
        rank_config(config, load_suite("debug"), count)


def test_every_rank_has_its_share():
    config = load(["suite=debug", "agent=dreamer", "num_envs=12", "agent.batch_size=8"]).config
    own = rank_config(config, load_suite("debug"), 4)
    assert own.num_envs == 3
    assert own.agent.batch_size == 2
    assert own.agent.replay_capacity == config.agent.replay_capacity // 4
    assert rank_config(config, load_suite("debug"), 1) is config


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [("cpu", 0, "cpu"), ("auto", 0, "auto"), ("auto", 2, "cuda:1"), ("cuda", 8, "cuda:1")],
)
def test_every_process_takes_the_gpu_of_its_number(
    device, gpus, expected, two_launched, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert rank_device(device) == expected


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [
        ("cuda:0", 2, "device is cuda:0, one GPU for several processes: give device=cuda"),
        ("cuda", 1, "started 2 processes .* has 1 GPUs: start --nproc-per-node=1, or give device"),
    ],
)
def test_gpus_that_do_not_suffice_are_refused(device, gpus, message, two_launched, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=message):
        rank_device(device)


def test_another_number_of_processes_is_refused_with_the_command_that_continues():
    check_same_ranks(2, 2)
    with pytest.raises(
        ConfigError, match=r"by 2 processes .* by one process, .* torchrun --nproc-per-node=2"
    ):
        check_same_ranks(2, 1)
    with pytest.raises(
        ConfigError, match=r"by one process .* by 4 processes, .* start it without torchrun"
    ):
        check_same_ranks(1, 4)


def test_a_timeout_that_is_none_is_refused(two_launched, monkeypatch):
    monkeypatch.setenv("PIXEL_HRL_RANK_TIMEOUT", "soon")
    with pytest.raises(ConfigError, match="PIXEL_HRL_RANK_TIMEOUT is 'soon'"), join_ranks():
        pass


def test_a_second_run_in_one_launch_is_refused(two_launched, monkeypatch):
    monkeypatch.setattr("hrl.run.distributed._joins", itertools.count(1))
    with pytest.raises(ConfigError, match="start torchrun again"), join_ranks():
        pass


def test_a_command_of_one_process_is_refused(two_launched, capsys):
    assert main(["report", "runs"]) == 2
    assert "report is done by one: start pixel-hrl report without" in capsys.readouterr().err


def test_without_torchrun_there_is_one_rank():
    with join_ranks() as ranks:
        assert ranks is ONE_RANK
    assert rank_device("cuda:3") == "cuda:3"


# With processes.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["skills", "director"])
def test_two_processes_learn_what_one_does(name, tmp_path):
    iterations = 3
    finished(launched("-m", "tests.hrl.rank_program", name, str(iterations), str(tmp_path)))
    first, second = (load_file(tmp_path / f"{name}_{rank}.safetensors") for rank in range(RANKS))
    assert_same(first, second)
    with noise_by_thread():
        alone = small_learner(name, ONE_RANK)
        start = {key: value.clone() for key, value in alone.module.state_dict().items()}
        trained(alone, iterations)
    assert_learned_the_same(alone, start, first)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["skills", "dreamer"])
def test_a_run_that_was_killed_continues_to_the_bit(agent, tmp_path):
    more = [f"agent={agent}", *(MODEL_BASED if agent == "dreamer" else ())]
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    output = finished(launched("scripts/train.py", *overrides(whole, *more)))
    assert output.count("run folder") == 1
    process = launched("scripts/train.py", *overrides(folder, *more))
    wait_for_checkpoint(folder, process)
    kill_all(process)
    assert len(metrics(folder)) < len(metrics(whole))
    finished(launched("scripts/train.py", *overrides(folder, *more)))
    assert metrics(folder) == metrics(whole)
    assert_same(states(folder), states(whole))
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node=2"):
        train(load(overrides(folder, *more, "frames=2048")), "a test")
    damage(folder)
    with pytest.warns(UserWarning, match="rank_1"):
        assert readable(folder) == 512


@pytest.mark.slow
def test_a_dead_rank_ends_the_others_and_the_message_says_where_to_look(tmp_path):
    arguments = overrides(tmp_path / "run", "agent=ppo", "frames=100_000_000", "evaluation.every=0")
    process = launched("scripts/train.py", *arguments, "checkpoint_every=100_000_000")
    wait_for_metrics(tmp_path / "run", process)
    ranks = psutil.Process(process.pid).children()
    second = next(one for one in ranks if one.environ()["RANK"] == "1")
    second.send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "rank 0 of 2 lost contact with another: none said why, so that it was killed" in output
    assert "local_rank: 1" in output  # torchrun's own summary


def wait_for_checkpoint(folder: Path, process: subprocess.Popen) -> None:
    while not list((folder / "checkpoints").glob("*.training.*")) and process.poll() is None:
        time.sleep(0.01)


def wait_for_metrics(folder: Path, process: subprocess.Popen) -> None:
    while not (folder / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.1)


def kill_all(process: subprocess.Popen) -> None:
    """Kill torchrun and its ranks, as a machine does that loses its power."""
    everyone = [psutil.Process(process.pid)]
    everyone += everyone[0].children(recursive=True)
    for one in everyone:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(everyone)
    process.communicate()


def metrics(folder: Path) -> str:
    return (folder / "metrics.jsonl").read_text()


def states(folder: Path) -> dict[str, object]:
    """Everything in the newest files of a checkpoint, by file."""
    newest = sorted((folder / "checkpoints").glob("step_000000001024.*"))
    assert len(newest) == 2 + RANKS
    return {path.name: read(path).state for path in newest}


def damage(folder: Path) -> None:
    path = folder / "checkpoints" / "step_000000001024.rank_1.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def readable(folder: Path) -> int:
    """Frames of the newest checkpoint that both ranks can read."""
    from tests.hrl.in_ranks import together

    def newest(ranks):
        checkpoint = Checkpoints(folder / "checkpoints", ranks=ranks).load_latest()
        return checkpoint.frames

    first, second = together(newest)
    assert first == second
    return first
