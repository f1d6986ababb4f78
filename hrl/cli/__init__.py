"""Provide the command `pixel-hrl`, with a module for each subcommand; `scripts/` call it too.

Nothing here imports the simulator or torch before a command runs, so that `--help` is quick.
"""

from hrl.cli.main import COMMANDS, main, run_command

__all__ = ["COMMANDS", "main", "run_command"]
