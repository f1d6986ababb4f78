"""When a number stops being one: what was going on is saved for a rerun, and the run ends."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from hrl.run.checkpoint_format import CheckpointTree, write

Value = TypeVar("Value")


class NonFiniteError(ArithmeticError):
    """A loss, an observation or another quantity is NaN or infinite.

    Args:
        names: the offending quantities, the first one first.
        counters: where the run stood.
        path: the file for a rerun, None where it could not be written.
    """

    def __init__(
        self, names: Sequence[str], counters: Mapping[str, int], path: Path | None
    ) -> None:
        first, *others = names or ["a quantity"]
        also = f" (also {', '.join(others)})" if others else ""
        where = ", ".join(f"{name} {value}" for name, value in counters.items())
        saved = (
            f"the batch and the state for a rerun are in {path}"
            if path
            else "nothing could be saved for a rerun"
        )
        super().__init__(f"{first} is not finite{also} at {where}; {saved}")
        self.names = tuple(names)
        self.counters = dict(counters)
        self.path = path


def check_finite(quantities: Mapping[str, float | Tensor]) -> list[str]:
    """Names of those that are NaN or infinite, or hold such a value, in the order given."""
    return [name for name, value in quantities.items() if not _is_finite(value)]


def dump_nonfinite(
    folder: Path,
    *,
    batch: Mapping[str, Tensor],
    counters: Mapping[str, int],
    metrics: Mapping[str, float],
    state: Mapping[str, CheckpointTree],
) -> Path:
    """Save what is needed to do the failed update again, as folder/nonfinite_{updates}.safetensors.

    Where the counters have no "updates", the file is named by "frames".

    `hrl.run.checkpoints.read` reads it: its state has the keys batch, metrics and state, its
    metadata has counters. Names such as "loss/policy" are saved as "loss.policy": a slash separates
    levels there.

    Args:
        batch: what the update was computed from.
        counters: where the run stood; "updates" or "frames" must be there.
        metrics: what the update returned, non-finite values included.
        state: the agent (and its random generators) before the update, or as near to that as there
            is.

    Raises:
        ValueError: both are missing, or something cannot be saved.
        OSError: the file system refused.
    """
    stamp = counters.get("updates", counters.get("frames"))
    if stamp is None:
        raise ValueError(
            f"the counters need 'updates' or 'frames' to name the file; there are {', '.join(counters)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"nonfinite_{stamp}.safetensors"
    content: dict[str, CheckpointTree] = {
        "batch": _named(batch),
        "metrics": _named(metrics),
        "state": state,
    }
    write(path, counters.get("frames", 0), content, {"counters": dict(counters)})
    return path


def _is_finite(value: float | Tensor) -> bool:
    return bool(torch.isfinite(value).all()) if isinstance(value, Tensor) else math.isfinite(value)


def _named(values: Mapping[str, Value]) -> dict[str, Value]:
    return {name.replace("/", "."): value for name, value in values.items()}
