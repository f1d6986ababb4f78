#!/usr/bin/env python3
"""Measures speed on this machine; the last line is one JSON object.

scripts/benchmark.py env                    our environments beside dm_control pixels in SB3's SubprocVecEnv
scripts/benchmark.py learner [--agent=ppo]  our learner beside stable-baselines3's PPO, the same network and batch
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from hrl import benchmark_env, benchmark_learner
from hrl.command_line import options, positive, run_or_explain
from hrl.config import ConfigError


def main(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    known: dict[str, tuple[Callable[..., Any], dict[str, Callable[[str], Any]]]] = {
        "env": (benchmark_env.run, {"--num_envs": positive, "--seconds": float}),
        "learner": (benchmark_learner.run, {"--agent": str, "--peer": str, "--iterations": positive}),
    }
    name, *rest = arguments
    if name not in known:
        raise ConfigError(f"unknown benchmark {name!r}; choose from {', '.join(known)}")
    function, accepted = known[name]
    left, chosen = options(rest, accepted)
    if left:
        raise ConfigError(f"unexpected argument {left[0]!r}")
    result = function(**{key.lstrip("-"): value for key, value in chosen.items()})
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(run_or_explain(main, sys.argv[1:]))
