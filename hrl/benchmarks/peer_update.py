"""Make updates of r2dreamer's agent, from a checkout of NM512/r2dreamer, in a process of its own.

The process runs this file, so that the checkout's modules, which have names such as `tools` and
`envs`, do not meet ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from hrl.config_field import ConfigError

MODEL = Path("configs", "model", "_base_.yaml")
NEEDED = (Path("dreamer.py"), MODEL)


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """Hold what the peer's update shares with ours.

    Attributes:
        checkout: path of the checkout.
        deter, hidden, groups, classes, blocks: as in `RSSMConfig`.
        units, depth, kernel: as in `WorldModelConfig`.
        image_size: side of an image in pixels.
        channels: of an image.
        action_size: numbers of an action.
        batch_size: sequences of an update.
        sequence_length: steps of a sequence.
        imagined_steps: steps that are imagined from each of them.
        device: that computes.
        dtype: torch's name of the type of matrix products and convolutions.
        compile: whether the peer compiles its update and records it as a graph.
        threads: of torch.
    """

    checkout: str
    deter: int
    hidden: int
    groups: int
    classes: int
    blocks: int
    units: int
    depth: int
    kernel: int
    image_size: int
    channels: int
    action_size: int
    batch_size: int
    sequence_length: int
    imagined_steps: int
    device: str
    dtype: str
    compile: bool
    threads: int


class PeerProcess:
    """Make the peer's updates in a process, one when it is asked for.

    Attributes:
        parameters: number of parameters that the peer's agent learns.
    """

    def __init__(self, settings: PeerSettings) -> None:
        """Start the process and build the agent.

        Raises:
            ConfigError: there is no checkout at the path, or it does not work here; the message
                says why.
        """
        # Imported here, because the process must not have our `envs`.
        from envs.extensions import search_path

        self._checkout = settings.checkout
        check_checkout(Path(settings.checkout))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            env=os.environ | {"PYTHONPATH": search_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.parameters = int(self._ask(json.dumps(asdict(settings)))["parameters"])

    def update(self) -> float:
        """Make one update and return its seconds, a GPU's work included.

        Raises:
            ConfigError: it failed.
        """
        return float(self._ask("update")["seconds"])

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.communicate()

    def _ask(self, line: str) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            print(line, file=stdin, flush=True)
            answer: dict[str, Any] = json.loads(stdout.readline() or "{}")
        except BrokenPipeError:
            answer = {}
        if not answer:
            answer["error"] = f"its process ended with code {self._process.wait()}"
        if "error" in answer:
            self.close()
            raise ConfigError(f"--peer={self._checkout}: {answer['error']}")
        return answer


def check_checkout(path: Path) -> None:
    """Raise ConfigError unless a path looks like a checkout of r2dreamer."""
    missing = [str(name) for name in NEEDED if not (path / name).is_file()]
    if missing:
        raise ConfigError(
            f"--peer={path} is not a checkout of r2dreamer (https://github.com/NM512/r2dreamer): "
            f"it has no {' and no '.join(missing)}"
        )


# What follows runs in the process.


class RandomReplay:
    """Give the same random sequences to every update, in place of the peer's replay buffer."""

    def __init__(self, settings: PeerSettings, tensor_dict: Any, initial: tuple[Tensor, Tensor]):
        shape = (settings.batch_size, settings.sequence_length)
        image = (settings.image_size, settings.image_size, settings.channels)
        generator = torch.Generator().manual_seed(0)
        actions = torch.rand(*shape, settings.action_size, generator=generator)
        nowhere = torch.zeros(*shape, 1, dtype=torch.bool)
        data = {
            "image": torch.randint(256, (*shape, *image), generator=generator, dtype=torch.uint8),
            "action": 2 * actions - 1,
            "reward": torch.rand(*shape, 1, generator=generator),
            "is_first": nowhere,
            "is_last": nowhere,
            "is_terminal": nowhere,
        }
        on_device = {name: values.to(settings.device) for name, values in data.items()}
        self._data = tensor_dict(on_device, batch_size=shape)
        self._initial = initial

    def sample(self) -> tuple[Any, None, tuple[Tensor, Tensor]]:
        """Return the sequences, which the peer changes in its copy, and the states before them."""
        return self._data.copy(), None, self._initial

    def update(self, index: None, stoch: Tensor, deter: Tensor) -> None:
        """Keep no states."""


def model_config(settings: PeerSettings) -> DictConfig:
    """Return the peer's configuration of a model of our sizes, which decodes images."""
    model = OmegaConf.load(Path(settings.checkout) / MODEL)
    assert isinstance(model, DictConfig)
    model.merge_with(
        {
            "deter": settings.deter,
            "hidden": settings.hidden,
            "discrete": settings.classes,
            "units": settings.units,
            "depth": settings.depth,
            "act": "SiLU",
            "norm": True,
            "rep_loss": "dreamer",
            "imag_horizon": settings.imagined_steps,
            "compile": settings.compile,
            "rssm": {"stoch": settings.groups, "blocks": settings.blocks},
            "encoder": {"cnn": {"kernel_size": settings.kernel}},
            "decoder": {"cnn": {"kernel_size": settings.kernel, "bspace": settings.blocks}},
        }
    )
    keys = {"mlp_keys": "$^", "cnn_keys": "image"}
    env = {"encoder": keys, "decoder": keys}
    whole = OmegaConf.create({"device": settings.device, "env": env, "model": model})
    OmegaConf.resolve(whole)
    resolved: DictConfig = whole.model
    return resolved


def make_agent(settings: PeerSettings) -> tuple[Any, RandomReplay]:
    """Return the peer's agent, which computes in our precision, and its replay."""
    sys.path.insert(0, settings.checkout)
    module = import_module("dreamer")
    dtype = getattr(torch, settings.dtype)
    kind = torch.device(settings.device).type
    # The peer's precision is float16, with a scaled loss.
    vars(module)["autocast"] = lambda device_type, dtype: _autocast(kind, settings.dtype)
    vars(module)["GradScaler"] = partial(
        torch.amp.GradScaler, device=kind, enabled=dtype == torch.float16
    )
    side = (settings.image_size, settings.image_size, settings.channels)
    images = SimpleNamespace(spaces={"image": SimpleNamespace(shape=side)})
    actions = SimpleNamespace(shape=(settings.action_size,))
    agent = module.Dreamer(model_config(settings), images, actions).to(settings.device)
    start = agent.get_initial_state(settings.batch_size)
    return agent, RandomReplay(settings, module.TensorDict, (start["stoch"], start["deter"]))


def serve() -> None:
    """Read the settings and then, line by line, requests for an update; answer in JSON."""
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  the peer prints
    settings = PeerSettings(**json.loads(sys.stdin.readline()))
    torch.set_num_threads(settings.threads)
    try:
        agent, replay = make_agent(settings)
        learned = (part.numel() for part in agent.parameters() if part.requires_grad)
        print(json.dumps({"parameters": sum(learned)}), file=answers, flush=True)
        for _ in sys.stdin:
            seconds = _seconds(partial(agent.update, replay))
            print(json.dumps({"seconds": seconds}), file=answers, flush=True)
    except ImportError as error:
        reason = f"it cannot be imported here, {error}: install what it needs"
        print(json.dumps({"error": reason}), file=answers, flush=True)
    except Exception as error:
        # Whatever the peer raises, the process that asked has to know.
        reason = f"its update failed: {type(error).__name__}: {error}"
        print(json.dumps({"error": reason}), file=answers, flush=True)


def _autocast(kind: str, dtype: str) -> torch.autocast:
    return torch.autocast(kind, dtype=getattr(torch, dtype), enabled=dtype != "float32")


def _seconds(call: Any) -> float:
    _synchronize()
    started = time.perf_counter()
    call()
    _synchronize()
    return time.perf_counter() - started


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    serve()
