"""Find in the last lines of a run's logs what has to be looked at: failures, and signs of collapse.

The signs of a hierarchy on a world model are those of its known failures: a worker that does not
learn or ignores its goals, goals that are trivial, all alike, out of reach or drifting, a bonus
that dies or drowns the task, values beyond what rewards allow. Each compares the median over the
last lines with a bound, beyond what `docs/methods/ppo.md` and the runs in `results/` show of runs
that learned.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, TypeAlias

from hrl.dashboard.followed import Tail, number

Level: TypeAlias = Literal["error", "warning"]
LINES = 20
"""Last lines that a sign is looked for in, and the fewest that a run must have."""
WARM_UP = 0.1
"""Share of the budget before which no sign of collapse counts."""


@dataclass(frozen=True)
class Alert:
    """Hold one thing that has to be looked at."""

    level: Level
    name: str
    message: str


@dataclass(frozen=True)
class Sign:
    """Describe a sign of collapse.

    keys: metrics that the test takes, as medians over the last lines, in their order.
    test: returns whether they show it.  message: what it means, with {} for each median.
    """

    name: str
    keys: tuple[str, ...]
    test: Callable[..., bool]
    message: str


SIGNS = (
    Sign(
        "critic does not learn",
        ("value/explained_variance",),
        lambda explained: explained < 0.1,
        "explained variance of the critic stays at {:.2f}",
    ),
    Sign(
        "manager's critic does not learn",
        ("manager/explained_variance",),
        lambda explained: explained < 0.1,
        "explained variance of the manager's critic stays at {:.2f}",
    ),
    Sign(
        "steps too large",
        ("policy/kl",),
        lambda kl: kl > 0.2,
        "each update moves the policy by {:.2f} nats",
    ),
    Sign(
        "manager's steps too large",
        ("manager/kl",),
        lambda kl: kl > 0.2,
        "each update moves the manager by {:.2f} nats",
    ),
    Sign(
        "worker does not come nearer to goals",
        ("goal/max_cosine_first", "goal/max_cosine_last"),
        lambda first, last: last - first < 0.01 and first < 0.9,
        "max_cosine to the goal is {:.2f} at a segment's start and {:.2f} at its end",
    ),
    Sign(
        "trivial goals",
        ("goal/max_cosine_first", "goal/max_cosine_last"),
        lambda first, last: first >= 0.9 and last - first < 0.05,
        "goals are reached before a segment starts: max_cosine {:.2f}, at its end {:.2f}",
    ),
    Sign(
        "worker ignores goals",
        ("goal/swap_divergence",),
        lambda divergence: divergence < 0.01,
        "another state's goal changes the worker's policy by {:.4f} nats",
    ),
    Sign(
        "goals collapse",
        ("manager/codes_perplexity",),
        lambda perplexity: perplexity < 1.5,
        "the manager uses {:.1f} classes of each part of a code",
    ),
    Sign(
        "goals all alike",
        ("manager/codes_distinct",),
        lambda distinct: distinct < 0.05,
        "{:.3f} of a batch's codes are different ones",
    ),
    Sign(
        "goals out of reach",
        ("goal/distance_over_displacement",),
        lambda distance: distance > 10,
        "goals are {:.0f} times as far as the state moves in a segment",
    ),
    Sign(
        "goals drift",
        ("goal_autoencoder/drift",),
        lambda drift: drift > 0.5,
        "goals of fixed codes moved by {:.2f} of their distance from each other",
    ),
    Sign(
        "bonus dies",
        ("manager/exploration/return_spread",),
        lambda spread: spread < 1e-4,
        "returns of the exploration bonus differ by {:.0e} only",
    ),
    Sign(
        "bonus drowns the task",
        ("manager/exploration/advantage", "manager/task/advantage", "manager/task/return_spread"),
        lambda bonus, task, spread: spread > 0.01 and task < 0.02 * (bonus + task),
        "of the manager's advantages {:.2f} is the bonus's and {:.4f} the task's, though returns "
        "of the task spread by {:.2f}",
    ),
    *(
        Sign(
            "actions saturate",
            (f"{level}/saturated",),
            lambda share: share > 0.9,
            f"{{:.2f}} of the {level}'s actions lie at their limits",
        )
        for level in ("worker", "policy")
    ),
)


def alerts_of(
    metrics: Tail,
    config: Mapping[str, Any],
    state: str,
    frames: int,
    nonfinite: bool,
    updated: float,
) -> Iterator[Alert]:
    """Yield what has to be looked at in a run.

    Args:
        metrics: the last lines of its metrics.
        config: its configuration.
        state: as `RunStatus` has it.
        frames: control steps done.
        nonfinite: whether it kept a file of what was not finite.
        updated: when its logs were last written, in seconds since the epoch.
    """
    if nonfinite:
        yield Alert("error", "not finite", "a number was not finite; what led to it was kept")
    minutes = (time.time() - updated) / 60
    if state == "stalled":
        yield Alert("error", "stalled", f"running, but silent for {minutes:.0f} minutes")
    if state == "failed":
        yield Alert("error", "failed", f"its process ended with an error at {frames:,} frames")
    if state == "stopped":
        yield Alert("warning", "stopped", f"no process writes it, at {frames:,} frames")
    if metrics.values("env/worker_deaths") and max(metrics.values("env/worker_deaths")) > 0:
        yield Alert(
            "warning", "workers die", "environments' worker processes died and were replaced"
        )
    budget = number(config.get("frames"))
    warm = budget is not None and frames >= WARM_UP * budget
    if warm and len(metrics.records) >= LINES:
        yield from _signs(metrics)
        yield from _value_runaway(metrics, config)
        yield from _one_skill(metrics)


# Private functions.


def _signs(metrics: Tail) -> Iterator[Alert]:
    for sign in SIGNS:
        medians = [_median(metrics, key) for key in sign.keys]
        known = [value for value in medians if value is not None]
        if len(known) == len(medians) and sign.test(*known):
            yield Alert("warning", sign.name, sign.message.format(*known))


def _median(metrics: Tail, key: str) -> float | None:
    values = metrics.values(key)[-LINES:]
    return median(values) if values else None


def _value_runaway(metrics: Tail, config: Mapping[str, Any]) -> Iterator[Alert]:
    """Compare values of the task with the suite's reference return, the most that is to be had."""
    suite = config.get("suite")
    reference = number(suite.get("reference_return")) if isinstance(suite, Mapping) else None
    if reference is None:
        return
    for key in sorted(metrics.names()):
        value = (
            _median(metrics, key) if key.endswith(("task/value_most", "task/value_least")) else 0
        )
        if value and abs(value) > 1.5 * abs(reference):
            message = f"{key} is {value:.0f}, and no return is above {reference:.0f}"
            yield Alert("warning", "values run away", message)


def _one_skill(metrics: Tail) -> Iterator[Alert]:
    """Warn where one skill of several has nearly all of the load."""
    keys = sorted(key for key in metrics.names() if key.startswith("skills/load/"))
    medians = {key.rpartition("/")[2]: _median(metrics, key) for key in keys}
    loads = {skill: load for skill, load in medians.items() if load is not None}
    total = sum(loads.values())
    if len(loads) > 1 and total > 0:
        skill, load = max(loads.items(), key=lambda item: item[1])
        if load > 0.9 * total:
            message = f"skill {skill} has {load / total:.2f} of the load of {len(loads)} skills"
            yield Alert("warning", "skills collapse", message)
