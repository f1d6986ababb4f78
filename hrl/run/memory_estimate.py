"""Estimate what training, an evaluation or a video takes beside weights.

The configuration is enough to know it, so that a run that does not fit is refused before it starts.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from envs import Suite
from envs.external.family import WORKER_BYTES, ExternalFamily
from envs.external.worker_pool import envs_held
from envs.simulation.backends import WARP
from envs.simulation.terrain import has_terrain
from envs.simulation.warp_model import world_bytes
from hrl.config import RunConfig
from hrl.evaluation.episodes import worlds_at_once
from hrl.evaluation.policy_video import SIZE
from hrl.run.build import run_shapes
from hrl.run.checkpoints import KEEP
from hrl.run.memory import DiskEstimate, GpuMemoryEstimate, MemoryEstimate

RENDERER_BYTES = 64 * 2**20
"""Bytes of the ray tracer itself."""
WORLD_BYTES = 3 * 2**18
"""Bytes of one world's simulation and images (measured: 0.23 to 0.69 MiB)."""
TERRAIN_BYTES = 8 * 2**20
"""More bytes where every world has its own terrain: model, mesh and its tree (measured: 6 to 7
MiB)."""


def memory_estimates(
    config: RunConfig, suite: Suite, device: torch.device, processes: int = 1
) -> list[MemoryEstimate]:
    """Return the memory that training takes: the machine's, and the GPU's if the learner uses one.

    Weights do not count, nor what has their size (gradients, moments): at 50 million parameters
    these are about a GiB.

    Args:
        config: of the run, or of one process of several.
        suite: of the run.
        device: that the process computes on.
        processes: that train the run on this machine, with a GPU each or none.
    """
    image_bytes = run_shapes(config, suite).image_bytes
    machine = MemoryEstimate(processes)
    learner = GpuMemoryEstimate(device) if device.type == "cuda" else machine
    machine.add("observations", 3 * config.num_envs * image_bytes)
    for use in config.agent.memory_uses(run_shapes(config, suite)):
        place = learner if use.place == "learner" else machine
        place.add(use.name, use.size)
        if use.in_checkpoint and place is not machine:
            machine.add(f"{use.name}, while it is saved", use.size)
    n_tasks = len(suite.tasks("train"))
    simulation = simulation_size(config, suite, config.num_envs, n_tasks)
    simulator = learner if config.physics == WARP else machine
    simulator.add("simulation and rendering", simulation)
    if config.evaluation.every:
        worlds = worlds_at_once(suite, n_tasks, config.evaluation.episodes)
        machine.add("evaluation", worlds * 3 * image_bytes)
        simulator.add("evaluation", simulation_size(config, suite, worlds))
    return [machine] if learner is machine else [machine, learner]


def acting_memory_estimate(
    config: RunConfig, suite: Suite, worlds: int, video_steps: int = 0, video_size: int = SIZE
) -> MemoryEstimate:
    """Return the memory that a policy takes to act in several worlds at once.

    Args:
        config: of the run.
        suite: what the policy acts in.
        worlds: number of worlds.
        video_steps: agent steps of the longest video, all of whose images are kept until it is
            written.
        video_size: side of its images in pixels.
    """
    shapes = run_shapes(config, suite)
    estimate = MemoryEstimate()
    estimate.add("observations", 3 * worlds * shapes.image_bytes)
    # What is encoded, and half of the maps: those before are gone when the last ones are made.
    estimate.add("policy", worlds * (shapes.stored_image_bytes + shapes.map_bytes // 2))
    estimate.add("simulation and rendering", simulation_size(config, suite, worlds))
    # A quarter more for the panel of the manager's high-level actions.
    estimate.add("record_video", video_steps * video_size**2 * 3 * 5 // 4)
    return estimate


def checkpoint_disk_estimate(config: RunConfig, suite: Suite, folder: Path) -> DiskEstimate:
    """Return the disk space that a run's checkpoints take in its folder.

    The last `KEEP` are kept, and while one is saved its file lies beside them. Existing ones make
    room.
    """
    shapes = run_shapes(config, suite)
    estimate = DiskEstimate(folder, existing=_size(folder / "checkpoints"))
    files = KEEP + 1
    # The environment's and the learner's last observation.
    observations = 2 * config.num_envs * shapes.image_bytes
    estimate.add(f"{files} checkpoints' observations", files * observations)
    for use in config.agent.memory_uses(shapes):
        if use.in_checkpoint:
            estimate.add(f"{files} checkpoints' {use.name}", files * use.size)
    return estimate


def simulation_size(config: RunConfig, suite: Suite, worlds: int, tasks: int = 1) -> int:
    """Return the bytes of several worlds of a suite, with the renderer or the worker processes.

    Args:
        config: of the run.
        suite: the worlds' suite.
        worlds: number of worlds.
        tasks: tasks that are assigned to the worlds round-robin; 1 where each world keeps its own,
            as in evaluations.
    """
    family = suite.family
    if isinstance(family, ExternalFamily):
        workers = min(worlds, config.threads or len(os.sched_getaffinity(0)))
        return workers * WORKER_BYTES + envs_held(worlds, tasks, workers) * family.env_bytes
    if config.physics == WARP:
        # All worlds of a suite with several bodies could have the largest one.
        sizes = [world_bytes(scene.model, config.image_size) for scene in suite.scenes()]
        return RENDERER_BYTES + worlds * max(sizes)
    own = TERRAIN_BYTES if any(has_terrain(scene) for scene in suite.scenes()) else 0
    return RENDERER_BYTES + worlds * (WORLD_BYTES + own)


# Private functions.


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
