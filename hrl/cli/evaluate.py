"""`pixel-hrl evaluate`: play evaluation episodes of runs and write their scores."""

from __future__ import annotations

import argparse
import sys

from hrl.cli.parser import CommandParser, UsageError, names, not_negative, positive

DESCRIPTION = """Evaluate runs on every split of their suite: greedy actions, fixed episodes,
and the high-level-action and task shuffle tests on the training tasks.

Writes scores.csv (one row an episode), shuffled_scores.csv (of the shuffle tests), evaluation.json
(how they were played) and, for hierarchical agents, skill_usage.csv and videos into each run
folder, and prints mean returns."""
EXAMPLES = """examples:
  pixel-hrl evaluate runs/point_mass/skills/seed_0 runs/point_mass/ppo/seed_0
  pixel-hrl evaluate 'runs/point_mass/*' --episodes=50
  pixel-hrl evaluate RUN --episodes=10 --splits=train,interpolation --videos=0 --device=cpu
  pixel-hrl evaluate agent=random suite=point_mass     reference scores; also agent=zero

With --splits, the rows of those splits are replaced and the others stay. If the others are of
another checkpoint or were played with other settings, such as --episodes, nothing is played."""


def build_parser() -> CommandParser:
    """Return the parser of this subcommand."""
    parser = CommandParser("evaluate", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="RUN|KEY=VALUE",
        help="run folders, globs, folders of runs; or agent=random|zero with a suite",
    )
    parser.add_argument("--episodes", type=positive, metavar="N", help="episodes per task")
    parser.add_argument(
        "--splits", type=names, metavar="A,B", help="splits of the suite (default: all)"
    )
    parser.add_argument(
        "--videos",
        type=not_negative,
        metavar="N",
        help="training tasks to record a video of (default: all)",
    )
    parser.add_argument("--device", default="", help="where to act (default: as in training)")
    return parser


def run(options: argparse.Namespace, command: str) -> None:
    """Evaluate every run that the options name; `command` is kept with scripted runs."""
    from hrl.cli.errors import EXPLAINED
    from hrl.cli.runs import chosen_runs
    from hrl.run.evaluate import evaluate_run, score_table

    chosen = chosen_runs(options.targets, options.device)
    failed: list[str] = []
    for folder, load in chosen.items():
        try:
            scores = evaluate_run(
                load(), folder, command, options.episodes, options.splits, options.videos
            )
        except EXPLAINED as error:
            if len(chosen) == 1:
                raise
            print(f"{folder}: {error}", file=sys.stderr)
            failed.append(str(folder))
        else:
            print(f"\n{folder}\n{score_table(scores)}")
    if failed:
        raise UsageError(f"{len(failed)} of {len(chosen)} not evaluated: {', '.join(failed)}")
