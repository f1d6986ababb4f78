"""An update's types and devices on a GPU that is not there.

Run as `python -m tests.hrl.pretended_gpu METHOD`.

Tensors on a pretended GPU have shapes, types and devices, and no numbers: whatever mixes devices,
reads a number back to the host, or joins types that CUDA's autocast (another list of operations
than a CPU's) leaves apart, fails. Gradients are beyond it: torch's engine for them asks a driver.

A process of its own, because a build of torch without CUDA must first be told that such a device
may be named.
"""

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hrl.agents.director import Director, DirectorConfig
from hrl.agents.dreamer import Dreamer, DreamerConfig
from hrl.agents.model_based import _optimizer
from hrl.agents.world_model_agent import WorldModelAgent
from hrl.data.observation import Observation
from tests.fakes import model_setting, replayed

METHODS = {"dreamer": (Dreamer, DreamerConfig), "director": (Director, DirectorConfig)}
BATCH, LENGTH, ENVS = 3, 4, 5
GPU, BF16 = torch.device("cuda"), torch.bfloat16
GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace c10::impl { C10_REGISTER_GUARD_IMPL(CUDA, NoOpDeviceGuardImpl<DeviceType::CUDA>) }
"""


def allow_to_name_a_gpu() -> None:
    """Registers a guard that does nothing for CUDA devices."""
    package = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "guard.cpp", Path(folder) / "guard.so"
        source.write_text(GUARD)
        paths = [f"-I{package / 'include'}", f"-L{package / 'lib'}"]
        subprocess.run(
            [
                "g++",
                "-std=c++20",
                "-shared",
                "-fPIC",
                *paths,
                str(source),
                "-o",
                str(library),
                "-lc10",
            ],
            check=True,
        )
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


@contextmanager
def autocast() -> Iterator[None]:
    """CUDA's, which `torch.autocast` turns off where there is no GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", BF16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


def pretended(tensor: Tensor) -> Tensor:
    """The same on the GPU, without numbers; inside `FakeTensorMode`."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=GPU)


def move(module: nn.Module) -> None:
    """Parameters and buffers to the GPU."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(pretended(parameter), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = pretended(buffer)


def is_on_gpu(tensors: dict[str, Tensor], **dtypes: torch.dtype) -> None:
    """Asserts devices, and types of those that are named."""
    for name, tensor in tensors.items():
        assert tensor.device.type == "cuda", (name, tensor.device)
        assert tensor.dtype == dtypes.get(name, tensor.dtype), (name, tensor.dtype)


def main(method: str, gradient: str) -> None:
    """Loss, the optimiser's step, acting, decoded images for videos."""
    kind, config_type = METHODS[method]
    spec = replace(model_setting(), device=GPU, autocast=BF16)
    config = config_type(
        batch_size=BATCH, sequence_length=LENGTH, horizon=8, action_gradient=gradient
    )
    agent, batch = kind(config, spec), replayed(spec, BATCH, LENGTH)
    with FakeTensorMode(allow_non_fake_inputs=False):
        move(agent)
        batch = {name: pretended(rows) for name, rows in batch.items()}
        with autocast():
            product = torch.mm(batch["reward"], batch["reward"].T)
        assert product.dtype == BF16, "autocast is at work"

        loss, metrics, latents = agent.loss(batch)
        assert (loss.device.type, loss.dtype, loss.requires_grad) == ("cuda", torch.float32, True)
        is_on_gpu(metrics, **dict.fromkeys(metrics, torch.float32))
        is_on_gpu(latents, deter=BF16, stoch=torch.uint8)
        for parameter in agent.parameters():
            parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
        optimizer = _optimizer(agent, config)
        optimizer.step()
        agent.update_target()
        is_on_gpu({str(index): average for index, average in enumerate(optimizer.averages())})

        observation = Observation.of(
            {name: values.flatten(0, 1)[:ENVS] for name, values in batch.items()}
        )
        state = agent.initial_state(ENVS)
        with torch.no_grad():
            for _ in range(2):
                action, state, latents = agent.explore(observation, state, None)
            assert action.dtype == torch.float32
            is_on_gpu(state)
            is_on_gpu(latents, deter=BF16, stoch=torch.uint8)
            is_on_gpu(
                {"images": agent.predict_images(state, action.expand(3, -1, -1), observation.task)}
            )
            if isinstance(agent, Director):
                is_on_gpu({"goals": agent.decode_high_level_action(state)}, goals=torch.float32)
                way = agent.reach(state, [1, 2], observation.task, observation.action_mask)
                is_on_gpu({"way": way}, way=torch.float32)


if __name__ == "__main__":
    if not torch.backends.cuda.is_built():
        allow_to_name_a_gpu()
    WorldModelAgent.autocast = lambda self: autocast()
    for way in ("reinforce", "dynamics"):
        main(sys.argv[1], way)
    print(f"{sys.argv[1]}: done")
