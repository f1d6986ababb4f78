"""Play evaluation episodes of runs and write their scores, as `pixel-hrl evaluate` does."""

from __future__ import annotations

import argparse

from hrl.cli.parser import CommandParser, names, not_negative, positive

DESCRIPTION = """Evaluate runs on every split of their suite: greedy actions, fixed episodes,
and the high-level-action and task shuffle tests on the training tasks.

Writes scores.csv (one row an episode), shuffled_scores.csv (of the shuffle tests), evaluation.json
(how they were played) and, for hierarchical agents, skill_usage.csv and videos into each run
folder, and prints mean returns."""
EXAMPLES = """examples:
  pixel-hrl evaluate runs/point_mass/skills/seed_0 runs/point_mass/ppo/seed_0
  pixel-hrl evaluate 'runs/point_mass/*' --episodes=50
  pixel-hrl evaluate RUN --episodes=5 --splits=train,interpolation --videos=0 --device=cpu
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
        help="run folders, globs of them or folders that hold them; or agent=random|zero with a "
        "suite",
    )
    parser.add_argument(
        "--episodes",
        type=positive,
        metavar="N",
        help="episodes per task (default: evaluation.final_episodes of the run, which is 10; "
        "50 for tables of results)",
    )
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
    from hrl.cli.runs import chosen_runs
    from hrl.run.evaluate import evaluate_all

    loaders = chosen_runs(options.targets, options.device)
    evaluate_all(loaders, command, options.episodes, options.splits, options.videos)
