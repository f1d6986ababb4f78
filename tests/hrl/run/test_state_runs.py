"""Runs that observe the body's own state: trained, continued, played, loaded, refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import hrl
from envs import Suite
from envs.simulation.mujoco_cpu import MujocoPhysics
from hrl.cli import main
from hrl.config import ConfigError, load
from hrl.run.errors import ConfigMismatchError
from hrl.run.finetune import FinetuneRequest, compose_finetune
from hrl.run.finetune_source import read_source
from hrl.run.folder import RunFolder
from hrl.run.memory_estimate import memory_estimates
from hrl.run.train import train
from tests.hrl.evaluation.test_video_writer import decode
from tests.hrl.same import assert_same

QUIET = [
    "suite=debug",
    "size=debug",
    "device=cpu",
    "threads=1",
    "evaluation.every=0",
    "checkpoint_every=1000000",
    "tracking.wandb=disabled",
    "tracking.tensorboard=false",
    "tracking.progress=false",
]


def run(folder: Path, observation: str, agent: str, frames: int, *more: str) -> Path:
    own = [f"observation={observation}", f"agent={agent}", f"folder={folder}", f"frames={frames}"]
    return train(load([*QUIET, *own, *more]), "a test")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "policy.safetensors")


@pytest.fixture(scope="module")
def of_both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of images and states that was evaluated once in training."""
    folder = tmp_path_factory.mktemp("both") / "run"
    return run(folder, "both", "skills", 256, "evaluation.every=256", "tracking.videos=0")


def test_a_run_of_both_is_evaluated_and_played_and_acts(of_both: Path) -> None:
    assert main(["evaluate", str(of_both), "--episodes=1", "--videos=1"]) == 0
    assert main(["play", str(of_both), "--steps=4", "--size=32", "--splits=interpolation"]) == 0
    files = RunFolder(of_both)
    assert set(pd.read_csv(files.scores)["split"]) == set(load(QUIET)[1]["suite"]["splits"])
    assert len(decode(files.play / "interpolation_centre.mp4")[1]) == 4
    lines = [json.loads(line) for line in files.metrics.read_text().splitlines()]
    assert "eval/train/return" in lines[-1]
    names = set(weights(of_both))
    assert {"encoder.pixels.stem.weight", "encoder.state.norm.weight"} < names
    policy = hrl.load_policy(of_both, device="cpu")
    env = policy.make_vec_env(3)
    observation = env.reset()[0]
    actions = [policy.act(observation, True)]
    for part in ("pixels", "state"):
        changed = {**observation, part: observation[part] // 2 + 1}
        actions.append(policy.act(changed, True))
    assert not np.array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    with pytest.raises(ValueError, match="the observation has no 'state'"):
        policy.act({key: observation[key] for key in observation if key != "state"}, True)
    with pytest.raises(ValueError, match=r"state has the shape \(3, 3\), not \(3, 4\)"):
        policy.act({**observation, "state": observation["state"][:, :3]}, True)
    env.close()


@pytest.mark.parametrize(
    "agent",
    [
        "skills",
        "sb3_ppo",
        pytest.param("ppo", marks=pytest.mark.slow),
        pytest.param("sb3_sac", marks=pytest.mark.slow),
    ],
)
def test_a_run_of_states_draws_nothing_and_continues_to_the_bit(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ["agent.learning_starts=8", "agent.buffer_size=64"] if agent == "sb3_sac" else []

    def refuse(*arguments: object) -> None:
        raise AssertionError("drawn")

    monkeypatch.setattr(MujocoPhysics, "render", refuse)
    whole = run(tmp_path / "whole", "state", agent, 512, *sizes)
    run(tmp_path / "halves", "state", agent, 256, *sizes)
    halves = run(tmp_path / "halves", "state", agent, 512, *sizes)
    assert_same(weights(halves), weights(whole))
    assert RunFolder(halves).metrics.read_bytes() == RunFolder(whole).metrics.read_bytes()
    assert not any("stem" in name for name in weights(whole))
    policy = hrl.load_policy(whole, device="cpu")
    env = policy.make_env()
    observation = env.reset()[0]
    assert set(observation) == {"state", "task", "action_mask"}
    assert np.isfinite(policy.act(observation, True)).all()
    assert env.render().shape == (128, 128, 3)
    env.close()


@pytest.mark.slow
def test_a_run_of_an_external_environments_dict_trains_and_is_filmed(tmp_path: Path) -> None:
    """Of one that with images alone would be refused."""
    suite = "suite=gym/tests.envs.external_fakes:SensibleDict-v0"
    folder = run(tmp_path / "run", "state", "ppo", 256, suite, "num_envs=2")
    command = ["evaluate", str(folder), "--episodes=1", "--import=tests.envs.external_fakes"]
    assert main(command) == 0
    assert list(RunFolder(folder).videos.glob("*.mp4"))


def test_pixels_are_not_mentioned(tmp_path: Path) -> None:
    """Runs of images have the configuration, the weights and the state that they had."""
    assert "observation" not in load(["agent=ppo"])[1]
    assert load(["agent=ppo", "observation=state", "suite=debug"])[1]["observation"] == "state"
    folder = run(tmp_path / "run", "pixels", "ppo", 256)
    assert "encoder.stem.weight" in weights(folder)
    assert "observation" not in RunFolder(folder).read_config()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["agent=dreamer"], "observation is 'both'; agent dreamer observes images alone; .*ppo"),
        (["agent=director"], "observation is 'both'; agent director observes images alone; .*sb3_"),
        (["agent=ppo", "suite=mixed_speed"], "'mixed_speed': observation needs a state"),
        (["agent=skills", "suite=jaco"], "of family 'jaco' has none; choose pixels"),
        (["agent=ppo", "observation=sound"], "observation is 'sound'; choose from pixels, state"),
        (
            ["agent=ppo", "observation=state", "network.encoder.kind=impala"],
            "network.encoder.kind is 'impala'; observation=state has no images to encode",
        ),
    ],
)
def test_what_cannot_observe_a_state_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(["suite=debug", "observation=both", *overrides])


def test_a_run_cannot_change_what_it_observes(of_both: Path) -> None:
    with pytest.raises(ConfigMismatchError, match="observation"):
        run(of_both, "state", "skills", 512)
    request = FinetuneRequest(of_both, "centre", overrides=["observation=pixels"])
    with pytest.raises(ConfigError, match="observation cannot be given: it is that of the run"):
        compose_finetune(request, read_source(of_both))
    inherited = compose_finetune(FinetuneRequest(of_both, "centre"), read_source(of_both))
    assert inherited.config.observation == "both"


def test_memory_is_that_of_what_is_observed() -> None:
    def total(observation: str) -> int:
        composed = load(["agent=ppo", "suite=debug", f"observation={observation}"])
        suite = Suite.from_dict(composed.plain["suite"])
        [estimate] = memory_estimates(composed.config, suite, torch.device("cpu"))
        return estimate.total

    pixels, state, both = map(total, ("pixels", "state", "both"))
    assert both > pixels
    assert pixels > state + 64 * 16 * 64**2 * 9
