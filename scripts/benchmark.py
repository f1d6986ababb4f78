#!/usr/bin/env python3
"""Measures speed on this machine; the last line is one JSON object.

scripts/benchmark.py env                       our environments beside dm_control pixels in SB3's SubprocVecEnv
scripts/benchmark.py learner [--agent=ppo]     our on-policy learner beside stable-baselines3's, same network and batch
scripts/benchmark.py learner agent=director size=xs     milliseconds an update with a world model, and what they go to
scripts/benchmark.py update [size=xs]          the same of the flat and the hierarchical method, in turn, and their ratio
scripts/benchmark.py replay                    milliseconds to draw a batch, at three capacities
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from hrl.benchmarks import env as benchmark_env
from hrl.benchmarks import learner as benchmark_learner
from hrl.benchmarks import replay as benchmark_replay
from hrl.benchmarks import update as benchmark_update
from hrl.cli import options, positive, run_or_explain
from hrl.config import ConfigError

Known = dict[str, tuple[Callable[..., Any], dict[str, Callable[[str], Any]]]]


def main(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    known: Known = {
        "env": (benchmark_env.run, {"--num_envs": positive, "--seconds": float}),
        "learner": (
            benchmark_learner.run,
            {"--agent": str, "--peer": str, "--iterations": positive},
        ),
        "update": (benchmark_update.run, {"--updates": positive}),
        "replay": (
            benchmark_replay.run,
            {"--batch": positive, "--length": positive, "--rounds": positive},
        ),
    }
    name, *rest = arguments
    if name not in known:
        raise ConfigError(f"unknown benchmark {name!r}; choose from {', '.join(known)}")
    if name == "learner" and any(argument.startswith("agent=") for argument in rest):
        name = "update"
    function, accepted = known[name]
    left, chosen = options(rest, accepted)
    values = {key.lstrip("-"): value for key, value in chosen.items()}
    if name == "update":
        values["overrides"] = left
    elif left:
        raise ConfigError(f"unexpected argument {left[0]!r}")
    print(json.dumps(function(**values)))


if __name__ == "__main__":
    sys.exit(run_or_explain(main, sys.argv[1:]))
