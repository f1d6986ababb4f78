"""Save what led to a quantity that is not finite, so that it can be computed again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from hrl.data.nonfinite import Fed, NonFiniteQuantity
from hrl.run.checkpoint_format import CheckpointTree, write
from hrl.run.errors import NonFiniteError
from hrl.run.folder import RunFolder

Value = TypeVar("Value")


@contextmanager
def dump_on_nonfinite(
    folder: RunFolder,
    counters: Callable[[], Mapping[str, int]],
    state: Callable[[], Mapping[str, CheckpointTree]] = dict,
    rank: int = 0,
) -> Iterator[None]:
    """Save what led to a quantity that is not finite in this block, and say where.

    Args:
        folder: of the run.
        counters: returns where the run stands; "frames" must be there.
        state: returns what learns; by default nothing, where the policy file has what acts.
        rank: of this process among those that train the run.

    Raises:
        NonFiniteError: something in the block is not finite, or the simulation failed.
    """
    try:
        yield
    except FloatingPointError as error:
        found = error if isinstance(error, NonFiniteQuantity) else NonFiniteQuantity(str(error))
        stands = dict(counters()) | found.counters
        try:
            path = dump_nonfinite(
                folder,
                batch=found.batch,
                counters=stands,
                metrics=found.metrics,
                state=state(),
                rank=rank,
            )
        except OSError:  # the message about the numbers matters more than the file
            path = None
        raise NonFiniteError(str(error), stands, path) from error


def check_metrics(metrics: Mapping[str, float | int]) -> None:
    """Check that metrics are finite.

    Raises:
        NonFiniteQuantity: names those that are not.
    """
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        verb = "is" if len(bad) == 1 else "are"
        raise NonFiniteQuantity(f"{', '.join(bad)} {verb} not finite", metrics=metrics)


def dump_nonfinite(
    folder: RunFolder,
    *,
    batch: Fed,
    counters: Mapping[str, int],
    metrics: Mapping[str, float],
    state: Mapping[str, CheckpointTree],
    rank: int = 0,
) -> Path:
    """Save what is needed to compute a quantity again that was not finite; return the file.

    The file is named by the counter "updates", or by "frames" where there is no such counter.
    `hrl.run.checkpoint_format.read` reads it: its state has the keys batch, metrics and state, its
    metadata has counters. Names such as "loss/policy" are saved as "loss.policy", because a slash
    separates levels there.

    Args:
        folder: of the run.
        batch: what it was computed from.
        counters: where the run stood; "updates" or "frames" must be there.
        metrics: what was computed with it, non-finite values included.
        state: the agent before the update, or as near to that as there is.
        rank: of this process among those that train the run; it is in the file's name.

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
    path = folder.nonfinite(stamp, rank)
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
