"""What the scripts share: arguments, and one line instead of a traceback where the user can mend
the cause.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from envs.external.worker_pool import ExternalEnvError
from hrl.config import ConfigError
from hrl.run.checkpoints import CheckpointError, CheckpointWriteError, ConfigMismatchError
from hrl.run.logger import LoggerError
from hrl.run.memory import MemoryEstimateError
from hrl.run.nan_dump import NonFiniteError
from hrl.run.train import Interrupted

EXPLAINED = (
    ConfigError,
    ConfigMismatchError,
    CheckpointError,
    CheckpointWriteError,
    MemoryEstimateError,
    NonFiniteError,
    OSError,
    ExternalEnvError,
    LoggerError,
    yaml.YAMLError,
)


def run_or_explain(main: Callable[[list[str]], None], arguments: Sequence[str]) -> int:
    """Runs a script's main; an error that its message explains exits with 2, a signal with 128 and
    its number.
    """
    try:
        main(list(arguments))
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code
    except KeyboardInterrupt:
        print("interrupted; what was saved before stands", file=sys.stderr)
        return 130
    except EXPLAINED as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(run folders, KEY=VALUE overrides)."""
    return [a for a in arguments if "=" not in a], [a for a in arguments if "=" in a]


def options(
    arguments: Sequence[str], known: dict[str, Callable[[str], Any]]
) -> tuple[list[str], dict[str, Any]]:
    """Takes `--name=value` out of the arguments: (the rest, values by name).

    Raises:
        ConfigError: an option that is not known, or a value of the wrong type.
    """
    rest, found = [], {}
    for argument in arguments:
        name, given, value = argument.partition("=")
        if not name.startswith("--"):
            rest.append(argument)
            continue
        if name not in known or not given:
            raise ConfigError(
                f"unknown option {argument}; the options are {', '.join(f'{key}=...' for key in known)}"
            )
        try:
            found[name] = known[name](value)
        except ValueError as error:
            raise ConfigError(f"{name} is {value!r}: {error}") from error
    return rest, found


def positive(text: str) -> int:
    """A whole number of at least 1. Raises ValueError for anything else."""
    number = int(text)
    if number < 1:
        raise ValueError("it must be at least 1")
    return number
