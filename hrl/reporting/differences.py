"""Compare the resolved configurations: between methods, and between the runs of one method."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hrl.reporting.runs import Run, Runs, averaged_with

# Keys that tell runs of one study apart without changing what is studied. The suite is the same by
# construction.
IDENTITY_KEYS = frozenset({"seed", "method", "suite", "folder"})
# Each seed of a fine-tuned method starts from a run of its own.
SOURCE_KEYS = frozenset({"finetune.source", "finetune.source_sha256"})
ABSENT = "-"


@dataclass(frozen=True)
class Difference:
    """Hold a configuration key and its value in each method, as text.

    The value is `-` where a method has no such key.
    """

    key: str
    values: Mapping[str, str]

    @property
    def shared(self) -> bool:
        """Return whether every method has the key: it was changed, and not added."""
        return ABSENT not in self.values.values()


@dataclass(frozen=True)
class Disagreement:
    """Hold a configuration key that runs of one method do not agree on, with the value by seed.

    Runs of fine-tuning to another target are another method.
    """

    method: str
    key: str
    values: Mapping[int, str]


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return dotted keys of a nested mapping with their values as text.

    Lists and numbers are written as in JSON.
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = (
                value if isinstance(value, str) else json.dumps(value, default=str)
            )
    return flat


def config_differences(runs: Runs, methods: Iterable[str]) -> list[Difference]:
    """Return the keys whose values differ between the methods.

    Those that all methods have come first, then those of some methods only.
    """
    by_method = {method: _method_settings(runs.of(method)) for method in methods}
    keys = dict.fromkeys(key for settings in by_method.values() for key in settings)
    rows = [
        Difference(key, {method: by_method[method].get(key, ABSENT) for method in by_method})
        for key in keys
    ]
    differing = [row for row in rows if len(set(row.values.values())) > 1]
    return sorted(differing, key=lambda row: not row.shared)


def disagreements(runs: Runs) -> list[Disagreement]:
    """Return keys that runs which are averaged set differently, which makes them a mixture."""
    groups: dict[tuple[str, str], dict[int, dict[str, str]]] = {}
    for run in runs.everything:
        groups.setdefault(averaged_with(run), {})[run.seed] = _settings(run)
    found = []
    for (target, method), settings in groups.items():
        name = f"{method} fine-tuned to {target}" if target else method
        for key in dict.fromkeys(key for one in settings.values() for key in one):
            values = {seed: one.get(key, ABSENT) for seed, one in settings.items()}
            if len(set(values.values())) > 1:
                found.append(Disagreement(name, key, values))
    return found


def seeds_lacking(runs: Iterable[Run], methods: Iterable[str]) -> dict[str, list[int]]:
    """Return the seeds that some of the methods have and others lack, by the method that lacks."""
    seeds = {method: {run.seed for run in runs if run.method == method} for method in methods}
    every = set().union(*seeds.values())
    return {method: sorted(every - own) for method, own in seeds.items() if every - own}


def parameter_counts(runs: Runs, methods: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return part of the agent -> method -> number of trainable parameters, `total` first.

    Methods without a record are left out.
    """
    counts: dict[str, dict[str, int]] = {}
    for method in methods:
        recorded = runs.of(method)[0].environment.get("parameters")
        for part, count in recorded.items() if isinstance(recorded, Mapping) else ():
            counts.setdefault(str(part), {})[method] = int(count)
    return dict(sorted(counts.items(), key=lambda item: item[0] != "total"))


def _settings(run: Run) -> dict[str, str]:
    config = {"observation": "pixels", **run.config}  # left out where it is that
    flat = flattened({key: value for key, value in config.items() if key not in IDENTITY_KEYS})
    return {key: value for key, value in flat.items() if key not in SOURCE_KEYS}


def _method_settings(runs: list[Run]) -> dict[str, str]:
    """Return the settings of a method; where its runs disagree, all their values."""
    settings = [_settings(run) for run in runs]
    keys = dict.fromkeys(key for one in settings for key in one)
    return {
        key: " / ".join(dict.fromkeys(one.get(key, ABSENT) for one in settings)) for key in keys
    }
