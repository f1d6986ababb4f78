"""Sets of layouts: what is generated, stored and refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from envs import Suite, load_suite
from envs.families.layout_generator import MIRRORED, SPECS, corridor, generate, junctions
from envs.families.layout_generator import main as write_layouts
from envs.families.layout_sets import FOLDER, NAMES, LayoutSet, read_layouts, stored_set
from envs.families.maze import WALL, Maze, read_maze

ROWS = ["#####", "#...#", "#.#.#", "#.#.#", "#####"]
RING_AND_TAIL = Maze(("#######", "#.....#", "#.###.#", "#...#.#", "###.#.#", "#.....#", "#######"))


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
def test_generated_layouts_have_all_rooms_and_connect_them(size: int) -> None:
    rng = np.random.default_rng(size)
    openings = []
    for _ in range(20):
        maze = generate(size, rng)
        assert (maze.height, maze.width) == (2 * size + 1, 2 * size + 1)
        assert maze.rooms == tuple(
            (r, c) for r in range(1, 2 * size, 2) for c in range(1, 2 * size, 2)
        )
        assert all(
            maze.rows[r][c] == WALL for r in range(0, 2 * size, 2) for c in range(0, 2 * size, 2)
        )
        assert set(maze.distances(maze.rooms[0])) == set(maze.free)
        openings.append(len(maze.free) - size**2)
    # A tree has one opening less than rooms; loops have more.
    assert min(openings) >= size**2 - 1
    assert len(set(openings)) > 1


def test_junctions_and_corridors_are_counted() -> None:
    # By hand: only the room at row 5, column 3 has three openings.
    assert junctions(RING_AND_TAIL) == 1
    assert corridor(RING_AND_TAIL) == 7
    # From the tail to the ring's far side.
    assert RING_AND_TAIL.longest_path == 10
    plus = Maze(("#######", "###.###", "###.###", "#.....#", "###.###", "###.###", "#######"))
    with_corners = read_maze("##### #S..# ###.# #..G# #####")
    assert (junctions(plus), junctions(with_corners), corridor(with_corners)) == (1, 0, 4)


def test_the_stored_sets_are_those_that_the_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["layout_generator", f"--out={tmp_path}"])
    write_layouts()
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.json" for name in NAMES}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (FOLDER / path.name).read_bytes()
        assert "python -m envs.families.layout_generator --seed=0" in path.read_text()


def test_sets_hold_what_their_names_say() -> None:
    assert set(NAMES) == {*SPECS, *MIRRORED}
    sets = {name: list(stored_set(name).layouts.values()) for name in NAMES}
    assert len(sets["train_3x3"]) + len(sets["train_4x4"]) >= 200
    assert len(sets["unseen_3x3"]) + len(sets["unseen_4x4"]) == 100
    rows = [maze.rows for mazes in sets.values() for maze in mazes]
    assert len(set(rows)) == len(rows), "no layout is in two sets, or in one twice"
    for name, mazes in sets.items():
        rooms = int(name[-1])
        assert all(maze.height == maze.width == 2 * rooms + 1 for maze in mazes)
        assert all(SPECS[name].fits(maze) for maze in mazes if name in SPECS)
    for name, source in MIRRORED.items():
        assert {maze.mirrored().rows for maze in sets[name]} <= {m.rows for m in sets[source]}
    trained = sets["train_4x4"]
    assert max(map(junctions, trained)) < min(map(junctions, sets["branching_4x4"]))
    assert max(map(corridor, trained)) < min(map(corridor, sets["corridors_4x4"]))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "is not JSON"),
        ([], "'layouts' must be a mapping"),
        ({"layouts": {}}, "at least one layout"),
        ({"layouts": {"one": "#####"}}, "layout 'one' must be a list of rows"),
        ({"layouts": {"one": ["###", "#.#", "###"]}}, "layout 'one' must have two rooms"),
        ({"layouts": {"one": ["###", "###", "###"]}}, "layout 'one'.*free cell"),
        ({"layouts": {"good": ROWS, "bad": ["#####", "#.#.#", "#####"]}}, "'bad'.*be reached"),
        ({"layouts": {"gap": ["#####", "#...#", "#.#.#", "#.#..", "#####"]}}, "'gap'.*surrounded"),
    ],
)
def test_a_layout_that_cannot_be_played_is_refused_by_name(
    content: object, named: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=named) as caught:
        read_layouts(path)
    assert str(caught.value).startswith(str(path))


def test_layouts_of_a_file_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"layouts": {"b": ROWS, "a": ROWS}}))
    layouts = read_layouts(path)
    assert layouts.names == ("b", "a")
    assert layouts.fullest.rows == tuple(ROWS)
    assert (layouts.width, layouts.longest_path) == (5, 6)


def test_a_layout_that_does_not_fit_the_arena_is_refused_by_name() -> None:
    layouts = LayoutSet({"small": Maze(tuple(ROWS)), "large": RING_AND_TAIL})
    layouts.check_fits(7, "task 't'")
    with pytest.raises(ValueError, match=r"task 't': layout 'large' of 7 by 7 .* 5 by 5"):
        layouts.check_fits(5, "task 't'")
    values = load_suite("maze_many_point").to_dict()
    values["splits"]["train"][0]["parameters"]["layouts"] = "largest_7x7"
    with pytest.raises(ValueError, match=r"'train_3x3'.*'largest_7x7_000' of 15 by 15.*11 by 11"):
        Suite.from_dict(values)
