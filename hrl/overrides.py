"""Check KEY=VALUE arguments before Hydra composes them, and advise how to write them."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException


class OverrideError(ValueError):
    """Report an argument that is not one KEY=VALUE of one run, and say how to write it."""


def check_overrides(overrides: Sequence[str], command: str = "pixel-hrl train") -> None:
    """Check that the arguments describe exactly one run.

    Args:
        overrides: KEY=VALUE arguments of a command line.
        command: what they were given to, for the advice in messages.

    Raises:
        OverrideError: an argument that cannot be parsed, that asks for several runs, or that sets
            something of Hydra itself.
    """
    parsed = [parse_override(override) for override in overrides]
    for override in parsed:
        _refuse_hydra_key(override)
    if any(override.is_sweep_override() for override in parsed):
        raise OverrideError(_several_runs(parsed, command))


def parse_override(text: str) -> Override:
    """Parse one KEY=VALUE argument.

    Raises:
        OverrideError: it cannot be parsed; the message has the quoting that works, if any.
    """
    try:
        parsed = OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise OverrideError(f"cannot read {text!r}: {_advice(text) or reason}") from error
    if not parsed.key_or_group:
        raise OverrideError(f"cannot read {text!r}: it has no key; give KEY=VALUE")
    return parsed


def quoted(text: str) -> str:
    """Return KEY=VALUE with the value in quotes, as Hydra reads any text, for a shell."""
    return shlex.quote(with_quotes(text))


def with_quotes(text: str) -> str:
    """Return KEY=VALUE with the value in quotes, as Hydra reads any text."""
    key, _, value = text.partition("=")
    # A backslash is special to Hydra only in front of a quotation mark.
    escaped = re.sub(r'(\\*)(")', r"\1\1\\\2", value)
    escaped += "\\" * (len(value) - len(value.rstrip("\\")))
    return f'{key}="{escaped}"'


def as_text(text: str) -> str:
    """Return KEY=VALUE so that the value is read as text, also where it looks like a number."""
    is_text = _can_be_read(text) and isinstance(parse_override(text).value(), str)
    return text if is_text else with_quotes(text)


def refuse_multirun(overrides: Sequence[str], command: str) -> None:
    """Refuse Hydra's switch for several runs; the message has the command that runs them.

    Raises:
        OverrideError: always.
    """
    parsed = [parse_override(override) for override in overrides]
    raise OverrideError(f"--multirun is not supported: {_several_runs(parsed, command)}")


def _advice(text: str) -> str:
    """Return how to write an argument that cannot be parsed; empty where quotes do not help."""
    if "=" not in text:
        return "give KEY=VALUE"
    advised = {
        "quote each text of the list": _with_quoted_elements(text),
        "quote the value": with_quotes(text),
    }
    for advice, written in advised.items():
        if written and _can_be_read(written):
            return f"{advice}: {shlex.quote(written)}"
    return ""


def _with_quoted_elements(text: str) -> str:
    """Return KEY=[A,B] with its elements in quotes; empty where the value is no such list."""
    key, _, value = text.partition("=")
    value = value.strip()
    if not (value.startswith("[") and value.endswith("]")):
        return ""
    elements = [element.strip().strip("\"'") for element in _split_at_commas(value[1:-1])]
    return f"{key}=[{','.join(with_quotes(f'={element}')[1:] for element in elements)}]"


def _split_at_commas(text: str) -> list[str]:
    """Return the parts between commas that stand outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _can_be_read(text: str) -> bool:
    try:
        OverridesParser.create().parse_override(text)
    except HydraException:
        return False
    return True


def _refuse_hydra_key(override: Override) -> None:
    if override.key_or_group.replace("/", ".").split(".")[0] == "hydra":
        raise OverrideError(
            f"{override.input_line}: settings of Hydra itself are not supported; the folder of a "
            "run is folder=DIR, and files of your own are added with --config-dir=DIR"
        )


def _several_runs(parsed: Sequence[Override], command: str) -> str:
    """Return the advice, with a shell loop, for arguments that ask for several runs."""
    sweeps = [override for override in parsed if override.is_sweep_override()]
    if not sweeps:
        loop = _loop(["seed"], [["0", "1"]], command, parsed)
        return f"one command is one run; start several with: {loop}"
    first = sweeps[0].input_line or ""
    if not all(map(_has_known_values, sweeps)):
        return f"{first} asks for several runs; one command is one run"
    keys = [str(override.get_key_element()) for override in sweeps]
    values = [list(override.sweep_string_iterator()) for override in sweeps]
    fixed = [override for override in parsed if override not in sweeps]
    as_text = f" (a folder with this name: {quoted(first)})" if keys[0] == "folder" else ""
    loop = _loop(keys, values, command, fixed)
    return f"{first} asks for several runs; start them one by one: {loop}{as_text}"


def _has_known_values(sweep: Override) -> bool:
    """Return whether the values of a sweep can be listed: not those of an interval or a glob."""
    return sweep.is_discrete_sweep() and not isinstance(sweep.value(), Glob)


def _loop(
    keys: Sequence[str], values: Sequence[Sequence[str]], command: str, fixed: Sequence[Override]
) -> str:
    """Return a shell command that runs every combination."""
    names = [key.replace(".", "_").replace("/", "_").lstrip("+~") for key in keys]
    heads = [
        f"for {name} in {' '.join(map(shlex.quote, options))}; do"
        for name, options in zip(names, values, strict=True)
    ]
    given = [shlex.quote(override.input_line or "") for override in fixed]
    varied = [f"{key}=${name}" for key, name in zip(keys, names, strict=True)]
    ends = itertools.repeat("done", len(heads))
    return " ".join([*heads, command, *given, *varied]) + "; " + "; ".join(ends)
