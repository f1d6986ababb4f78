"""Derive seeds from counters.

A seed is a function of (run seed, stream, counter), so a continued run has no state of generators
to restore.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def stream_seed(seed: int, stream: str, counter: int = 0) -> int:
    """Return a 63-bit seed for the `counter`-th use of the named stream of the run `seed`."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(stream.encode()), counter])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def torch_generator(
    seed: int, stream: str, counter: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a torch generator on `device`, seeded by `stream_seed`."""
    return torch.Generator(device).manual_seed(stream_seed(seed, stream, counter))
