"""Measure speed on this machine, as `pixel-hrl benchmark` does."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from hrl.cli.parser import (
    CommandParser,
    UsageError,
    names,
    positive,
    positive_numbers,
    positive_seconds,
    split_targets,
)

DESCRIPTION = """Measure speed on this machine; the last line is one JSON object.

  env        environments beside dm_control pixels in stable-baselines3's SubprocVecEnv; with
             device=cuda|cpu MuJoCo Warp's environments, over numbers of worlds
  learner    an on-policy learner beside stable-baselines3's PPO, same network and batch
  update     milliseconds of an update with a world model, flat and hierarchical in turn
  replay     milliseconds to draw a batch, at three capacities"""
EXAMPLES = """examples:
  pixel-hrl benchmark env --num-envs=64 --seconds=5
  pixel-hrl benchmark env device=cuda                   256 to 8,192 worlds of four suites
  pixel-hrl benchmark env device=cuda --suites=walker_speed --worlds=512,1024
  pixel-hrl benchmark learner agent=skills --iterations=5
  pixel-hrl benchmark update size=xs --updates=20
  pixel-hrl benchmark update agent=director size=xs    of this agent alone
  pixel-hrl benchmark update size=12m --peer=../r2dreamer    beside this checkout's agent
  pixel-hrl benchmark replay --batch=16 --length=65 --rounds=40"""
OPTIONS = {
    "env": ("num_envs", "seconds"),
    "env device=": ("suites", "worlds", "seconds"),
    "learner": ("peer", "iterations"),
    "update": ("updates", "peer"),
    "replay": ("batch", "length", "rounds"),
}
BENCHMARKS = ("env", "learner", "update", "replay")


def build_parser() -> CommandParser:
    """Return the parser of this subcommand."""
    parser = CommandParser("benchmark", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "targets", nargs="*", metavar="BENCHMARK [KEY=VALUE ...]", help=", ".join(BENCHMARKS)
    )
    parser.add_argument("--num-envs", type=positive, metavar="N", help="env: worlds")
    parser.add_argument(
        "--suites", type=names, metavar="A,B", help="env device=...: suites of one body"
    )
    parser.add_argument(
        "--worlds", type=positive_numbers, metavar="N,M", help="env device=...: numbers of worlds"
    )
    parser.add_argument(
        "--seconds", type=positive_seconds, metavar="S", help="env: length of a measurement"
    )
    parser.add_argument(
        "--peer",
        metavar="AGENT or PATH",
        help="learner: the agent that it is compared with; update: a checkout of r2dreamer",
    )
    parser.add_argument("--iterations", type=positive, metavar="N", help="learner: iterations")
    parser.add_argument("--updates", type=positive, metavar="N", help="update: timed updates")
    parser.add_argument("--batch", type=positive, metavar="N", help="replay: sequences")
    parser.add_argument("--length", type=positive, metavar="N", help="replay: steps of a sequence")
    parser.add_argument("--rounds", type=positive, metavar="N", help="replay: measurements")
    return parser


def run(options: argparse.Namespace, command: str) -> None:
    """Run the benchmark and print its result as JSON."""
    chosen, overrides = split_targets(options.targets)
    if len(chosen) != 1 or chosen[0] not in BENCHMARKS:
        given = " ".join(chosen) or "nothing"
        raise UsageError(f"give one benchmark, not {given!r}; choose from {', '.join(BENCHMARKS)}")
    name = "env device=" if chosen == ["env"] and overrides else chosen[0]
    print(json.dumps(_measure(name, overrides, _arguments(name, options))))


def _arguments(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that were given, by parameter of the benchmark's function.

    Raises:
        UsageError: an option of another benchmark.
    """
    every = {option for group in OPTIONS.values() for option in group}
    given = {key: getattr(options, key) for key in every if getattr(options, key) is not None}
    foreign = sorted(set(given) - set(OPTIONS[name]))
    if foreign:
        valid = ", ".join(_flag(option) for option in OPTIONS[name])
        raise UsageError(
            f"{_flag(foreign[0])} is not an option of benchmark {name}, which has {valid}"
        )
    return given


def _measure(name: str, overrides: Sequence[str], arguments: dict[str, Any]) -> object:
    """Run one benchmark; `update` takes any override, `env` the device's, `learner` the agent's."""
    from hrl.benchmarks import env, env_sweep, learner, replay, update

    if name == "env device=":
        return env_sweep.run(_device(overrides), **arguments)
    if name == "update":
        return update.run(overrides, **arguments)
    if name == "learner" and overrides:
        return learner.run(agent=_on_policy_agent(overrides), **arguments)
    if overrides:
        raise UsageError(f"benchmark {name} takes no {overrides[0]}")
    functions: dict[str, Callable[..., Any]] = {
        "env": env.run,
        "learner": learner.run,
        "replay": replay.run,
    }
    return functions[name](**arguments)


def _device(overrides: Sequence[str]) -> str:
    if len(overrides) > 1 or not overrides[0].startswith("device="):
        raise UsageError(f"benchmark env takes device=NAME alone, not {' '.join(overrides)}")
    return overrides[0].removeprefix("device=")


def _on_policy_agent(overrides: Sequence[str]) -> str:
    from hrl.config import load

    if len(overrides) > 1 or not overrides[0].startswith("agent="):
        raise UsageError(f"benchmark learner takes agent=NAME alone, not {' '.join(overrides)}")
    name = overrides[0].removeprefix("agent=")
    if not hasattr(load(overrides)[0].agent, "n_steps"):
        raise UsageError(
            f"agent {name} collects no rollouts; use: pixel-hrl benchmark update agent={name}"
        )
    return name


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
