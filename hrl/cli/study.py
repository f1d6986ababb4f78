"""Run a grid of training, fine-tuning and evaluation runs, as `pixel-hrl study` does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hrl.cli.parser import CommandParser, UsageError, names, positive

DESCRIPTION = """Train the methods of an experiment over suites and seeds, fine-tune, evaluate, and
write a report. The plan and its cost come first. The same command continues what was stopped,
repeats nothing that is finished, and tries again what failed.

  experiment=NAME   a file of configs/study, or of study/ in a folder added by --config-dir
  executor=NAME     where cells run: local (default), slurm or ray
  KEY=VALUE         any key of the experiment, such as frames=100_000 or slurm.partition=gpu"""
EXAMPLES = """examples:
  pixel-hrl study experiment=quick --dry-run         the plan and what it costs
  pixel-hrl study experiment=quick                   from nothing to runs/quick/report
  pixel-hrl study experiment=quick --status          how far each run is
  pixel-hrl study experiment=maze --seeds=1 --only='train*skills*'
  pixel-hrl study experiment=locomotion executor=slurm slurm.partition=gpu resources.gpus=1"""


def build_parser() -> CommandParser:
    """Return the parser of this subcommand."""
    parser = CommandParser("study", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="see above; experiment is needed"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the plan and its cost, and leave"
    )
    parser.add_argument(
        "--status", action="store_true", help="show how far every cell is, and leave"
    )
    parser.add_argument(
        "--only",
        type=names,
        default=[],
        metavar="A,B",
        help="cells whose names hold one of these, and what they need; with a *, which stands for "
        "anything, names that begin so",
    )
    parser.add_argument(
        "--seeds", type=positive, metavar="N", help="number of seeds (default: the experiment's)"
    )
    return parser


def run(options: argparse.Namespace, command: str) -> None:
    """Run the study that the options name; `command` is kept with its reports."""
    if options.help:
        print(build_parser().format_help(), end="")
        return
    name, overrides = split_experiment(options.overrides)

    from hrl.study.config import load_study, with_seeds
    from hrl.study.run import plan_study, prepare_executor, run_study, show_plan, show_status

    study = load_study(name, overrides)
    if options.seeds:
        study = with_seeds(study, options.seeds)
    flags = [f"--config-dir={folder.resolve()}" for folder in options.config_dir]
    flags += [f"--import={module}" for module in options.modules]
    plan = plan_study(study, options.only, flags)
    if options.status:
        show_status(plan)
        return
    # A study for a cluster may be planned on a machine that does not belong to it.
    if options.dry_run and study.executor != "local":
        show_plan(plan, None, flags)
        return
    executor = prepare_executor(plan)
    show_plan(plan, executor.slots, flags)
    if options.dry_run:
        return
    for page in run_study(plan, executor, command):
        print(f"report: {page}")


def split_experiment(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the name of the experiment and the other KEY=VALUE arguments.

    Raises:
        UsageError: no experiment, or several.
    """
    named = [text.partition("=")[2] for text in arguments if text.startswith("experiment=")]
    others = [text for text in arguments if not text.startswith("experiment=")]
    if len(named) != 1:
        raise UsageError("give one experiment=NAME (pixel-hrl study --help)")
    return named[0], others
