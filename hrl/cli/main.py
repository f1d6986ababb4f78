"""Choose a subcommand, run it, and turn its errors into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence

import hrl
from hrl.cli.parser import CommandParser, UsageError

TRAINING = ("train", "finetune")
"""Commands that several processes of torchrun can run together."""
COMMANDS = {
    "train": "start or continue a training run",
    "finetune": "learn a novel task from a run's checkpoint, with chosen parts frozen",
    "evaluate": "play evaluation episodes of runs and write their scores",
    "study": "run a grid of runs: train, fine-tune, evaluate, report",
    "report": "write one HTML report on evaluated runs",
    "dashboard": "show runs while they are written, on a local page",
    "play": "record videos of a policy",
    "benchmark": "measure speed on this machine",
    "suites": "write a page and a contact sheet for each suite",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console command `pixel-hrl`.

    Args:
        arguments: of the command line, without the program's name; by default the process's own.

    Returns:
        The exit code: 0; 2 for an error that the user can mend; 128 and the signal's number.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if given[0] == "--version":
        print(f"pixel-hrl {hrl.__version__}")
        return 0
    if given[0] not in COMMANDS:
        print(
            f"error: unknown command {given[0]!r}; choose from {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    return run_command(given[0], given[1:])


def run_command(name: str, arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code, as `main` does.

    Args:
        name: a key of COMMANDS.
        arguments: after the subcommand's name; by default the process's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_or_explain(lambda: _run(name, given))


def run_or_explain(command: Callable[[], None]) -> int:
    """Run a command and return the exit code; an error that its message explains is one line."""
    try:
        command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted; what was saved before stands", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output, such as `head`, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        return _explain(error)
    return 0


def _run(name: str, given: list[str]) -> None:
    module = importlib.import_module(f"hrl.cli.{name}")
    parser: CommandParser = module.build_parser()
    options = parser.parse(given)
    if options is None:  # help was asked for, and printed
        return
    _refuse_torchrun(name)
    module.run(options, shlex.join(["pixel-hrl", name, *given]))


def _refuse_torchrun(name: str) -> None:
    """Refuse several processes for a command that one process does."""
    count = os.environ.get("WORLD_SIZE", "1") if "TORCHELASTIC_RUN_ID" in os.environ else "1"
    if count != "1" and name not in TRAINING:
        raise UsageError(
            f"torchrun started {count} processes; {name} is done by one: start pixel-hrl {name} "
            f"without torchrun, which is for {' and '.join(TRAINING)}"
        )


def _explain(error: Exception) -> int:
    """Print an error that its message explains, in one line; any other is raised again."""
    from hrl.cli.errors import EXPLAINED, Interrupted

    if isinstance(error, Interrupted):
        print(error, file=sys.stderr)
        return error.exit_code
    if isinstance(error, EXPLAINED):
        print(f"error: {error}", file=sys.stderr)
    elif _is_out_of_memory(error):
        print(f"error: not enough memory: {error}", file=sys.stderr)
    else:
        raise error
    return 2


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out: of a GPU, of NumPy, or of torch's allocator on a CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pixel-hrl COMMAND [KEY=VALUE ...] [--OPTION=VALUE ...]",
            "       pixel-hrl COMMAND --help",
            "       pixel-hrl --version",
            "",
            "KEY=VALUE says what a run is; options say what a command does with it.",
            "",
            "commands:",
            *lines,
        ]
    )
