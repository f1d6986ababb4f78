"""Read mazes that are written as text.

Rows go from north to south, with '/' between them; '#' is a wall, '.' free, 'r' the start and 'g'
the goal.
"""

from dataclasses import dataclass

Cell = tuple[int, int]


@dataclass(frozen=True)
class Maze:
    """Store a maze with walls all round, one start and one goal.

    Attributes:
        rows: from north to south, of one length.
        start, goal: row and column.
    """

    rows: tuple[str, ...]
    start: Cell
    goal: Cell

    @property
    def size(self) -> tuple[int, int]:
        """Return the numbers of rows and columns."""
        return len(self.rows), len(self.rows[0])

    @property
    def goal_place(self) -> tuple[float, float]:
        """Return the middle of the goal's cell, in cells east and north of the maze's centre."""
        height, width = self.size
        row, column = self.goal
        return column + 0.5 - width / 2, height / 2 - row - 0.5

    def cells(self) -> list[list[int | str]]:
        """Return the maze as Gymnasium-Robotics takes a `maze_map`."""
        return [[{"#": 1, ".": 0}.get(cell, cell) for cell in row] for row in self.rows]


def read_maze(text: str) -> Maze:
    """Read a maze.

    Raises:
        ValueError: uneven rows, an unknown character, an opening in the outer wall, no way from the
            start to the goal, or not exactly one start and one goal.
    """
    rows = tuple(text.split("/"))
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError(
            f"a maze's rows must be of one length, got {', '.join(str(len(row)) for row in rows)}"
        )
    unknown = set(text) - set("#.rg/")
    if unknown:
        raise ValueError(
            "a maze has '#', '.', one 'r', one 'g' and '/' between its rows, got "
            f"{sorted(unknown)[0]!r}"
        )
    border = rows[0] + rows[-1] + "".join(row[0] + row[-1] for row in rows)
    if set(border) != {"#"}:
        raise ValueError("a maze must have walls all round")
    maze = Maze(rows, _only(rows, "r"), _only(rows, "g"))
    if maze.goal not in _reachable(maze):
        raise ValueError("a maze must have a way from its start to its goal")
    return maze


def _only(rows: tuple[str, ...], mark: str) -> Cell:
    places = [
        (row, column)
        for row, cells in enumerate(rows)
        for column, cell in enumerate(cells)
        if cell == mark
    ]
    if len(places) != 1:
        raise ValueError(f"a maze must have exactly one {mark!r}, got {len(places)}")
    return places[0]


def _reachable(maze: Maze) -> set[Cell]:
    seen = {maze.start}
    front = [maze.start]
    while front:
        row, column = front.pop()
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if maze.rows[cell[0]][cell[1]] != "#" and cell not in seen:
                seen.add(cell)
                front.append(cell)
    return seen
