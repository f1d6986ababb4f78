"""Start or continue a training run, as `pixel-hrl train` does."""

from __future__ import annotations

import argparse
import shlex

from hrl.cli.parser import CommandParser

EXAMPLES = """examples:
  pixel-hrl train agent=skills suite=point_mass
  pixel-hrl train agent=ppo suite=walker_speed frames=5_000_000 seed=1 tracking.wandb=online
  pixel-hrl train agent=skills size=debug            the whole program in seconds
  pixel-hrl train agent=skills --help                every key, its meaning, value and range

The same command on the same folder continues the run exactly."""


def build_parser() -> CommandParser:
    """Return the parser of this subcommand."""
    parser = CommandParser("train", "Start or continue a training run.", EXAMPLES)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="what differs from the defaults of a run"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the whole configuration and leave"
    )
    return parser


def run(options: argparse.Namespace, command: str) -> None:
    """Train as the options say; `command` is kept with the run."""
    if options.help:
        from hrl.cli.config_keys import describe_keys

        print(describe_keys(options.overrides))
        return
    from hrl.config import load

    composed = load(options.overrides)
    if options.print_config:
        import yaml

        print(yaml.safe_dump(composed.plain, sort_keys=False))
        return
    from hrl.run.distributed import is_first_process
    from hrl.run.train import train

    folder = train(composed, command)
    if is_first_process():
        print(f"run folder: {shlex.quote(str(folder))}")
