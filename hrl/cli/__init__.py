"""The console command `pixel-hrl`: one module a subcommand, which `scripts/` call too.

Nothing here imports the simulator or torch before a command runs, so that `--help` is quick.
"""

from hrl.cli.main import COMMANDS, main, run_command

__all__ = ["COMMANDS", "main", "run_command"]
