#!/usr/bin/env python3
"""Train the hierarchical and the flat method on `point_mass`, evaluate them and report.

`make demo` calls this. Random actions are evaluated beside them.

    scripts/demo.py [--frames=N] [--seeds=N] [--episodes=N] [--folder=runs/demo]

Interrupt it and run it again: it continues where it stopped. It writes FOLDER/report.html and
FOLDER/summary.json, whose wall_seconds are those of all its starts.
"""

from __future__ import annotations

import json
import shlex
import sys
from argparse import Namespace
from pathlib import Path

from hrl.cli.main import run_or_explain
from hrl.cli.parser import CommandParser, positive
from hrl.config import load
from hrl.reporting import load_runs, summarise, summary_table, write_report
from hrl.run.atomic_files import write_json
from hrl.run.evaluate import evaluate_run
from hrl.run.load import load_run, load_scripted
from hrl.run.stopwatch import Stopwatch
from hrl.run.train import train

METHODS = ("skills", "ppo")


def main() -> None:
    """Run the demonstration."""
    options = build_parser().parse(sys.argv[1:])
    if options is None:
        return
    command = shlex.join(["scripts/demo.py", *sys.argv[1:]])
    with Stopwatch(options.folder / "wall_seconds.json") as watch:
        report(options, command, watch)


def build_parser() -> CommandParser:
    """Return the parser of this script."""
    parser = CommandParser("demo", "Train both methods small, evaluate and report.")
    parser.prog = "scripts/demo.py"
    parser.add_argument("--frames", type=positive, metavar="N", help="control steps of each run")
    parser.add_argument(
        "--seeds", type=positive, default=1, metavar="N", help="runs of each method"
    )
    parser.add_argument(
        "--episodes", type=positive, metavar="N", help="evaluation episodes per task"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"), metavar="DIR")
    return parser


def report(options: Namespace, command: str, watch: Stopwatch) -> None:
    """Train and evaluate what is still to be done, and write the report."""
    folder = options.folder
    runs = [
        train_and_score(method, seed, options, command)
        for seed in range(options.seeds)
        for method in METHODS
    ]
    runs.append(score_random(options, command))
    collected = load_runs(runs)
    page = write_report(collected, folder, command)
    summary = summarise(collected) | {"wall_seconds": round(watch.seconds, 1), "command": command}
    write_json(folder / "summary.json", summary)
    seconds = json.dumps({"wall_seconds": summary["wall_seconds"]})
    print(f"\n{summary_table(summary)}\n\n{seconds}\nreport: {page}")


def train_and_score(method: str, seed: int, options: Namespace, command: str) -> Path:
    """Train and evaluate one run of one method; return its folder."""
    run: Path = options.folder / method / f"seed_{seed}"
    frames = [f"frames={options.frames}"] if options.frames else []
    overrides = [
        f"agent={method}",
        "suite=point_mass",
        "experiment=demo",
        f"seed={seed}",
        f"folder={run}",
        *frames,
    ]
    print(f"\n=== {method}, seed {seed}: pixel-hrl train {shlex.join(overrides)}", flush=True)
    train(load(overrides), command)
    print(f"=== evaluating {run} on every split", flush=True)
    evaluate_run(load_run(run), run, command, options.episodes)
    return run


def score_random(options: Namespace, command: str) -> Path:
    """Evaluate random actions on the same episodes; return their folder."""
    run: Path = options.folder / "random"
    print("\n=== random actions on every split", flush=True)
    scripted = load_scripted(
        ["agent=random", "suite=point_mass", "experiment=demo", f"folder={run}"]
    )
    evaluate_run(scripted, run, command, options.episodes, videos=0)
    return run


if __name__ == "__main__":
    sys.exit(run_or_explain(main))
