"""Decide how often a run is evaluated and saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hrl.config import ComposedConfig

TIMES = 10
"""Evaluations, and at least as many checkpoints, of a run whose configuration does not say."""
LARGEST_CHECKPOINT_INTERVAL = 200_000  # control steps


def with_schedule(given: ComposedConfig, saved: Mapping[str, Any] | None) -> ComposedConfig:
    """Return the configuration with numbers where the schedule was left to the program.

    `evaluation.every` becomes a tenth of the budget, `checkpoint_every` the same or 200,000 control
    steps, whichever is less. A run that is continued keeps the numbers that it was started with,
    also where its budget is raised.

    Args:
        given: what the user asked for.
        saved: the plain configuration of the run that is continued; None for a new run.
    """
    config = given.config
    tenth = max(1, config.frames // TIMES)
    before = saved or {}
    checkpoint_every = _first(
        config.checkpoint_every,
        before.get("checkpoint_every"),
        min(LARGEST_CHECKPOINT_INTERVAL, tenth),
    )
    evaluated = before.get("evaluation")
    saved_every = evaluated.get("every") if isinstance(evaluated, dict) else None
    every = _first(config.evaluation.every, saved_every, tenth)
    evaluation = replace(config.evaluation, every=every)
    plain = {
        **given.plain,
        "checkpoint_every": checkpoint_every,
        "evaluation": {**given.plain["evaluation"], "every": every},
    }
    resolved = replace(config, checkpoint_every=checkpoint_every, evaluation=evaluation)
    return ComposedConfig(resolved, plain)


def crossed(every: int | None, before: int, after: int) -> bool:
    """Return whether a multiple of `every` lies between two counts; never for 0 or None."""
    return every is not None and every > 0 and after // every > before // every


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
