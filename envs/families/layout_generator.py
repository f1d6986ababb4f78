"""Generate the stored sets of maze layouts: `python -m envs.families.layout_generator`.

A layout of n by n rooms is a text grid of 2n + 1 rows. Rooms are cells in odd rows and columns;
between two neighbouring rooms there is a wall or an opening. The openings are a random tree that
reaches every room, and some more, which make loops.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.families.layout_sets import FOLDER
from envs.families.maze import FREE, WALL, Cell, Maze

COMMAND = "python -m envs.families.layout_generator"
# The share of walls that are opened after the tree is complete.
LOOPS = 0.08
MOST_TRIES = 100_000


@dataclass(frozen=True)
class Spec:
    """Say which layouts a set has.

    Attributes:
        size: number of rooms along a side.
        count: number of layouts.
        junctions: least and largest number of rooms with three openings or more.
        corridor: least and largest number of rooms in the longest corridor (see `corridor`).
        longest: largest number of cells of a shortest path between two rooms.
    """

    size: int
    count: int
    junctions: tuple[float, float] = (0, math.inf)
    corridor: tuple[float, float] = (0, math.inf)
    longest: float = math.inf

    def fits(self, maze: Maze) -> bool:
        """Return whether a layout of this size may be in the set."""
        return (
            _within(junctions(maze), self.junctions)
            and _within(corridor(maze), self.corridor)
            and maze.longest_path <= self.longest
        )


# In this order: no layout is in two sets. The training layouts of 4 by 4 rooms leave out much
# branching and long corridors, which are held out.
_TRAINED = {"junctions": (2, 4), "corridor": (0, 7), "longest": 24}
SPECS: Mapping[str, Spec] = {
    "train_3x3": Spec(3, 100),
    "train_4x4": Spec(4, 150, **_TRAINED),  # type: ignore[arg-type]
    "unseen_3x3": Spec(3, 50),
    "unseen_4x4": Spec(4, 50, **_TRAINED),  # type: ignore[arg-type]
    "branching_4x4": Spec(4, 50, junctions=(6, math.inf)),
    "corridors_4x4": Spec(4, 50, corridor=(10, math.inf)),
    "larger_5x5": Spec(5, 50, longest=40),
    "largest_7x7": Spec(7, 50, longest=60),
}
MIRRORED = {"mirrored_3x3": "train_3x3", "mirrored_4x4": "train_4x4"}


def generate_sets(seed: int) -> dict[str, list[Maze]]:
    """Return the layouts of every set; they are a function of the seed."""
    known: set[tuple[str, ...]] = set()
    sets = {}
    for number, (name, spec) in enumerate(SPECS.items()):
        sets[name] = _distinct(name, spec, np.random.default_rng([seed, number]), known)
    for name, source in MIRRORED.items():
        images = [maze.mirrored() for maze in sets[source]]
        sets[name] = [image for image in images if image.rows not in known]
    return sets


def generate(size: int, rng: np.random.Generator) -> Maze:
    """Return a random layout of `size` by `size` rooms.

    The tree grows from one of the rooms that it has reached: with a probability that is drawn once
    a layout from any of them, which makes junctions, else from the latest, which makes corridors.
    """
    grid = np.full((2 * size + 1, 2 * size + 1), WALL)
    grid[1::2, 1::2] = FREE
    share_of_any = rng.random()
    first = (int(rng.integers(size)), int(rng.integers(size)))
    active, reached = [first], {first}
    while active:
        index = int(rng.integers(len(active))) if rng.random() < share_of_any else -1
        room = active[index]
        closed = [other for other in _around(room, size) if other not in reached]
        if not closed:
            del active[index]
            continue
        other = closed[rng.integers(len(closed))]
        grid[room[0] + other[0] + 1, room[1] + other[1] + 1] = FREE
        active.append(other)
        reached.add(other)
    for room in np.ndindex(size, size):
        for other in _around(room, size):
            if other > room and rng.random() < LOOPS:
                grid[room[0] + other[0] + 1, room[1] + other[1] + 1] = FREE
    return Maze(tuple("".join(row) for row in grid))


def junctions(maze: Maze) -> int:
    """Return the number of rooms with three openings or more."""
    return sum(len(_openings(maze, room)) >= 3 for room in maze.rooms)


def corridor(maze: Maze) -> int:
    """Return the number of rooms in the longest corridor: rooms in a row that are no junctions."""
    plain = {room for room in maze.rooms if len(_openings(maze, room)) < 3}
    longest = 0
    while plain:
        frontier = [plain.pop()]
        for room in frontier:
            beyond = [(2 * a - room[0], 2 * b - room[1]) for a, b in _openings(maze, room)]
            frontier += [other for other in beyond if other in plain]
            plain -= set(beyond)
        longest = max(longest, len(frontier))
    return longest


def write_sets(folder: Path, seed: int) -> None:
    """Write a JSON file for every set."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mazes in generate_sets(seed).items():
        layouts = ",\n".join(
            f'  "{name}_{number:03}": {json.dumps(maze.rows)}' for number, maze in enumerate(mazes)
        )
        text = f'{{"command": "{COMMAND} --seed={seed}",\n "layouts": {{\n{layouts}\n}}}}\n'
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


# Private functions.


def _distinct(
    name: str, spec: Spec, rng: np.random.Generator, known: set[tuple[str, ...]]
) -> list[Maze]:
    """Return the layouts of a set, none of which is known yet, and add them to what is known."""
    found: list[Maze] = []
    for _ in range(MOST_TRIES):
        if len(found) == spec.count:
            return found
        maze = generate(spec.size, rng)
        if maze.rows not in known and spec.fits(maze):
            known.add(maze.rows)
            found.append(maze)
    raise ValueError(f"set {name!r}: only {len(found)} of {spec.count} layouts were found")


def _around(room: Cell, size: int) -> Iterator[Cell]:
    """Yield the rooms beside one, all numbered from 0 by row and column."""
    row, column = room
    for other in ((row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)):
        if 0 <= other[0] < size and 0 <= other[1] < size:
            yield other


def _openings(maze: Maze, room: Cell) -> list[Cell]:
    """Return the cells of a room's openings."""
    row, column = room
    around = ((row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column))
    return [(a, b) for a, b in around if maze.rows[a][b] != WALL]


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def main() -> None:
    """Write the files of the package, or others."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder (default: {FOLDER})")
    options = parser.parse_args()
    write_sets(options.out, options.seed)


if __name__ == "__main__":
    main()
