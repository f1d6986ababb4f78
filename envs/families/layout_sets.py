"""Read the stored sets of maze layouts, which `envs.families.layout_generator` has written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from envs.families.maze import Maze

FOLDER = Path(__file__).parent / "layouts"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@dataclass(frozen=True)
class LayoutSet:
    """Hold layouts by name; each has two rooms or more.

    Attributes:
        layouts: at least one.

    Raises:
        ValueError: there is none, or one has a single room; the message names it.
    """

    layouts: Mapping[str, Maze]

    def __post_init__(self) -> None:
        if not self.layouts:
            raise ValueError("a set must have at least one layout")
        for name, maze in self.layouts.items():
            if len(maze.rooms) < 2:
                raise ValueError(f"layout {name!r} must have two rooms or more")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names of the layouts, in order."""
        return tuple(self.layouts)

    def maze(self, number: int) -> Maze:
        """Return a layout by its number."""
        return self.layouts[self.names[number]]

    @cached_property
    def fullest(self) -> Maze:
        """Return the layout with the most walls."""
        return max(self.layouts.values(), key=lambda maze: len(maze.walls))

    @cached_property
    def width(self) -> int:
        """Return the width of the smallest square that every layout fits into, cells."""
        return max(max(maze.height, maze.width) for maze in self.layouts.values())

    @cached_property
    def longest_path(self) -> int:
        """Return the largest number of cells of a shortest path between rooms of a layout."""
        return max(maze.longest_path for maze in self.layouts.values())

    def check_fits(self, arena: int, where: str) -> None:
        """Check that every layout fits into a square arena.

        Args:
            arena: width, cells.
            where: the task, for the message.

        Raises:
            ValueError: one does not fit; the message names it.
        """
        for name, maze in self.layouts.items():
            if max(maze.height, maze.width) > arena:
                raise ValueError(
                    f"{where}: layout {name!r} of {maze.height} by {maze.width} cells does not fit "
                    f"the arena of {arena} by {arena} cells"
                )


@cache
def stored_set(name: str) -> LayoutSet:
    """Return a set of NAMES."""
    return read_layouts(FOLDER / f"{name}.json")


def read_layouts(path: Path) -> LayoutSet:
    """Read a set of layouts from a JSON file: {"layouts": {NAME: [ROW, ...], ...}, ...}.

    Raises:
        ValueError: it is no such file, or a layout cannot be solved or is no maze (see `Maze`); the
            message names file and layout.
        OSError: the file cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON ({error})") from error
    layouts = content.get("layouts") if isinstance(content, dict) else None
    if not isinstance(layouts, dict):
        raise ValueError(f"{path}: key 'layouts' must be a mapping of names to lists of rows")
    try:
        return LayoutSet({name: _maze(name, rows) for name, rows in layouts.items()})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _maze(name: str, rows: Any) -> Maze:
    if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
        raise ValueError(f"layout {name!r} must be a list of rows of text, got {rows!r}")
    try:
        return Maze(tuple(rows))
    except ValueError as error:
        raise ValueError(f"layout {name!r}: {error}") from error
