#!/usr/bin/env python3
"""Evaluates runs on every split of their suite: greedy, fixed episodes, with the command- and
task-shuffle tests.

    scripts/evaluate.py runs/point_mass/skills/seed_0 runs/point_mass/ppo/seed_0
    scripts/evaluate.py RUN --episodes=10 --splits=train,interpolation --films=0 --device=cpu
    scripts/evaluate.py agent=random suite=point_mass        the floor: also agent=zero

Writes scores.csv (one row an episode), evaluation.json (how they were played) and, for hierarchies,
skill_usage.csv and a film per training task into each run folder, and prints mean returns. Shuffle
tests are played on the training tasks. With --splits the rows of those splits are replaced and the
others stay; where the others are of another checkpoint or protocol (--episodes=N is one), nothing
is played: evaluate every split instead.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from hrl.cli import options, positive, run_or_explain, split_arguments
from hrl.run.evaluate import evaluate_run, score_table
from hrl.run.load import load_run, load_scripted


def main(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    rest, chosen = options(
        arguments, {"--episodes": positive, "--splits": str, "--films": int, "--device": str}
    )
    folders, overrides = split_arguments(rest)
    runs = [
        (load_run(Path(folder), chosen.get("--device", "")), Path(folder)) for folder in folders
    ]
    if overrides:
        scripted = load_scripted(overrides)
        runs.append((scripted, Path(scripted.config.folder)))
    splits = chosen["--splits"].split(",") if "--splits" in chosen else None
    command = shlex.join(["scripts/evaluate.py", *arguments])
    for run, folder in runs:
        scores = evaluate_run(
            run, folder, command, chosen.get("--episodes"), splits, chosen.get("--films")
        )
        print(f"\n{folder}\n{score_table(scores)}")


if __name__ == "__main__":
    sys.exit(run_or_explain(main, sys.argv[1:]))
