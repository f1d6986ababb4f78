"""What training, an evaluation or a film takes beside weights: known from the configuration, before
it is taken.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from envs import Suite
from envs.external.family import WORKER_BYTES, ExternalFamily
from envs.external.worker_pool import envs_held
from envs.simulation.terrain import has_terrain
from hrl.config import RunConfig
from hrl.evaluation.episodes import worlds_at_once
from hrl.evaluation.policy_video import SIZE
from hrl.run.build import run_shapes
from hrl.run.checkpoints import KEEP
from hrl.run.memory import DiskEstimate, GpuMemoryEstimate, MemoryEstimate

# Bytes: the ray tracer's own, and those of one world's simulation and images (measured: 0.23 to
# 0.69 MiB).
RENDERER, WORLD = 64 * 2**20, 3 * 2**18
# Besides, where every world has its own terrain: model, mesh and its tree (measured: 6 to 7 MiB).
TERRAIN = 8 * 2**20


def memory_estimates(config: RunConfig, suite: Suite, device: torch.device) -> list[MemoryEstimate]:
    """Memory that training takes, by name, in bytes: the machine's, and the GPU's where the learner
    computes on one.

    Weights do not count, nor what has their size (gradients, moments): at 50 million parameters
    about a GiB.
    """
    image = _image(config)
    machine = MemoryEstimate()
    learner = GpuMemoryEstimate(device) if device.type == "cuda" else machine
    machine.add("observations", 3 * config.num_envs * image)
    for use in config.agent.memory_uses(run_shapes(config, suite)):
        place = learner if use.place == "learner" else machine
        place.add(use.name, use.size)
        if use.in_checkpoint and place is not machine:
            machine.add(f"{use.name}, while it is saved", use.size)
    dealt = len(suite.tasks("train"))
    machine.add("simulation and rendering", simulation_size(config, suite, config.num_envs, dealt))
    if config.evaluation.every:
        worlds = worlds_at_once(suite, dealt, config.evaluation.episodes)
        machine.add("evaluation", worlds * 3 * image + simulation_size(config, suite, worlds))
    return [machine] if learner is machine else [machine, learner]


def acting_memory_estimate(
    config: RunConfig, suite: Suite, worlds: int, video_steps: int = 0, video_size: int = SIZE
) -> MemoryEstimate:
    """Memory that a policy takes to act in so many worlds at once, by name, in bytes.

    Args:
        video_steps: agent steps of the longest video, all of whose images are kept until it is
            written.
        video_size: side of its images in pixels.
    """
    image = _image(config)
    budget = MemoryEstimate()
    budget.add("observations", 3 * worlds * image)
    # Patches in float32, and the stem's maps.
    budget.add("policy", 6 * worlds * image)
    budget.add("simulation and rendering", simulation_size(config, suite, worlds))
    # A quarter more for the panel of the manager's commands.
    budget.add("record_video", video_steps * video_size**2 * 3 * 5 // 4)
    return budget


def checkpoint_disk_estimate(config: RunConfig, suite: Suite, folder: Path) -> DiskEstimate:
    """Disk space that a run's checkpoints take in its folder, by what is in them, in bytes.

    The last `KEEP` are kept, and while one is saved its file lies beside them. Those that are there
    already make room.
    """
    budget = DiskEstimate(folder, there=_size(folder / "checkpoints"))
    files = KEEP + 1
    # The environment's and the learner's last observation.
    budget.add(f"{files} checkpoints' observations", files * 2 * config.num_envs * _image(config))
    for use in config.agent.memory_uses(run_shapes(config, suite)):
        if use.in_checkpoint:
            budget.add(f"{files} checkpoints' {use.name}", files * use.size)
    return budget


def simulation_size(config: RunConfig, suite: Suite, worlds: int, tasks: int = 1) -> int:
    """Bytes of so many worlds of a suite, with what draws them; of an external suite, its worker
    processes too.

    Args:
        tasks: that are dealt out to the worlds in turn; 1 where each keeps its own, as in
            evaluations.
    """
    family = suite.family
    if isinstance(family, ExternalFamily):
        workers = min(worlds, config.threads or len(os.sched_getaffinity(0)))
        return workers * WORKER_BYTES + envs_held(worlds, tasks, workers) * family.env_bytes
    own = TERRAIN if any(has_terrain(scene) for scene in suite.scenes()) else 0
    return RENDERER + worlds * (WORLD + own)


# Private functions.


def _image(config: RunConfig) -> int:
    """Bytes of one observation's stack of images."""
    return config.image_size**2 * 3 * config.frame_stack


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
