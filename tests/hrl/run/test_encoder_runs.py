"""Runs with other encoders: trained, continued, loaded, and refused where they cannot be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import examples.frozen_encoder  # noqa: F401  it registers its kind
import hrl
from envs import Suite
from hrl.config import ConfigError, load
from hrl.nets.encoder import find_encoder
from hrl.run.memory_estimate import memory_estimates
from hrl.run.train import train
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


def run(folder: Path, agent: str, kind: str, frames: int, *more: str) -> Path:
    own = [f"agent={agent}", f"network.encoder.kind={kind}", f"folder={folder}", f"frames={frames}"]
    return train(load([*QUIET, *own, *more]), "a test")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "policy.safetensors")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("first") / "run", "ppo", "cnn", 256)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "kind"), [("ppo", "impala"), ("skills", "resnet"), ("sb3_ppo", "impala")]
)
def test_other_encoders_train_and_continue_to_the_bit(agent, kind, tmp_path):
    whole = run(tmp_path / "whole", agent, kind, 512)
    run(tmp_path / "halves", agent, kind, 256)
    assert_same(weights(run(tmp_path / "halves", agent, kind, 512)), weights(whole))
    policy = hrl.load_policy(whole, device="cpu")
    env = policy.make_env()
    action = policy.act(env.reset()[0], True)
    env.close()
    assert np.isfinite(action).all()


@pytest.mark.parametrize("agent", ["skills", "sb3_ppo"])
def test_a_frozen_encoder_of_another_run_stays_the_same_to_the_bit(agent, pretrained, tmp_path):
    source = f"network.encoder.weights={pretrained / 'policy.safetensors'}"
    folder = run(tmp_path / "run", agent, "frozen", 256, source)
    first = weights(folder)
    last = weights(run(folder, agent, "frozen", 512, source))
    before = weights(pretrained)
    frozen = {name for name in last if "encoder." in name}
    assert len(frozen) >= 8
    for name in frozen:
        assert torch.equal(last[name], before[name[name.index("encoder.") :]]), name
    learned = {name for name in last if name.endswith("weight")} - frozen
    assert all(not torch.equal(first[name], last[name]) for name in learned)
    if agent == "skills":
        assert '"encoder": 0' in (folder / "environment.json").read_text()
    assert hrl.load_policy(folder, device="cpu").config.network.encoder.kind == "frozen"


def test_a_frozen_encoder_names_the_file_that_does_not_fit(pretrained, tmp_path):
    source = f"network.encoder.weights={pretrained / 'policy.safetensors'}"
    with pytest.raises(ConfigError, match=r"network\.encoder\.weights is .*size mismatch for conv"):
        run(tmp_path / "a", "ppo", "frozen", 256, source, "network.encoder.channels=[8,16]")
    with pytest.raises(ConfigError, match=r"weights is 'nowhere'; there is no such file"):
        run(tmp_path / "b", "ppo", "frozen", 256, "network.encoder.weights=nowhere")
    assert not list(tmp_path.glob("*/config.yaml"))


@pytest.mark.parametrize("agent", ["dreamer", "director"])
def test_world_model_agents_refuse_an_encoder_without_its_decoder(agent):
    message = (
        rf"network\.encoder\.kind is 'impala'; agent {agent} encodes images by "
        r"network\.world_model; leave it cnn"
    )
    with pytest.raises(ConfigError, match=message):
        load([f"agent={agent}", "network.encoder.kind=impala"])


def test_unknown_encoders_are_refused_with_the_choices():
    with pytest.raises(ConfigError, match=r"network\.encoder\.kind is 'vit'; choose from cnn, "):
        load(["agent=ppo", "network.encoder.kind=vit"])


def test_memory_estimates_know_the_encoder():
    def taken(kind: str) -> tuple[int, int, int]:
        channels = "network.encoder.channels=[16,32,32]"
        composed = load(["agent=ppo", "suite=debug", f"network.encoder.kind={kind}", channels])
        suite, encoder = Suite.from_dict(composed.plain["suite"]), composed.config.network.encoder
        [estimate] = memory_estimates(composed.config, suite, torch.device("cpu"))
        stored = find_encoder(kind).stored_bytes(64, 9)
        return estimate.total, stored, stored + find_encoder(kind).map_bytes(64, 9, encoder)

    images = 64 * 16  # environments, and steps between updates of four minibatches
    (total, stored, encoded), (other, other_stored, other_encoded) = map(taken, ("cnn", "impala"))
    assert stored == 4 * other_stored, "bytes where patches are floats"
    difference = images * (other_stored - stored) + images // 4 * (other_encoded - encoded)
    assert other - total == difference > 200 * 2**20
