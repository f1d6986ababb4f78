"""Runs as a user lives them: continued to the bit after a kill, saved on signals, refused where
they cannot go on."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from envs import PixelVectorEnv
from hrl.config import CONFIG_DIR, ConfigError, load
from hrl.run.checkpoints import Checkpoints
from hrl.run.errors import (
    CheckpointError,
    CheckpointWriteError,
    ConfigMismatchError,
    FolderError,
    Interrupted,
    NonFiniteError,
)
from hrl.run.load import load_run
from hrl.run.memory import MemoryEstimateError
from hrl.run.stop_signals import STOP_SIGNALS
from hrl.run.train import _Run, train
from tests.glossary import RETURNS, section, unlogged
from tests.hrl.same import assert_same

TRAIN = CONFIG_DIR.parent / "scripts" / "train.py"
QUIET = [
    "tracking.wandb=disabled",
    "tracking.videos=0",
    "tracking.progress=false",
    "threads=1",
    "size=debug",
    "device=cpu",
]


def overrides(folder: Path, *more: str) -> list[str]:
    return ["agent=skills", "suite=debug", f"folder={folder}", *QUIET, *more]


def start(folder: Path, *more: str) -> Path:
    return train(load(overrides(folder, *more)), "a test")


def last_state(folder: Path) -> dict[str, object]:
    checkpoint = Checkpoints(folder / "checkpoints").load_latest()
    assert checkpoint is not None
    return checkpoint.state


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was never interrupted, with evaluations and checkpoints on its way."""
    return start(tmp_path_factory.mktemp("reference") / "run")


def test_a_finished_run_leaves_its_record(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["frames"] for line in lines] == [256, 512, 768, 1024]
    assert "eval/train/return" in lines[-1]
    assert not any("second" in key for line in lines for key in line)
    assert unlogged({key for line in lines for key in line}, section(RETURNS).metrics) == []
    names = {path.name for path in (finished / "checkpoints").iterdir()}
    assert names == {
        f"step_{frames:012d}.{part}.safetensors"
        for frames in (512, 1024)
        for part in ("policy", "training")
    }
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["parameters"]["total"] == sum(
        v for k, v in environment["parameters"].items() if k != "total"
    )
    assert list((finished / "tensorboard").iterdir())


def test_a_run_killed_at_any_moment_and_continued_ends_the_same(finished, tmp_path):
    """SIGKILL while starting, gathering, learning or saving, several times, each followed by the
    same command."""
    folder = tmp_path / "run"
    command = [sys.executable, str(TRAIN), *overrides(folder)]
    draw = random.Random(0)
    for _ in range(3):
        beyond = (
            (folder / "metrics.jsonl").stat().st_size if (folder / "metrics.jsonl").exists() else 0
        )
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_metrics(folder, process, beyond)
        time.sleep(draw.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert (folder / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert_same(last_state(folder), last_state(finished))


def wait_for_metrics(
    folder: Path, process: subprocess.Popen, beyond: int, seconds: float = 60
) -> None:
    """Until the run has logged again: what follows the checkpoint is cut off first."""
    log = folder / "metrics.jsonl"
    deadline = time.monotonic() + seconds
    cut = beyond == 0
    while time.monotonic() < deadline and process.poll() is None:
        size = log.stat().st_size if log.exists() else 0
        cut = cut or size < beyond
        if size and (cut or size > beyond):
            return
        time.sleep(0.01)


MODEL_BASED = ("dreamer", "director")


@pytest.mark.parametrize("agent", ["ppo", "sb3_ppo", "sb3_sac", *MODEL_BASED])
def test_every_learner_continues_to_the_bit(agent, tmp_path):
    """A run stopped half way by its budget and then given the rest, against one with the whole
    budget."""
    settings = [f"agent={agent}", "evaluation.every=0"]
    if agent in MODEL_BASED:
        settings += [
            "agent.sequence_length=4",
            "agent.batch_size=4",
            "agent.replay_capacity=400",
            "agent.train_ratio=0.5",
        ]
    if agent == "sb3_sac":
        settings += [
            "agent.learning_starts=64",
            "agent.buffer_size=2000",
            "agent.gradient_steps=2",
            "agent.batch_size=16",
        ]
    whole = start(tmp_path / "whole", *settings)
    start(tmp_path / "parts", *settings, "frames=512")
    parts = start(tmp_path / "parts", *settings)
    assert_same(last_state(whole), last_state(parts))
    assert (whole / "metrics.jsonl").read_bytes() == (parts / "metrics.jsonl").read_bytes()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("agent", ["ppo", "skills", "sb3_ppo", "sb3_sac", *MODEL_BASED])
def test_every_learner_continues_on_a_gpu(agent, tmp_path):
    """Goes on at all: a checkpoint's tensors come from host memory. Not to the bit: kernels add in
    their own order."""
    settings = [f"agent={agent}", "evaluation.every=0", "device=cuda"]
    settings += (
        ["agent.sequence_length=4", "agent.batch_size=4", "agent.train_ratio=2"]
        if agent in MODEL_BASED
        else []
    )
    settings += ["agent.learning_starts=64", "agent.buffer_size=2000"] if agent == "sb3_sac" else []
    start(tmp_path / "run", *settings, "frames=512")
    start(tmp_path / "run", *settings)
    assert (
        json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["frames"]
        >= 1024
    )


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_signals_finish_the_iteration_save_and_leave(number, tmp_path, monkeypatch):
    original = _Run._iterate

    def interrupted(run):
        os.kill(os.getpid(), number)
        return original(run)

    monkeypatch.setattr(_Run, "_iterate", interrupted)
    with pytest.raises(Interrupted, match="the same command continues") as stopped:
        start(tmp_path / "run", "evaluation.every=0", "checkpoint_every=1000000")
    assert stopped.value.exit_code == 128 + number
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {
        "step_000000000256.policy.safetensors",
        "step_000000000256.training.safetensors",
    }


def test_training_in_a_thread_is_the_same_and_leaves_signals_alone(finished, tmp_path):
    """As `wandb.agent`, notebooks and executors call it."""
    handlers = [signal.getsignal(number) for number in STOP_SIGNALS]
    with ThreadPoolExecutor(1) as pool:
        short = ["frames=256", "evaluation.every=0"]
        folder = pool.submit(start, tmp_path / "run", *short).result()
    metrics = (folder / "metrics.jsonl").read_bytes()
    assert metrics
    assert (finished / "metrics.jsonl").read_bytes().startswith(metrics)
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == handlers


def test_a_time_limit_saves_leaves_with_75_and_continues_to_the_bit(finished, tmp_path):
    folder = tmp_path / "run"
    stops = []
    for _ in range(3):  # the least: each start makes one iteration
        with pytest.raises(Interrupted, match="the same command continues") as stopped:
            start(folder, "time_limit=0.001")
        stops.append(Checkpoints(folder / "checkpoints").load_latest().frames)
        assert stopped.value.exit_code == os.EX_TEMPFAIL == 75
    assert stops == [256, 512, 768]
    start(folder, "time_limit=1000")  # the limit may change
    assert_same(last_state(folder), last_state(finished))
    metrics = [(run / "metrics.jsonl").read_text() for run in (folder, finished)]
    assert metrics[0] == metrics[1]


ENDLESS = ["frames=1_000_000_000", "evaluation.every=0", "checkpoint_every=1_000_000_000"]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGUSR1,
        *(
            pytest.param(number, marks=pytest.mark.slow)
            for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGXCPU)
        ),
    ],
)
def test_a_process_that_is_signalled_saves_and_says_by_its_exit_code_which_one_it_was(
    number, tmp_path
):
    folder = tmp_path / "run"
    command = [sys.executable, str(TRAIN), *overrides(folder, *ENDLESS)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_for_metrics(folder, process, 0)
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 128 + number
    assert "stopped and saved" in errors
    logged = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["frames"]
    saved = Checkpoints(folder / "checkpoints").load_latest()
    assert saved is not None
    assert saved.frames == logged


def test_a_lost_connection_is_ignored_under_nohup(tmp_path):
    folder = tmp_path / "run"
    command = ["nohup", sys.executable, str(TRAIN), *overrides(folder, *ENDLESS)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, **quiet) as process:
        wait_for_metrics(folder, process, 0)
        process.send_signal(signal.SIGHUP)
        wait_for_metrics(folder, process, (folder / "metrics.jsonl").stat().st_size)
        assert process.poll() is None, "it trains on"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM


def test_another_configuration_is_refused_with_the_differing_keys(finished):
    with pytest.raises(ConfigMismatchError, match=r"(?s)agent\.skill_duration.*8.*4"):
        start(finished, "agent.skill_duration=4")


def test_a_checkpoint_of_another_run_is_refused_with_the_differing_keys(finished, tmp_path):
    other = start(tmp_path / "other", "agent.skill_duration=4", "evaluation.every=0")
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for path in (folder / "checkpoints").iterdir():
        shutil.copy(other / "checkpoints" / path.name, path)
    with pytest.raises(ConfigMismatchError, match=r"agent\.skill_duration"):
        start(folder, "frames=2048")
    with pytest.raises(ConfigMismatchError, match=r"agent\.skill_duration"):
        load_run(folder)


def test_a_checkpoint_of_another_version_of_the_agent_is_refused(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoint = checkpoints.load_latest()
    del checkpoint.state["policy"]["decisions"]
    checkpoints.save(checkpoint.frames, checkpoint.state, checkpoint.metadata)
    with pytest.raises(CheckpointError, match=r"does not fit this agent: .*decisions"):
        start(folder, "frames=2048")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    newest = max((folder / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=newest.name):
        start(folder)
    assert_same(last_state(folder), last_state(finished))
    assert (folder / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_metrics_that_lost_their_end_give_way_to_the_checkpoint_before(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    metrics = folder / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-1])
    (folder / "timing.jsonl").unlink()
    with pytest.warns(UserWarning, match=r"metrics\.jsonl has .* step_000000000512.* is used"):
        start(folder)
    assert_same(last_state(folder), last_state(finished))
    assert metrics.read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_metrics_that_no_checkpoint_fits_are_refused_with_what_to_do(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    metrics = folder / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().replace(b'"frames": 256', b'"frames: 256"'))
    with pytest.raises(CheckpointError, match=r"line 1 is damaged; bring that file back from a"):
        start(folder, "frames=2048")


def test_a_full_disk_stops_the_run_and_keeps_the_last_good_checkpoint(
    finished, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = last_state(folder)

    sync = os.fsync

    def full(descriptor):
        if "checkpoints" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointWriteError, match="No space left"):
        start(folder, "frames=1536")
    monkeypatch.undo()
    assert_same(last_state(folder), before)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FolderError, match=r"thesis\.tex"):
        start(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_two_processes_never_write_one_run(tmp_path, monkeypatch):
    original = _Run._iterate

    def second(run):
        with pytest.raises(FolderError, match="another process"):
            start(tmp_path / "run")
        return original(run)

    monkeypatch.setattr(_Run, "_iterate", second)
    start(tmp_path / "run", "frames=512", "evaluation.every=0")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_run_whose_folder_is_taken_away_stops_and_makes_no_new_one(
    replaced, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    original = _Run._iterate

    def taken_away(run):
        folder.rename(tmp_path / "elsewhere")
        if replaced:
            shutil.copytree(tmp_path / "elsewhere", folder)
        return original(run)

    monkeypatch.setattr(_Run, "_iterate", taken_away)
    with pytest.raises(FolderError, match="removed, moved or replaced"):
        start(folder)
    assert folder.exists() == replaced
    assert not (folder / "checkpoints").exists()
    assert (tmp_path / "elsewhere" / "metrics.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("num_envs=2", ConfigError, "num_envs is 2; suite debug has 3 training tasks"),
        (
            "network.encoder.patch=5",
            ConfigError,
            r"network\.encoder\.patch is 5; it must divide image_size, which is 32",
        ),
        (
            "agent.n_steps=3",
            ConfigError,
            r"agent\.n_minibatches is 5; it must divide .* which is 24",
        ),
        ("num_envs=10000000", MemoryEstimateError, "TiB of memory.*rollout"),
        ("device=warp_drive", ConfigError, "device is 'warp_drive'"),
        ("agent=random", ConfigError, "learns nothing"),
    ],
)
def test_impossible_runs_stop_with_the_reason(override, error, message, tmp_path):
    more = ["agent.n_minibatches=5"] if "n_steps" in override else []
    with pytest.raises(error, match=message):
        start(tmp_path / "run", override, *more)
    folder = tmp_path / "run"
    assert not folder.exists() or {entry.name for entry in folder.iterdir()} <= {".lock"}, (
        "nothing of it is left behind"
    )


def test_a_nonfinite_loss_leaves_a_dump_for_a_rerun(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "hrl.agents.skills.policy_objective",
        lambda new, *rest: (new.sum() * torch.nan, {"kl": new.sum()}),
    )
    with pytest.raises(NonFiniteError, match=r"loss/total is not finite.*nonfinite_0\.safetensors"):
        start(tmp_path / "run")
    assert (tmp_path / "run" / "nonfinite_0.safetensors").exists()


def without_number(env, calls):
    """Let the reward of one environment be NaN in the call of `step` so many calls from now."""
    original = env.step

    def step(self, actions):
        observation, reward, *rest = original(self, actions)
        calls.append(len(calls))
        if len(calls) == 100:
            reward[1] = np.nan
        return observation, reward, *rest

    return step


@pytest.mark.parametrize("agent", ["ppo", "sb3_ppo", "sb3_sac", "dreamer"])
def test_a_reward_that_is_no_number_is_in_no_checkpoint(agent, tmp_path, monkeypatch):
    """So that the run goes on from before it once the environment is mended."""
    settings = [f"agent={agent}", "evaluation.every=0", "checkpoint_every=256"]
    if agent == "sb3_sac":
        settings += ["agent.learning_starts=100000", "agent.buffer_size=2000"]
    if agent == "dreamer":
        settings += [
            "agent.sequence_length=4",
            "agent.batch_size=2",
            "agent.replay_capacity=1200",
            "agent.train_ratio=0.05",
        ]
    with monkeypatch.context() as patched:
        patched.setattr(PixelVectorEnv, "step", without_number(PixelVectorEnv, []))
        with pytest.raises(NonFiniteError, match=r"reward of environments \[1\].* is not finite"):
            start(tmp_path / "run", *settings, "frames=4096")
    assert_finite(last_state(tmp_path / "run"))
    start(tmp_path / "run", *settings, "frames=2048")


def assert_finite(state):
    """Assert that no array of floats in a tree of mappings holds anything else than numbers."""
    for value in state.values():
        if isinstance(value, dict):
            assert_finite(value)
        elif isinstance(value, np.ndarray | torch.Tensor) and value.dtype in (
            np.float32,
            torch.float32,
        ):
            assert np.isfinite(np.asarray(value)).all()
