"""Save what led to a quantity that is not finite, so that the update can be done again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from hrl.run.checkpoint_format import CheckpointTree, write
from hrl.run.folder import RunFolder

Value = TypeVar("Value")


def dump_nonfinite(
    folder: RunFolder,
    *,
    batch: Mapping[str, Tensor],
    counters: Mapping[str, int],
    metrics: Mapping[str, float],
    state: Mapping[str, CheckpointTree],
) -> Path:
    """Save what is needed to do the failed update again; return the file.

    The file is named by the counter "updates", or by "frames" where there is no such counter.
    `hrl.run.checkpoint_format.read` reads it: its state has the keys batch, metrics and state, its
    metadata has counters. Names such as "loss/policy" are saved as "loss.policy", because a slash
    separates levels there.

    Args:
        folder: of the run.
        batch: what the update was computed from.
        counters: where the run stood; "updates" or "frames" must be there.
        metrics: what the update returned, non-finite values included.
        state: the agent (and its random generators) before the update, or as near to that as there
            is.

    Raises:
        ValueError: both counters are missing, or something cannot be saved.
        OSError: the file system refused.
    """
    stamp = counters.get("updates", counters.get("frames"))
    if stamp is None:
        names = ", ".join(counters)
        raise ValueError(
            f"the counters need 'updates' or 'frames' to name the file; there are {names}"
        )
    path = folder.nonfinite(stamp)
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, CheckpointTree] = {
        "batch": _without_slashes(batch),
        "metrics": _without_slashes(metrics),
        "state": state,
    }
    write(path, counters.get("frames", 0), content, {"counters": dict(counters)})
    return path


def _without_slashes(values: Mapping[str, Value]) -> dict[str, Value]:
    return {name.replace("/", "."): value for name, value in values.items()}
