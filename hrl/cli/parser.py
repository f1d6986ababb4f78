"""Parse the arguments of all subcommands, and define the types of their options."""

from __future__ import annotations

import argparse
import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from typing_extensions import override

# What may stand before the `=` of a Hydra override: a key, a group, a deletion or an addition.
_OVERRIDE = re.compile(r"(\+\+?|~)?[A-Za-z_][\w./@:-]*=")


class UsageError(ValueError):
    """Report a command line that cannot be understood, and say what is valid."""


class CommandParser(argparse.ArgumentParser):
    """Parse a subcommand's options, which may stand between its other arguments.

    Every subcommand takes `--help`, `--config-dir` and `--import`. Options have no abbreviations.

    Args:
        name: of the subcommand.
        description: one or more sentences.
        epilog: examples, shown as they stand.
    """

    def __init__(self, name: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"pixel-hrl {name}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this text and leave")
        self.add_argument(
            "--config-dir",
            action="append",
            type=_expanded,
            default=[],
            metavar="DIR",
            help="add suite/, experiment/, study/, size/, agent/ files of yours (may be repeated)",
        )
        self.add_argument(
            "--import",
            action="append",
            dest="modules",
            default=[],
            metavar="MODULE",
            help="import a module that registers agents or task families (may be repeated)",
        )
        # Hydra's own switch: refused by `parse`, with the command that runs several.
        self.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace | None:
        """Return the options, after the user's modules and folders were added.

        None where `--help` was given: the help has been printed.

        Raises:
            UsageError: an unknown option, a value that is not valid, a module that cannot be
                imported, or a configuration folder that cannot be added.
        """
        options = self.parse_intermixed_args(list(arguments))
        overrides = _overrides(options)
        if options.help and not overrides:
            print(self.format_help(), end="")
            return None
        self._check(overrides, options.multirun)
        extend(options.config_dir, options.modules)
        return options

    def _check(self, overrides: Sequence[str], multirun: bool) -> None:
        if not overrides and not multirun:
            return
        from hrl.overrides import OverrideError, check_overrides, refuse_multirun

        try:
            if multirun:
                refuse_multirun(overrides, self.prog)
            check_overrides(overrides, self.prog)
        except OverrideError as error:
            raise UsageError(str(error)) from error

    @override
    def error(self, message: str) -> NoReturn:
        """Raise instead of leaving: one line says what is wrong and which options there are."""
        shown = [action for action in self._actions if action.help is not argparse.SUPPRESS]
        known = [action.option_strings[-1] for action in shown if action.option_strings]
        raise UsageError(f"{message}; the options are {', '.join(known)} ({self.prog} --help)")


def _overrides(options: argparse.Namespace) -> list[str]:
    """Return the arguments that must be KEY=VALUE: all, for a command that takes nothing else."""
    if hasattr(options, "overrides"):
        return list(options.overrides)
    return split_targets(getattr(options, "targets", []))[1]


def extend(config_dirs: Sequence[Path], modules: Sequence[str]) -> None:
    """Add a user's configuration folders and modules to this process.

    Raises:
        UsageError: a folder or a module that cannot be added.
    """
    if not config_dirs and not modules:
        return
    from envs.extensions import import_modules
    from envs.resources import add_config_dir

    try:
        for folder in config_dirs:
            add_config_dir(folder)
        import_modules(modules)
    except ValueError as error:
        raise UsageError(str(error)) from error


def is_override(argument: str) -> bool:
    """Return whether an argument is KEY=VALUE, and not a path or a glob that exists."""
    if _OVERRIDE.match(argument) is None:
        return argument.startswith("~")
    return not Path(argument).exists() and not glob.glob(argument)


def split_targets(targets: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the run folders and the KEY=VALUE overrides among a command's arguments."""
    folders = [target for target in targets if not is_override(target)]
    overrides = [target for target in targets if is_override(target)]
    return folders, overrides


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    return _at_least(text, 1)


def positive_numbers(text: str) -> list[int]:
    """Read whole numbers of at least 1 that are separated by commas."""
    return [positive(number.strip()) for number in text.split(",")]


def not_negative(text: str) -> int:
    """Read a whole number of at least 0."""
    return _at_least(text, 0)


def image_size(text: str) -> int:
    """Read the side of an image: an even number of pixels, as videos need it."""
    number = _at_least(text, 16)
    if number % 2 or number > 1024:
        raise argparse.ArgumentTypeError(
            f"{text} is not valid: it must be even, and from 16 to 1024"
        )
    return number


def port_number(text: str) -> int:
    """Read the number of a port that anyone may open."""
    number = _at_least(text, 1024)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not valid: it must be at most 65535")
    return number


def folder_path(text: str) -> Path:
    """Read the path of a folder, which need not exist."""
    from hrl.run.errors import FolderError
    from hrl.run.folder import expanded, refuse_file

    path = expanded(text)
    try:
        refuse_file(path)
    except FolderError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


def _expanded(text: str) -> Path:
    from hrl.run.folder import expanded

    return expanded(text)


def positive_seconds(text: str) -> float:
    """Read a duration above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not valid: it must be above 0")
    return value


def names(text: str) -> list[str]:
    """Read names that are separated by commas, each once."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names such as train,far")
    return list(dict.fromkeys(found))


def _at_least(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"{text} is not valid: it must be at least {least}")
    return number
