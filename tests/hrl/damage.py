"""Damage nested data in every place, as files of strangers or of broken disks are."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

ODD = (None, 1, -1.5, "", "x", [], [1], [None], {}, {"a": 1}, True, 10**400)


def damaged(data: Any, values: Sequence[Any] = ODD) -> Iterator[tuple[str, Any]]:
    """Yield copies of plain data with one place changed, and the place.

    Every key gets each of the values; of a list, the first entry does.
    """
    for path in _paths(data):
        for odd in values:
            changed = copy.deepcopy(data)
            node: Any = changed
            for key in path[:-1]:
                node = node[key]
            if path:
                node[path[-1]] = odd
            yield f"{path} {str(odd)[:20]}", changed if path else odd


def _paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = node if isinstance(node, dict) else range(len(node[:1]) if _is_list(node) else 0)
    for key in children:
        yield from _paths(node[key], (*path, key))


def _is_list(node: Any) -> bool:
    return isinstance(node, list)
