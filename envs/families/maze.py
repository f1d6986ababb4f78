"""Define mazes as text: layouts, cells, walls and shortest paths.

A row of text is a row of cells, the first one in the north: `#` is a wall, every other character a
free cell. Capital letters name places: `S` is the usual start and `G` the usual goal.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

Cell = tuple[int, int]

WALL = "#"
FREE = "."
PLACES = ("S", "G", "A", "B", "C", "D")


@dataclass(frozen=True)
class Maze:
    """Define one layout, centred on the origin; cells are (row, column) from the north-west.

    Attributes:
        rows: the layout's text, row by row.

    Raises:
        ValueError: rows have different lengths, a character is unknown, a place occurs twice, the
            outer wall has a gap, no cell is free, or a free cell cannot be reached from the first.
    """

    rows: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.rows or len({len(row) for row in self.rows}) != 1:
            raise ValueError(f"a maze's rows must be equally long, got {list(self.rows)}")
        text = "".join(self.rows)
        unknown = sorted(set(text) - {WALL, FREE, *PLACES})
        if unknown:
            raise ValueError(
                f"unknown character {unknown[0]!r} in a maze; "
                f"valid are {WALL} {FREE} {' '.join(PLACES)}"
            )
        twice = [place for place in PLACES if text.count(place) > 1]
        if twice:
            raise ValueError(f"place {twice[0]!r} must be in a maze at most once")
        self._check_paths()

    def _check_paths(self) -> None:
        outer = [
            *self.rows[0],
            *self.rows[-1],
            *(end for row in self.rows for end in (row[0], row[-1])),
        ]
        if set(outer) != {WALL}:
            raise ValueError(f"a maze must be surrounded by walls, got {list(self.rows)}")
        if not self.free:
            raise ValueError(f"a maze must have a free cell, got {list(self.rows)}")
        reached = self.distances(self.free[0])
        unreachable = [cell for cell in self.free if cell not in reached]
        if unreachable:
            raise ValueError(
                f"cell {unreachable[0]} of maze {list(self.rows)} cannot be reached from "
                f"{self.free[0]}"
            )

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return len(self.rows[0])

    @cached_property
    def places(self) -> Mapping[str, Cell]:
        """Return the cells that have a letter, by letter."""
        found = ((self.rows[row][column], (row, column)) for row, column in self._cells())
        return MappingProxyType({mark: cell for mark, cell in found if mark in PLACES})

    @cached_property
    def free(self) -> tuple[Cell, ...]:
        """Return the cells without a wall, row by row."""
        return tuple(cell for cell in self._cells() if not self._is_wall(cell))

    @cached_property
    def rooms(self) -> tuple[Cell, ...]:
        """Return the free cells in odd rows and columns, row by row.

        In generated layouts (`envs.families.layout_generator`) the other free cells are the
        openings between two of them.
        """
        return tuple((row, column) for row, column in self.free if row % 2 and column % 2)

    @cached_property
    def walls(self) -> tuple[Cell, ...]:
        """Return the cells with a wall, row by row."""
        return tuple(cell for cell in self._cells() if self._is_wall(cell))

    def centre(self, cell: Cell) -> Float64[np.ndarray, " 2"]:
        """Return a cell's centre, east and north of the maze's centre, in cells."""
        row, column = cell
        return np.array([column + 0.5 - self.width / 2, self.height / 2 - row - 0.5])

    def distances(self, goal: Cell) -> dict[Cell, int]:
        """Return the path length in cells to `goal` from every cell that it can be reached from.

        Moves are to the north, south, east and west.
        """
        found = {goal: 0}
        frontier = deque([goal])
        while frontier:
            cell = frontier.popleft()
            for neighbour in self._neighbours(cell):
                if neighbour not in found:
                    found[neighbour] = found[cell] + 1
                    frontier.append(neighbour)
        return found

    @cached_property
    def longest_path(self) -> int:
        """Return the largest number of cells of a shortest path between two rooms."""
        ways = (self.distances(goal) for goal in self.rooms)
        return max(way[room] for way in ways for room in self.rooms)

    def mirrored(self) -> "Maze":
        """Return the same maze with east and west exchanged."""
        return Maze(tuple(row[::-1] for row in self.rows))

    def _neighbours(self, cell: Cell) -> Iterator[Cell]:
        row, column = cell
        around = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
        return (neighbour for neighbour in around if not self._is_wall(neighbour))

    def _is_wall(self, cell: Cell) -> bool:
        return self.rows[cell[0]][cell[1]] == WALL

    def _cells(self) -> Iterator[Cell]:
        return ((row, column) for row in range(self.height) for column in range(self.width))


def read_maze(text: str) -> Maze:
    """Read a maze with a start and a goal from its drawing, one line per row.

    Raises:
        ValueError: it is not a maze (see `Maze`), or `S` or `G` is missing.
    """
    maze = Maze(tuple(line.strip() for line in text.split()))
    missing = [place for place in "SG" if place not in maze.places]
    if missing:
        raise ValueError(f"place {missing[0]!r} must be in a drawn maze once")
    return maze


_HOOK = """
#######
#S..#G#
#.#.#.#
#.#...#
#.###.#
#A...B#
#######
"""

_COMB = """
#######
#S#A#G#
#.#.#.#
#.....#
#.#.#.#
#B#C#D#
#######
"""

_RING = """
#######
#A...G#
#.###.#
#.###.#
#S###.#
#..B..#
#######
"""

_SPIRAL = """
#######
#S....#
#####.#
#B.G#.#
#.###.#
#A....#
#######
"""

_SERPENT = """
#######
#S#...#
#.#.#.#
#.#.#.#
#.#.#.#
#..A#G#
#######
"""

_GATE = """
#########
#S..#..G#
#.#...#.#
#...#..A#
#########
"""

_CHANNEL = """
#########
#S#.A.#G#
#.#.#.#.#
#...#...#
#########
"""

_ESTATE = """
#########
#S..#..A#
###.#.#.#
#...#.#.#
#.###.#.#
#.....#.#
#.###.###
#B#....G#
#########
"""

_ROOMS = """
#########
#S..#...#
#...#.#.#
#...#.#A#
#.#####.#
#.......#
###.###.#
#B..#..G#
#########
"""

_DRAWN = {
    "hook": _HOOK,
    "comb": _COMB,
    "ring": _RING,
    "spiral": _SPIRAL,
    "serpent": _SERPENT,
    "gate": _GATE,
    "channel": _CHANNEL,
    "estate": _ESTATE,
    "rooms": _ROOMS,
}


def _with_mirrored(mazes: Mapping[str, Maze]) -> Mapping[str, Maze]:
    return MappingProxyType(
        {**mazes, **{f"{name}_mirrored": maze.mirrored() for name, maze in mazes.items()}}
    )


MAZES = _with_mirrored({name: read_maze(drawing) for name, drawing in _DRAWN.items()})
LARGEST = max(max(maze.height, maze.width) for maze in MAZES.values())
# Every scene with these mazes has as many wall boxes as the fullest one needs.
FULLEST = max(MAZES.values(), key=lambda maze: len(maze.walls))
