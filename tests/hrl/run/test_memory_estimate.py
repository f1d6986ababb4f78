"""Budgets: the replay to the byte, checkpoints on disk with the one being written, and runs that do
not fit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from envs import Suite, load_suite
from hrl.config import ComposedConfig, RunConfig, load
from hrl.evaluation.episodes import worlds_at_once
from hrl.run.build import run_shapes
from hrl.run.checkpoints import Checkpoints
from hrl.run.memory import DiskEstimateError, MemoryEstimateError
from hrl.run.memory_estimate import (
    acting_memory_estimate,
    checkpoint_disk_estimate,
    memory_estimates,
    simulation_size,
)
from hrl.run.train import train

SAC = [
    "agent=sb3_sac",
    "size=debug",
    "suite=debug",
    "threads=1",
    "evaluation.every=0",
    "agent.buffer_size=100",
]
QUIET = ["tracking.wandb=disabled", "tracking.tensorboard=false", "tracking.progress=false"]
GIB = 2**30


def replay_size(config: RunConfig, suite: Suite) -> int:
    """Bytes of a full replay, as the agent's configuration estimates them."""
    uses = config.agent.memory_uses(run_shapes(config, suite))
    return sum(use.size for use in uses if use.in_checkpoint)


def with_free_space(monkeypatch: pytest.MonkeyPatch, free: int) -> list[Path]:
    """A file system of that much space; the paths that were asked for."""
    asked: list[Path] = []

    def usage(path: Path) -> object:
        asked.append(Path(path))
        return shutil._ntuple_diskusage(2**50, 2**50 - free, free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return asked


def test_a_full_replay_takes_what_was_said(tmp_path):
    config, plain = load(
        [*SAC, *QUIET, f"folder={tmp_path / 'run'}", "frames=512", "agent.learning_starts=10000"]
    )
    train(ComposedConfig(config, plain), "a test")
    checkpoint = Checkpoints(tmp_path / "run" / "checkpoints").load_latest()
    saved = checkpoint.state["learner"]["replay"]
    assert saved["full"]
    groups = [saved["observations"], saved["next_observations"]]
    arrays = [value for group in groups for value in group.values()]
    arrays += [value for value in saved.values() if isinstance(value, np.ndarray)]
    size = replay_size(config, Suite.from_dict(plain["suite"]))
    assert size == sum(array.nbytes for array in arrays)
    assert checkpoint.path.stat().st_size > size


def test_only_the_states_that_imagination_begins_at_count_in_the_memory_of_an_update():
    """All 64 of a sequence where nothing says which, or more are asked for than there are."""

    def size(last: int) -> int:
        suite = load_suite("debug")
        overrides = ["suite=debug", "size=debug", "agent=director", f"agent.imag_last={last}"]
        config = load([*overrides, "agent.sequence_length=64"]).config
        uses = config.agent.memory_uses(run_shapes(config, suite))
        return next(use.size for use in uses if "update" in use.name)

    assert size(0) == size(64) == size(100)
    assert size(4) < size(8) < 0.5 * size(0)
    assert size(8) - size(4) == pytest.approx((size(0) - size(60)), abs=1)


def test_checkpoints_count_as_often_as_they_lie_there_while_one_is_saved(tmp_path):
    config, plain = load(["agent=sb3_sac"])
    suite = Suite.from_dict(plain["suite"])
    budget = checkpoint_disk_estimate(config, suite, tmp_path)
    assert budget.total > 3 * replay_size(config, suite)
    assert "3 checkpoints' replay" in str(budget)
    assert f"disk space in {tmp_path}" in str(budget)
    flat = checkpoint_disk_estimate(load(["agent=ppo"])[0], suite, tmp_path)
    assert flat.total < budget.total / 100


def test_a_run_that_the_disk_cannot_hold_is_refused_before_it_starts(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "deep" / "run"
    asked = with_free_space(monkeypatch, 2 * GIB)
    config, plain = load(["agent=sb3_sac", f"folder={folder}", *QUIET])
    with pytest.raises(
        DiskEstimateError,
        match=r"needs 6\.\d GiB of disk space in .*deep/run .* 2\.0 GiB available",
    ):
        train(ComposedConfig(config, plain), "a test")
    assert asked == [tmp_path], "the nearest folder that there is"
    assert not folder.parent.exists()
    assert "3 checkpoints' replay" in capsys.readouterr().out


def test_checkpoints_that_are_there_make_room_for_their_successors(tmp_path, monkeypatch):
    config, plain = load(["agent=sb3_sac"])
    budget = checkpoint_disk_estimate(config, Suite.from_dict(plain["suite"]), tmp_path)
    with_free_space(monkeypatch, budget.total)  # a tenth of it may not be taken
    with pytest.raises(DiskEstimateError):
        budget.check()
    (tmp_path / "checkpoints").mkdir()
    with open(tmp_path / "checkpoints" / "step_000000000001.safetensors", "wb") as file:
        file.truncate(budget.total // 3)
    checkpoint_disk_estimate(config, Suite.from_dict(plain["suite"]), tmp_path).check()


def test_acting_takes_no_replay_and_grows_with_worlds_and_videos():
    config, plain = load(["agent=sb3_sac"])
    suite = Suite.from_dict(plain["suite"])
    (training,) = memory_estimates(config, suite, torch.device("cpu"))
    assert acting_memory_estimate(config, suite, 64).total < training.total / 10
    assert (
        acting_memory_estimate(config, suite, 128).total
        > acting_memory_estimate(config, suite, 64).total
    )
    assert (
        acting_memory_estimate(config, suite, 64, video_steps=100).total
        > acting_memory_estimate(config, suite, 64).total
    )
    with pytest.raises(MemoryEstimateError, match="record_video"):
        acting_memory_estimate(config, suite, 1, video_steps=10**9).check()


def test_external_worlds_and_their_workers_count():
    """Two evaluations of ten tasks with 50 episodes each: in 500 small worlds, and in 60 large ones
    in 9 rounds."""
    native, external = load_suite("point_mass"), load_suite("metaworld_mt10")
    assert worlds_at_once(native, 10, 50) == 500
    assert worlds_at_once(external, 10, 50) == 60
    assert [worlds_at_once(external, 10, episodes) for episodes in (1, 6, 7)] == [10, 60, 40]
    assert worlds_at_once(external, 100, 50) == 100, "one a task at least"
    config, _ = load(
        ["agent=ppo", "num_envs=1000", "threads=2"]
    )  # Meta-World itself need not be installed
    assert 60 * 88 * 2**20 < simulation_size(config, external, 60) < 8 * GIB
    assert simulation_size(config, native, 60) < GIB / 8
    assert simulation_size(config, external, 64, 10) == simulation_size(config, external, 80), (
        "worlds set aside count"
    )
    assert simulation_size(config, external, 60, 10) == simulation_size(config, external, 60), (
        "none are set aside"
    )
    with pytest.raises(MemoryEstimateError, match="simulation and rendering 9"):
        memory_estimates(config, external, torch.device("cpu"))[0].check(available=24 * GIB)


def test_what_lies_on_a_gpu_counts_there(monkeypatch):
    """A device that is not there can be named: only its free memory is asked of it."""
    suite, gpu = load_suite("point_mass"), torch.device("cuda")
    config = load(["agent=dreamer"])[0]
    (alone,) = memory_estimates(config, suite, torch.device("cpu"))
    machine, there = memory_estimates(config, suite, gpu)
    assert "GPU memory" in str(there)
    assert "update" in str(there)
    assert "replay" in str(there)
    size = replay_size(config, suite)
    # Saving copies it to the machine, so that it counts on both.
    assert machine.total + there.total == alone.total + size
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (size, 4 * size))
    with pytest.raises(MemoryEstimateError, match="of GPU memory"):
        there.check()
    on_host = load(["agent=dreamer", "agent.replay_on=host"])[0]
    machine, there = memory_estimates(on_host, suite, gpu)
    assert "replay" not in str(there)
    assert machine.total + there.total == alone.total
    machine, there = memory_estimates(load(["agent=ppo"])[0], suite, gpu)
    assert "minibatch" in str(there)
    assert "rollout" not in str(machine)
    machine, there = memory_estimates(load(["agent=sb3_sac"])[0], suite, gpu)
    assert not there.total, "the library keeps its replay in the machine's memory"
    machine, there = memory_estimates(load(["agent=sb3_ppo"])[0], suite, gpu)
    assert "rollout" in str(machine), "and its rollout"
    assert "rollout" not in str(there)


def test_worlds_with_terrain_of_their_own_take_more():
    config = load(["agent=ppo"])[0]
    flat, own = (load_suite(name) for name in ("compat_quadruped", "compat_quadruped_escape"))
    assert simulation_size(config, own, 10) - simulation_size(config, flat, 10) == 10 * 8 * 2**20
    assert simulation_size(config, load_suite("compat_point_mass"), 10) == simulation_size(
        config, flat, 10
    )
