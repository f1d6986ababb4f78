"""What differs between arms, and what differs between runs that should not: read from the resolved configurations."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hrl.reporting.runs import Run, Runs

# Keys that tell runs of one study apart without changing what is studied. The suite is the same by construction.
IDENTITY_KEYS = frozenset({"seed", "arm", "suite", "folder", "run", "run_dir", "run_folder", "output", "output_dir"})
ABSENT = "-"


@dataclass(frozen=True)
class Difference:
    """A configuration key and its value in each arm, as text; `-` where an arm has no such key."""

    key: str
    values: Mapping[str, str]

    @property
    def shared(self) -> bool:
        """Whether every arm has the key, so that it is a setting that was changed and not one that was added."""
        return ABSENT not in self.values.values()


@dataclass(frozen=True)
class Disagreement:
    """A configuration key that runs of one arm do not agree on, with the value by seed."""

    arm: str
    key: str
    values: Mapping[int, str]


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mapping -> dotted keys with their values as text; lists and numbers as JSON writes them."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def config_differences(runs: Runs, arms: Iterable[str]) -> list[Difference]:
    """Keys whose values differ between the arms: first those that all arms have, then those of some arms only."""
    by_arm = {arm: _arm_settings(runs.of(arm)) for arm in arms}
    keys = dict.fromkeys(key for settings in by_arm.values() for key in settings)
    rows = [Difference(key, {arm: by_arm[arm].get(key, ABSENT) for arm in by_arm}) for key in keys]
    differing = [row for row in rows if len(set(row.values.values())) > 1]
    return sorted(differing, key=lambda row: not row.shared)


def disagreements(runs: Runs) -> list[Disagreement]:
    """Keys that runs of the same arm set differently, which makes the arm a mixture."""
    found = []
    for arm in runs.arms:
        settings = {run.seed: _settings(run) for run in runs.of(arm)}
        for key in dict.fromkeys(key for one in settings.values() for key in one):
            values = {seed: one.get(key, ABSENT) for seed, one in settings.items()}
            if len(set(values.values())) > 1:
                found.append(Disagreement(arm, key, values))
    return found


def parameter_counts(runs: Runs, arms: Iterable[str]) -> dict[str, dict[str, int]]:
    """Part of the agent -> arm -> number of trainable parameters, `total` first; arms without a record are left out."""
    counts: dict[str, dict[str, int]] = {}
    for arm in arms:
        recorded = runs.of(arm)[0].environment.get("parameters")
        for part, count in recorded.items() if isinstance(recorded, Mapping) else ():
            counts.setdefault(str(part), {})[arm] = int(count)
    return dict(sorted(counts.items(), key=lambda item: item[0] != "total"))


def _settings(run: Run) -> dict[str, str]:
    return flattened({key: value for key, value in run.config.items() if key not in IDENTITY_KEYS})


def _arm_settings(runs: list[Run]) -> dict[str, str]:
    """The settings of an arm; where its runs disagree, all their values."""
    settings = [_settings(run) for run in runs]
    keys = dict.fromkeys(key for one in settings for key in one)
    return {key: " / ".join(dict.fromkeys(one.get(key, ABSENT) for one in settings)) for key in keys}
