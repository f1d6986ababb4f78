"""Write tables of configuration keys into the site, from the dataclasses that define them.

A page holds a line such as `<!-- keys of agent=ppo: agent -->`. On the built page a table stands
there: every key of that node with its default and meaning, as `pixel-hrl train agent=ppo --help`
prints them, so that the two cannot differ.
"""

from __future__ import annotations

import re
from typing import Any

from hrl.cli.config_keys import Key, list_keys
from hrl.config import MAX_SEED

_MARKER = re.compile(
    r"^<!-- keys of (?P<overrides>[^:]+):(?: (?P<node>[\w.]+))? -->$", re.MULTILINE
)
_LISTED: dict[str, list[Key]] = {}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with a table in place of each marker (called by MkDocs for every page)."""
    return _MARKER.sub(_table, markdown)


def _table(marker: re.Match[str]) -> str:
    """Return the table of one marker.

    Raises:
        ValueError: the node that the marker names has no keys.
    """
    node = marker["node"] or ""
    rows = [_row(key) for key in _keys(marker["overrides"]) if _is_child(key.path, node)]
    if not rows:
        raise ValueError(f"{marker[0]}: there is no key in {node!r}")
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _keys(overrides: str) -> list[Key]:
    if overrides not in _LISTED:
        _LISTED[overrides] = list_keys([*overrides.split(), "suite=point_mass"])
    return _LISTED[overrides]


def _is_child(path: str, node: str) -> bool:
    """Return whether a key is directly in a node, which is empty for the root."""
    return path.rpartition(".")[0] == node


def _row(key: Key) -> str:
    valid = key.info.range().replace(f" and at most {MAX_SEED:,}", "")
    meaning = key.info.help + (f" ({valid})" if valid else "")
    cells = (f"`{key.path}`", f"`{key.text()}`", meaning[:1].upper() + meaning[1:])
    return f"| {' | '.join(cells)} |"
