"""The peer's updates are made by the code of a checkout, with our sizes and precision."""

from dataclasses import replace
from pathlib import Path

import pytest

from hrl.benchmarks import update
from hrl.benchmarks.peer_update import PeerProcess, PeerSettings, check_checkout
from hrl.config import ConfigError

# As r2dreamer's own file has them: the sizes come from outside.
MODEL = """
deter: 1
imag_horizon: 15
rep_loss: r2dreamer
device: ${device}
rssm: {stoch: 32, deter: "${model.deter}", discrete: "${model.discrete}", blocks: 8}
encoder: {cnn_keys: "${env.encoder.cnn_keys}", cnn: {kernel_size: 5, depth: "${model.depth}"}}
decoder: {cnn_keys: "${env.decoder.cnn_keys}", cnn: {kernel_size: 5, bspace: 8}}
"""
# What we use of r2dreamer's agent, checked by assertions that come back as errors.
DREAMER = """
import math
import pathlib

import tools
import torch
from torch.amp import GradScaler, autocast

print("a line that is no answer")


class TensorDict(dict):
    def __init__(self, data, batch_size):
        super().__init__(data)
        self.shape = tuple(batch_size)

    def copy(self):
        return TensorDict(self, self.shape)


class Dreamer(torch.nn.Module):
    def __init__(self, config, obs_space, act_space):
        super().__init__()
        assert tools.NAME == "of the checkout"
        assert (config.rep_loss, config.device, config.act) == ("dreamer", "cpu", "SiLU")
        assert (config.rssm.stoch, config.rssm.discrete, config.rssm.blocks) == (4, 5, 2)
        assert config.encoder.cnn_keys == config.decoder.cnn_keys == "image"
        assert config.encoder.cnn == {"kernel_size": 3, "depth": 6}
        assert config.imag_horizon == 7
        assert act_space.shape == (2,)
        self.rssm = config.rssm
        inputs = math.prod(obs_space.spaces["image"].shape)
        self.layer = torch.nn.Linear(inputs, config.rssm.deter, bias=False)
        self.scaler = GradScaler()

    def get_initial_state(self, count):
        stoch = torch.zeros(count, self.rssm.stoch, self.rssm.discrete)
        return {"stoch": stoch, "deter": torch.zeros(count, self.rssm.deter)}

    def update(self, replay):
        if pathlib.Path(__file__).with_name("broken").exists():
            raise ValueError("it is broken")
        data, index, (stoch, deter) = replay.sample()
        assert data.shape == tuple(data["image"].shape[:2]) == tuple(data["action"].shape[:2])
        assert data["reward"].shape == (*data.shape, 1)
        assert data["image"].dtype == torch.uint8
        data["image"] = data["image"].float() / 255
        with autocast(device_type="cpu", dtype=torch.float16):
            assert self.layer(data["image"].flatten(2)).dtype == torch.bfloat16
        assert not self.scaler.is_enabled()
        replay.update(index, stoch, deter)
"""
SETTINGS = PeerSettings(
    checkout="",
    deter=8,
    hidden=3,
    groups=4,
    classes=5,
    blocks=2,
    units=9,
    depth=6,
    kernel=3,
    image_size=16,
    channels=3,
    action_size=2,
    batch_size=2,
    sequence_length=3,
    imagined_steps=7,
    device="cpu",
    dtype="bfloat16",
    compile=False,
    threads=1,
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "_base_.yaml").write_text(MODEL)
    (tmp_path / "dreamer.py").write_text(DREAMER)
    (tmp_path / "tools.py").write_text("NAME = 'of the checkout'\n")
    return tmp_path


def test_a_path_that_is_no_checkout_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=rf"{tmp_path} is not a checkout of r2dreamer.*dreamer.py"
    ):
        update.run(["size=debug"], peer=str(tmp_path))
    (tmp_path / "dreamer.py").touch()
    with pytest.raises(ConfigError, match=r"it has no configs/model/_base_.yaml$"):
        check_checkout(tmp_path)


def test_another_agent_is_not_compared_with_the_peer(checkout: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent=dreamer alone, not with agent=director"):
        update.run(["agent=director"], peer=str(checkout))


def test_the_checkouts_own_code_makes_updates_of_our_sizes(checkout: Path) -> None:
    process = PeerProcess(replace(SETTINGS, checkout=str(checkout)))
    assert process.parameters == 16 * 16 * 3 * 8
    # The second update finds the images as the first one did.
    assert all(process.update() > 0 for _ in range(2))
    (checkout / "broken").touch()
    with pytest.raises(ConfigError, match="its update failed: ValueError: it is broken"):
        process.update()
    assert process._process.poll() == 0


@pytest.mark.slow
def test_a_missing_import_is_named(checkout: Path) -> None:
    (checkout / "tools.py").write_text("import a_library_that_is_not_here")
    with pytest.raises(ConfigError, match="No module named 'a_library_that_is_not_here'"):
        PeerProcess(replace(SETTINGS, checkout=str(checkout)))


@pytest.mark.slow
def test_both_are_measured_in_turn(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update.hardware, "configure", lambda threads: threads)
    sizes = {"deter": 8, "groups": 4, "classes": 5, "blocks": 2, "depth": 6, "kernel": 3}
    given = [
        *(f"network.world_model.{name}={size}" for name, size in sizes.items()),
        *("size=debug", "device=cpu", "precision=bfloat16", "num_envs=2", "image_size=16"),
        *("agent.batch_size=2", "agent.sequence_length=3", "agent.horizon=7"),
        *("agent.compile=none", "agent.cuda_graph=false"),
    ]
    with pytest.raises(ConfigError, match=r"network.world_model.strided=false"):
        update.run(given, updates=2, peer=str(checkout))
    chosen = [*given, "network.world_model.strided=false"]
    result = update.run(chosen, updates=2, peer=str(checkout))
    for method in ("dreamer", "r2dreamer"):
        assert result[method]["milliseconds"] > 0
    assert result["r2dreamer"]["parameters"] == 16 * 16 * 3 * 8
    ours, theirs = (result[method]["milliseconds"] for method in ("dreamer", "r2dreamer"))
    assert result["ratio"] > 1
    assert ours > theirs
