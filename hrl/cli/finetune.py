"""Start or continue a fine-tuning run, as `pixel-hrl finetune` does."""

from __future__ import annotations

import argparse
import shlex

from hrl.cli.parser import CommandParser

DESCRIPTION = """Learn a novel task from the newest checkpoint of a run, with chosen parts frozen.

  from=RUN          folder of a run of ppo, skills, dreamer, director or an agent of your own
  task=NAME         a task of the suite, or a split for all its tasks
  suite=NAME        another suite with the same observations and actions (default: the run's)
  parts=PRESET      what learns: all (also called full), heads, manager, manager_value, low_level,
                    low_level_value, policy (of flat agents), scratch (default: all)
  parts.PART=STATE  trainable, frozen or reinitialised, where a part differs from the preset
  KEY=VALUE         any key of a run but the sizes of its networks (default: the run's own, and
                    frames=100_000)

The rest of the configuration is the run's. Optimiser state and replay begin anew. At the end the
run's training tasks are played with the policies before and after, into forgetting.csv."""
EXAMPLES = """examples:
  pixel-hrl finetune from=runs/point_mass/skills/seed_0 task=south_far parts=manager_value
  pixel-hrl finetune from=RUN task=extrapolation_far parts=scratch frames=50_000
  pixel-hrl finetune from=RUN suite=maze_many_point_progress task=train parts=manager_value

The same command on the same folder continues the run exactly."""


def build_parser() -> CommandParser:
    """Return the parser of this subcommand."""
    parser = CommandParser("finetune", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="see above; from and task are needed"
    )
    return parser


def run(options: argparse.Namespace, command: str) -> None:
    """Fine-tune as the options say; `command` is kept with the run."""
    if options.help:
        print(build_parser().format_help(), end="")
        return
    from hrl.run.distributed import is_first_process
    from hrl.run.finetune import finetune, read_request

    folder = finetune(read_request(options.overrides), command)
    if is_first_process():
        print(f"run folder: {shlex.quote(str(folder))}")
