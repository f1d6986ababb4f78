"""Mazes as text: refused ones, shortest paths, and the tasks of the suites in them."""

from itertools import product

import numpy as np
import pytest
import torch

from envs import Suite, Task, load_suite
from envs.families.maze import FULLEST, LARGEST, MAZES, Cell, Maze, read_maze
from envs.families.maze_family import path_length
from envs.families.point_maze import PointMaze

SUITE = load_suite("point_maze")
FAMILY = PointMaze()
SMALL = read_maze("##### #S.G# #.#.# #A..# #####")


def _task(maze: str) -> Task:
    return Task(
        maze, "point_maze", {"maze": maze, "start": "S", "goal": "G", "reward": "latched"}, 1000, 0
    )


def _relaxed(maze: Maze, goal: Cell) -> dict[Cell, float]:
    """Distances by relaxing every cell against its neighbours until nothing changes."""
    found = {cell: 0.0 if cell == goal else np.inf for cell in maze.free}
    for _ in maze.free:
        for a, b in product(maze.free, maze.free):
            if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1:
                found[a] = min(found[a], found[b] + 1)
    return found


@pytest.mark.parametrize("name", MAZES)
def test_shortest_paths_are_those_of_a_slow_search(name: str) -> None:
    maze = MAZES[name]
    for goal in maze.places.values():
        assert maze.distances(goal) == _relaxed(maze, goal)
    assert len(maze.free) + len(maze.walls) == maze.height * maze.width
    assert len(maze.walls) <= len(FULLEST.walls)
    assert max(maze.height, maze.width) <= LARGEST


def test_paths_are_as_long_as_the_suite_says() -> None:
    def ways(split: str) -> list[int]:
        tasks = [task.parameters for task in SUITE.tasks(split)]
        mazes = [MAZES[str(task["maze"])] for task in tasks]
        return [
            maze.distances(maze.places[str(task["goal"])])[maze.places[str(task["start"])]]
            for maze, task in zip(mazes, tasks, strict=True)
        ]

    assert ways("train") == ways("geometry_mirrored") == [8, 4, 8, 6, 7, 3]
    assert ways("geometry_longer") == [16, 14, 16]
    assert ways("geometry_wider") == [8, 8, 14]
    assert ways("geometry_larger") == [16, 18, 10, 12, 12]


def test_a_held_out_task_changes_what_its_split_says() -> None:
    trained = {(task.parameters["maze"], task.parameters["goal"]) for task in SUITE.tasks("train")}
    mazes = {maze for maze, _ in trained}
    for task in SUITE.tasks("interpolation"):
        assert task.parameters["maze"] in mazes
        assert (task.parameters["maze"], task.parameters["goal"]) not in trained
    for task in SUITE.tasks("novel"):
        assert (task.parameters["maze"], task.parameters["goal"]) in trained
        assert task.parameters["start"] != "S"
    layouts = {MAZES[str(maze)].rows for maze in mazes}
    for split in ("mirrored", "longer", "wider", "larger"):
        assert all(
            MAZES[str(task.parameters["maze"])].rows not in layouts
            for task in SUITE.tasks(f"geometry_{split}")
        )


def test_places_are_measured_from_the_middle_and_mirrored_in_it() -> None:
    assert SMALL.places == {"S": (1, 1), "G": (1, 3), "A": (3, 1)}
    assert SMALL.centre((1, 1)).tolist() == [-1, 1]
    assert SMALL.centre((3, 2)).tolist() == [0, -1]
    assert SMALL.mirrored().rows == ("#####", "#G.S#", "#.#.#", "#..A#", "#####")
    for name, maze in MAZES.items():
        if not name.endswith("_mirrored"):
            image = MAZES[f"{name}_mirrored"]
            for place, cell in maze.places.items():
                assert (
                    image.centre(image.places[place]).tolist()
                    == (maze.centre(cell) * [-1, 1]).tolist()
                )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "equally long"),
        ("#### #SG# ###", "equally long"),
        ("#### #SG? ####", r"unknown character '\?'.*valid are # \. S G"),
        ("##### #S.S# #.G.# #####", "place 'S'.*once"),
        ("#### #S.# ####", "place 'G'.*once"),
        ("##### #S.GA #####", "surrounded by walls"),
        ("###### #S.#G# ######", r"cell \(1, 4\).*cannot be reached"),
    ],
)
def test_what_is_not_a_maze_is_refused(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_maze(text)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"maze": "labyrinth"}, "'maze' must be one of hook, comb"),
        ({"goal": "C"}, "'goal' of maze 'hook' must be one of S, G, A, B, got 'C'"),
        ({"goal": "S"}, "two places"),
        ({"start": "D"}, "'start' of maze 'hook'"),
        ({"start": "Z"}, "'start' must be one of S, G"),
        ({"reward": "dense"}, "'reward' must be one of latched, once, progress"),
    ],
)
def test_errors_name_the_valid_parameters(change: dict[str, str], named: str) -> None:
    values = SUITE.to_dict()
    values["splits"]["train"][0]["parameters"].update(change)
    with pytest.raises(ValueError, match=named):
        Suite.from_dict(values)


def _path_by_hand(maze: Maze, goal: Cell, place: np.ndarray) -> float:
    ways = _relaxed(maze, goal)
    own = min(maze.free, key=lambda cell: np.abs(maze.centre(cell) - place).max())
    near = [cell for cell in maze.free if abs(cell[0] - own[0]) + abs(cell[1] - own[1]) <= 1]
    return min(ways[cell] + float(np.linalg.norm(maze.centre(cell) - place)) for cell in near)


@pytest.mark.parametrize("name", ["hook", "serpent", "gate", "estate_mirrored"])
def test_the_way_from_any_place_is_that_of_a_slow_search(name: str) -> None:
    maze, rng = MAZES[name], np.random.default_rng(3)
    cells = [maze.free[index] for index in rng.integers(len(maze.free), size=12)]
    places = np.array([maze.centre(cell) + rng.uniform(-0.49, 0.49, 2) for cell in cells])
    goal = torch.from_numpy(FAMILY.goal(_task(name))).expand(12, -1)
    expected = [_path_by_hand(maze, maze.places["G"], place) for place in places]
    np.testing.assert_allclose(path_length(torch.from_numpy(places), goal), expected)


def test_the_way_grows_evenly_along_a_corridor_and_leads_around_walls() -> None:
    """The corridor is 4 cells long; in the last of them the path turns, and from there the corner
    may be cut."""
    maze = MAZES["serpent"]
    goal = torch.from_numpy(FAMILY.goal(_task("serpent"))).expand(35, -1)
    down = torch.linspace(0, 3.4, 35, dtype=torch.float64)
    top = torch.from_numpy(maze.centre(maze.places["S"]))
    places = torch.stack([top[0].expand(35), top[1] - down], dim=1)
    torch.testing.assert_close(path_length(places, goal), 16 - down)


def test_the_quadruped_has_the_points_tasks() -> None:
    other = load_suite("quadruped_maze")
    plain = {split: tasks for split, tasks in SUITE.splits.items() if not tasks[0].variations()}
    assert len(plain) == 7
    for split, tasks in plain.items():
        assert [task.parameters for task in other.tasks(split)] == [
            task.parameters for task in tasks
        ]
    assert (
        {task.episode_length for task in other.tasks("train")} == {other.reference_return} == {3000}
    )


def test_task_vectors_are_goals_over_the_largest_mazes_half_width() -> None:
    # The goal of "hook" is 2 cells east and 2 north of the middle, that of "estate" 3 east and 3
    # south.
    np.testing.assert_allclose(FAMILY.task_vector(_task("hook")), [2 / 4.5, 2 / 4.5], rtol=1e-6)
    np.testing.assert_allclose(FAMILY.task_vector(_task("estate")), [3 / 4.5, -3 / 4.5], rtol=1e-6)
