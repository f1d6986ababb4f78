"""Time to draw a batch from replays of different sizes, and to write back: it must not grow with
the capacity.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from hrl.data.replay_buffer import Column, ReplayBuffer
from hrl.run import hardware
from hrl.run.memory import MemoryEstimate, available_memory

SIZES = (10_000, 100_000, 1_000_000)
PICTURES = (64, 32, 16)
NUM_ENVS = 64
WARM_UP = 5
MEMORY_SHARE = 0.5
Result = TypeVar("Result")


def run(
    batch: int = 16,
    length: int = 65,
    rounds: int = 40,
    device: str = "auto",
    sizes: Sequence[int] = SIZES,
) -> dict[str, Any]:
    """Milliseconds of sampling and of writing back, from full replays of all sizes in turn.

    All replays are in memory at once and are measured one after the other in every round, so that
    what else the machine does meets all of them. Images are the largest of 64, 32 and 16 pixels a
    side with which the replays fit into half of the memory available.

    Args:
        batch: sequences.
        length: rows of a sequence, context included.
        rounds: measurements of each size.
        device: where the replays are kept.
        sizes: rows, smallest first.

    Returns:
        By size under `rows`: medians `sample_milliseconds` and `write_back_milliseconds`,
        `sample_quartiles`, `bytes` taken. `ratio` is the median, over rounds, of the largest's
        sampling time by the smallest's. `image`, the other sizes and the machine's `load_average`
        before and after say under what conditions.

    Raises:
        MemoryEstimateError: not even the smallest images fit.
    """
    hardware.configure(0)
    index, load = hardware.choose_device(device), os.getloadavg()[0]
    image = _affordable_image(sizes, _available(index))
    replays = [
        _full(ReplayBuffer(_columns(image), NUM_ENVS, size, length, index)) for size in sizes
    ]
    generator = torch.Generator().manual_seed(0)
    times = [
        [_measure(replay, batch, generator) for replay in replays] for _ in range(WARM_UP + rounds)
    ][WARM_UP:]
    by_size = zip(*times, strict=True)
    return {
        "rows": {
            str(replay.capacity): _summary(replay, own)
            for replay, own in zip(replays, by_size, strict=True)
        },
        "ratio": round(
            statistics.median(measured[-1][0] / measured[0][0] for measured in times), 2
        ),
        "image": image,
        "batch": batch,
        "length": length,
        "num_envs": NUM_ENVS,
        "rounds": rounds,
        "device": str(index),
        "threads": torch.get_num_threads(),
        "load_average": [round(load, 2), round(os.getloadavg()[0], 2)],
    }


def _columns(image: int) -> dict[str, Column]:
    """Rows of a world model's replay, with the latents of a small one."""
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


def _affordable_image(sizes: Sequence[int], available: int) -> int:
    """Says what will be taken, before it is."""
    for image in PICTURES:
        budget = MemoryEstimate()
        for size in sizes:
            budget.add(
                f"{size} rows, {image}x{image}",
                ReplayBuffer.bytes_needed(_columns(image), NUM_ENVS, size),
            )
        if budget.total <= MEMORY_SHARE * available or image == PICTURES[-1]:
            break
    budget.check(available, MEMORY_SHARE)
    print(budget, file=sys.stderr)
    return image


def _available(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_memory()


def _full(replay: ReplayBuffer) -> ReplayBuffer:
    """Adds rows until every ring is full; what they hold has no part in the time."""
    rows = {
        name: torch.ones(NUM_ENVS, *column.shape, dtype=column.dtype, device=replay.device)
        for name, column in replay.columns.items()
    }
    envs = torch.arange(NUM_ENVS)
    for _ in range(replay.capacity // NUM_ENVS):
        replay.add(rows, envs)
    return replay


def _measure(replay: ReplayBuffer, batch: int, generator: torch.Generator) -> tuple[float, float]:
    """Milliseconds of one sampling and of writing its latents back, without the context's."""
    sampling, drawn = _milliseconds(lambda: replay.sample(batch, generator), replay.device)
    latents = {name: drawn.columns[name][:, 1:] for name in ("deter", "stoch")}
    writing, _ = _milliseconds(
        lambda: replay.update_latents(drawn.sequence_index, latents), replay.device
    )
    return sampling, writing


def _milliseconds(call: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    _wait(device)
    started = time.perf_counter()
    result = call()
    _wait(device)
    return 1000 * (time.perf_counter() - started), result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _summary(replay: ReplayBuffer, times: Sequence[tuple[float, float]]) -> dict[str, Any]:
    sampling, writing = zip(*times, strict=True)
    low, _, high = statistics.quantiles(sampling, n=4)
    return {
        "sample_milliseconds": round(statistics.median(sampling), 3),
        "sample_quartiles": [round(low, 3), round(high, 3)],
        "write_back_milliseconds": round(statistics.median(writing), 3),
        "bytes": ReplayBuffer.bytes_needed(replay.columns, NUM_ENVS, replay.capacity),
    }
