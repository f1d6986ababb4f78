"""Measure the time to sample from replay buffers of different sizes, and to update latents.

It must not grow with the capacity.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import torch

from hrl.benchmarks.timing import check_at_least, timed
from hrl.data.replay_buffer import Column, ReplayBuffer
from hrl.run import hardware
from hrl.run.memory import MemoryEstimate, available_memory

SIZES = (10_000, 100_000, 1_000_000)
IMAGE_SIZES = (64, 32, 16)
NUM_ENVS = 64
WARM_UP = 5
MEMORY_SHARE = 0.5


def run(
    batch: int = 16,
    length: int = 65,
    rounds: int = 40,
    device: str = "auto",
    sizes: Sequence[int] = SIZES,
) -> dict[str, Any]:
    """Return milliseconds of sampling and of updating latents, from full buffers of all sizes.

    All buffers are in memory at once and are measured one after the other in every round, so that
    other programs on the machine disturb all of them alike. Images are the largest of 64, 32 and 16
    pixels a side with which the buffers fit into half of the available memory.

    Args:
        batch: number of sequences, at least 1.
        length: rows of a sequence, the context row included, at least 2.
        rounds: number of measurements of each size, at least 2.
        device: of the buffers.
        sizes: rows of each buffer, smallest first.

    Returns:
        By size under `rows`: medians `sample_milliseconds` and `update_latents_milliseconds`,
        `sample_quartiles` and the `bytes` taken. `ratio` is the median, over rounds, of the largest
        buffer's sampling time divided by the smallest's. `image`, the other sizes and the machine's
        `load_average` before and after describe the conditions.

    Raises:
        ConfigError: an argument out of its range.
        MemoryEstimateError: not even the smallest images fit, or no batch of so many rows.
    """
    check_at_least(1, batch=batch)
    check_at_least(2, length=length, rounds=rounds)
    hardware.configure(0)
    place = hardware.choose_device(device)
    load_before = os.getloadavg()[0]
    image = _affordable_image(sizes, batch * length, _available(place))
    replays = [
        _full(ReplayBuffer(_columns(image), NUM_ENVS, size, length, place)) for size in sizes
    ]
    times = _alternate(replays, batch, rounds)
    by_size = zip(*times, strict=True)
    return {
        "rows": {
            str(replay.capacity): _summary(replay, own)
            for replay, own in zip(replays, by_size, strict=True)
        },
        "ratio": _ratio(times),
        "image": image,
        "batch": batch,
        "length": length,
        "num_envs": NUM_ENVS,
        "rounds": rounds,
        "device": str(place),
        "threads": torch.get_num_threads(),
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
    }


def _alternate(
    replays: Sequence[ReplayBuffer], batch: int, rounds: int
) -> list[list[tuple[float, float]]]:
    """Return the two times of every buffer in every round, after some rounds of warm-up."""
    generator = torch.Generator().manual_seed(0)
    times = [
        [_measure(replay, batch, generator) for replay in replays] for _ in range(WARM_UP + rounds)
    ]
    return times[WARM_UP:]


def _ratio(times: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Return the median ratio of the largest buffer's sampling time to the smallest's."""
    return round(statistics.median(sizes[-1][0] / sizes[0][0] for sizes in times), 2)


def _columns(image: int) -> dict[str, Column]:
    """Return the columns of a small world model's replay buffer."""
    return {
        "pixels": Column((image, image, 3), torch.uint8),
        "task": Column((4,), torch.float32),
        "action": Column((6,), torch.float32),
        "reward": Column((), torch.float32),
        "is_first": Column((), torch.bool),
        "is_terminal": Column((), torch.bool),
        "deter": Column((512,), torch.bfloat16),
        "stoch": Column((16,), torch.uint8),
    }


def _affordable_image(sizes: Sequence[int], drawn: int, available: int) -> int:
    """Return the largest side of images that fits, after printing the memory to be taken."""
    for image in IMAGE_SIZES:
        budget = MemoryEstimate()
        for size in sizes:
            budget.add(
                f"{size} rows, {image}x{image}",
                ReplayBuffer.bytes_needed(_columns(image), NUM_ENVS, size),
            )
        rows = ReplayBuffer.bytes_needed(_columns(image), NUM_ENVS, max(drawn, NUM_ENVS))
        budget.add(f"a batch of {drawn} rows", rows)
        if budget.total <= MEMORY_SHARE * available or image == IMAGE_SIZES[-1]:
            break
    budget.check(available, MEMORY_SHARE)
    print(budget, file=sys.stderr)
    return image


def _available(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_memory()


def _full(replay: ReplayBuffer) -> ReplayBuffer:
    """Add rows until every ring is full; their content does not influence the time."""
    rows = {
        name: torch.ones(NUM_ENVS, *column.shape, dtype=column.dtype, device=replay.device)
        for name, column in replay.columns.items()
    }
    envs = torch.arange(NUM_ENVS)
    for _ in range(replay.capacity // NUM_ENVS):
        replay.add(rows, envs)
    return replay


def _measure(replay: ReplayBuffer, batch: int, generator: torch.Generator) -> tuple[float, float]:
    """Return milliseconds of sampling once and of updating its latents, without the context's."""
    sampling, drawn = timed(lambda: replay.sample(batch, generator))
    latents = {name: drawn.columns[name][:, 1:] for name in ("deter", "stoch")}
    updating, _ = timed(lambda: replay.update_latents(drawn.sequence_index, latents))
    return 1000 * sampling, 1000 * updating


def _summary(replay: ReplayBuffer, times: Sequence[tuple[float, float]]) -> dict[str, Any]:
    sampling, updating = zip(*times, strict=True)
    low, _, high = statistics.quantiles(sampling, n=4)
    return {
        "sample_milliseconds": round(statistics.median(sampling), 3),
        "sample_quartiles": [round(low, 3), round(high, 3)],
        "update_latents_milliseconds": round(statistics.median(updating), 3),
        "bytes": ReplayBuffer.bytes_needed(replay.columns, NUM_ENVS, replay.capacity),
    }
