"""The point's mazes: walls that hold and are drawn where they are, what is paid for what, and what
is remembered."""

from collections.abc import Iterator
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch

from envs import PixelVectorEnv, Suite, Task, load_suite, make_vec
from envs.families.maze import LARGEST, MAZES, Cell, Maze
from envs.families.maze_family import TOUCH
from envs.families.point_maze import CELL, RADIUS, START_SPREAD, PointMaze
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState
from tests.envs.segmentation import shown_geoms

SUITE = load_suite("point_maze")
TASKS = [task for tasks in SUITE.splits.values() for task in tasks if not task.variations()]
FAMILY = PointMaze()


def _task(
    maze: str, start: str = "S", goal: str = "G", reward: str = "latched", length: int = 1000
) -> Task:
    parameters = {"maze": maze, "start": start, "goal": goal, "reward": reward}
    return Task(f"{maze}_{start}{goal}_{reward}", "point_maze", parameters, length, 0)


def _suite_of(*tasks: Task) -> Suite:
    return replace(SUITE, splits={"train": tasks})


def _physics(*tasks: Task) -> tuple[MujocoPhysics, torch.Tensor]:
    """Worlds at the starts of these tasks, and their goals."""
    physics = MujocoPhysics(FAMILY.scene, len(tasks), image_size=8, threads=1)
    starts = [FAMILY.start(task, np.random.default_rng(index)) for index, task in enumerate(tasks)]
    rows = zip(
        *((s.joint_positions, s.joint_velocities, s.mocap_positions) for s in starts), strict=True
    )
    physics.reset(
        torch.ones(len(tasks), dtype=torch.bool),
        InitialState(*(torch.from_numpy(np.stack(row)) for row in rows)),
    )
    return physics, torch.from_numpy(np.stack([FAMILY.goal(task) for task in tasks]))


def _carry(physics: MujocoPhysics, places: np.ndarray) -> None:
    """Put the points at these places, in cells, at rest; markers and walls stay."""
    positions = torch.from_numpy(places * CELL)
    mocap = physics.fields["mocap_pos"].clone()
    start = InitialState(positions, torch.zeros_like(positions), mocap)
    physics.reset(torch.ones(len(places), dtype=torch.bool), start)


def _rewards(kind: str, moves: list[tuple[float, float]]) -> list[float]:
    """Rewards of a point in the maze "hook" that is carried to these places, in cells off the
    goal's middle."""
    physics, goal = _physics(_task("hook", reward=kind))
    maze, total = MAZES["hook"], []
    for move in moves:
        _carry(physics, (maze.centre(maze.places["G"]) + move)[None])
        total.append(FAMILY.reward(physics, goal).item())
    physics.close()
    return total


MOVES = [
    (0.0, -1.0),
    (0.0, -TOUCH - 0.01),
    (0.0, -TOUCH + 0.01),
    (0.0, -1.0),
    (0.0, -2.0),
    (0.0, 0.0),
]


def test_latched_pays_from_the_first_touch_on_and_once_at_the_first_touch_only() -> None:
    assert _rewards("latched", MOVES) == [0, 0, 1, 1, 1, 1]
    assert _rewards("once", MOVES) == [0, 0, 1, 0, 0, 0]


def test_progress_pays_for_what_the_way_has_become_shorter() -> None:
    walked = [7.0, 7.59, 7.61, 7.0, 6.0, 8.0]
    rewards = _rewards("progress", MOVES)
    np.testing.assert_allclose(rewards[1:], np.diff(walked) / 8, atol=1e-9)
    # The start is within the spread of its cell's middle, on the way or beside it.
    assert sum(rewards) == pytest.approx(1, abs=2 * START_SPREAD / 8)


def test_only_the_touched_goal_disappears_and_a_new_episode_brings_it_back() -> None:
    tasks = [_task("hook"), _task("hook", goal="A"), _task("estate")]
    env = make_vec(_suite_of(*tasks), 3, image_size=64, threads=1)
    env.reset(seed=0)
    red = _red(env)
    assert (red > 15).all()
    goals = env._worlds.goals.numpy()[:, :2]
    _carry(env._worlds.physics, goals + np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    _, reward, _, _, infos = env.step(np.zeros((3, 2), np.float32))
    assert reward.tolist() == [2, 0, 2]
    assert infos["success"].tolist() == [True, False, True]
    assert (_red(env) > 15).tolist() == [False, True, False]
    env.reset()
    np.testing.assert_array_equal(_red(env) > 15, [True, True, True])
    env.close()


def _red(env: PixelVectorEnv) -> np.ndarray:
    """Pixels of the goal's colour, a world each."""
    frames = np.stack(env.render()).astype(int)
    count: np.ndarray = ((frames[..., 0] > 150) & (frames[..., 1] < 100)).sum(axis=(1, 2))
    return count


def test_a_return_tells_the_steps_to_the_goal_and_memory_is_saved() -> None:
    """In the ring the goal A is north of the start, 3 cells away and without a turn."""
    task = _task("ring", goal="A", length=200)
    suite = _suite_of(task)
    envs = [make_vec(suite, 2, image_size=8, threads=1) for _ in range(2)]
    envs[0].reset(seed=1)
    north, south = np.array([[0, 1.0]] * 2, np.float32), np.array([[0, -1.0]] * 2, np.float32)
    first = np.full(2, -1)
    for step in range(100):
        if step == 60:
            # Away from the goal, after the touch: what follows depends on what is remembered.
            envs[1].load_state_dict(envs[0].state_dict())
        results = [
            env.step(north if step < 50 else south) for env in (envs if step >= 60 else envs[:1])
        ]
        for other in results[1:]:
            np.testing.assert_array_equal(results[0][0]["pixels"], other[0]["pixels"])
            np.testing.assert_array_equal(results[0][1], other[1])
        rewards = results[0][1]
        first = np.where((first < 0) & (rewards > 0), 2 * step + 3 - rewards, first)
    episode = results[0][-1]["episode_statistics"]
    assert ((first > 20) & (first < 100)).all()
    np.testing.assert_array_equal(episode["return"], 200 - first + 1)
    assert episode["success"].all()
    for env in envs:
        env.close()


def test_starts_lie_in_their_cells_and_never_touch_a_wall() -> None:
    for task in TASKS:
        maze = MAZES[str(task.parameters["maze"])]
        middle = maze.centre(maze.places[str(task.parameters["start"])])
        for seed in range(8):
            start = FAMILY.start(task, np.random.default_rng(seed))
            assert np.abs(start.joint_positions / CELL - middle).max() <= START_SPREAD
            data = _data(start.joint_positions, start.mocap_positions)
            assert data.ncon == 0
    assert START_SPREAD + RADIUS < 0.5


def _data(positions: np.ndarray, mocap: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(FAMILY.scene.model)
    data.qpos[:], data.mocap_pos[:] = positions, mocap
    mujoco.mj_forward(FAMILY.scene.model, data)
    return data


@pytest.mark.parametrize("pushing", ["at random", "at the goal"])
def test_no_wall_can_be_passed(pushing: str) -> None:
    """Full force straight at the goal, or held at random for a while, never brings the middle of a
    point into a wall.

    It stays as far from every wall as its radius, but for what soft contacts give way.
    """
    tasks = list({task.parameters["maze"]: task for task in TASKS}.values())
    physics, goal = _physics(*tasks)
    rng, count = np.random.default_rng(0), len(tasks)
    mazes = [MAZES[str(task.parameters["maze"])] for task in tasks]
    cells = [{cell} for cell in _cells(physics, mazes)]
    deepest = 0.0
    for step in range(400):
        if step % 40 == 0:
            random = torch.from_numpy(rng.choice([-1.0, 0.0, 1.0], (count, 2)))
        places = physics.geom_position("pointmass")[:, :2] / CELL
        physics.step(random if pushing == "at random" else (goal[:, :2] - places).sign())
        for world, cell in enumerate(_cells(physics, mazes)):
            assert cell in mazes[world].free
            cells[world].add(cell)
        deepest = max(deepest, *(_depth(data) for data in physics._datas))
    # Pushed at the walls, and not standing still.
    assert 0 < deepest < RADIUS / 2
    assert max(map(len, cells)) > 4
    physics.close()


def test_every_goal_can_be_reached_in_half_an_episode() -> None:
    """A point that is driven from cell to cell along a shortest path; the longest is 18 cells."""
    physics, goal = _physics(*TASKS)
    mazes = [MAZES[str(task.parameters["maze"])] for task in TASKS]
    ways = [
        maze.distances(maze.places[str(task.parameters["goal"])])
        for maze, task in zip(mazes, TASKS, strict=True)
    ]
    first = np.zeros(len(TASKS), int)
    for step in range(1, 501):
        cells = list(_cells(physics, mazes))
        aims = [
            maze.centre(_next(way, cell))
            for maze, way, cell in zip(mazes, ways, cells, strict=True)
        ]
        away = torch.from_numpy(np.array(aims) * CELL) - physics.fields["qpos"]
        physics.step((60 * away - 20 * physics.fields["qvel"]).clamp(-1, 1))
        touched = FAMILY.holding(physics, goal, goal[:, 0]).numpy()
        first = np.where((first == 0) & touched, step, first)
    assert (first > 0).all()
    # Nobody is faster than 3.2 cells a second, 0.064 a control step; cutting corners saves less
    # than a quarter.
    starts = [
        maze.places[str(task.parameters["start"])] for maze, task in zip(mazes, TASKS, strict=True)
    ]
    lengths = np.array([way[start] for way, start in zip(ways, starts, strict=True)])
    assert (first > 0.75 * lengths / 0.064).all()
    physics.close()


def _next(ways: dict[Cell, int], cell: Cell) -> Cell:
    """The cell to go to from this one."""
    around = [other for other in ways if abs(other[0] - cell[0]) + abs(other[1] - cell[1]) <= 1]
    return min(around, key=lambda other: ways[other])


def _depth(data: mujoco.MjData) -> float:
    """How deep the deepest contact is, in cells."""
    return max((-float(contact.dist) / CELL for contact in data.contact), default=0.0)


def _cells(physics: MujocoPhysics, mazes: list[Maze]) -> Iterator[Cell]:
    for maze, (east, north) in zip(
        mazes, physics.geom_position("pointmass")[:, :2].numpy() / CELL, strict=True
    ):
        yield int(np.floor(maze.height / 2 - north)), int(np.floor(east + maze.width / 2))


def test_walls_are_drawn_where_the_text_has_them_and_nowhere_else() -> None:
    starts = [FAMILY.start(task, np.random.default_rng(0)) for task in TASKS]
    size = 16 * LARGEST
    shown = shown_geoms(
        FAMILY.scene,
        np.stack([start.joint_positions for start in starts]),
        np.stack([start.mocap_positions for start in starts]),
        size,
    )
    model = FAMILY.scene.model
    names = np.array([model.geom(index).name for index in range(model.ngeom)] + [""])
    for task, labels in zip(TASKS, shown, strict=True):
        maze = MAZES[str(task.parameters["maze"])]
        walls = np.char.startswith(names[labels], "wall")
        expected = np.zeros((LARGEST, LARGEST), bool)
        top, left = (LARGEST - maze.height) // 2, (LARGEST - maze.width) // 2
        for row, column in maze.walls:
            expected[top + row, left + column] = True
        # Perspective moves a wall's upper edge by less than a pixel, so only the outermost pixels
        # are left out.
        blocks = walls.reshape(LARGEST, 16, LARGEST, 16)[:, 1:-1, :, 1:-1]
        np.testing.assert_array_equal(blocks.all(axis=(1, 3)), expected)
        np.testing.assert_array_equal(blocks.any(axis=(1, 3)), expected)
        for name, least in (("pointmass", 40), ("goal", 80)):
            assert (names[labels] == name).sum() > least


def test_a_pixel_observation_shows_point_and_goal() -> None:
    env = make_vec(SUITE, len(TASKS), TASKS, threads=1)
    env.reset(seed=0)
    frames = np.stack(env.render()).astype(int)
    yellow = ((frames[..., 0] > 150) & (frames[..., 1] > 130) & (frames[..., 2] < 130)).sum(
        axis=(1, 2)
    )
    assert (yellow >= 8).all()
    assert (_red(env) >= 16).all()
    env.close()


def test_worlds_do_not_depend_on_the_mazes_of_other_worlds() -> None:
    tasks = [_task("hook"), _task("estate", reward="progress"), _task("channel", reward="once")]
    actions = (
        np.random.default_rng(5).uniform(-1, 1, (15, 3, 2)).astype(np.float32).repeat(4, axis=0)
    )
    together = make_vec(_suite_of(*tasks), 3, image_size=16, threads=2, evaluation=True)
    alone = [
        make_vec(_suite_of(task), 1, image_size=16, threads=1, evaluation=True) for task in tasks
    ]
    seen = together.reset(seed=0)[0]["pixels"]
    np.testing.assert_array_equal(
        seen, np.concatenate([env.reset(seed=0)[0]["pixels"] for env in alone])
    )
    earned = np.zeros(3)
    for row in actions:
        observed, rewards, *_ = together.step(row)
        results = [env.step(row[index : index + 1]) for index, env in enumerate(alone)]
        np.testing.assert_array_equal(
            observed["pixels"], np.concatenate([result[0]["pixels"] for result in results])
        )
        np.testing.assert_array_equal(rewards, np.concatenate([result[1] for result in results]))
        earned += np.abs(rewards)
    assert earned[1] > 0
    for env in (together, *alone):
        env.close()


def test_what_is_placed_is_there_at_once_in_the_chosen_worlds_only() -> None:
    physics, _ = _physics(_task("hook"), _task("hook"))
    before, drawn = (
        physics.body_position("goal").clone(),
        [physics.image(world, 64) for world in range(2)],
    )
    physics.place("goal", before + 0.1, torch.tensor([False, True]))
    torch.testing.assert_close(physics.body_position("goal"), before + torch.tensor([[0.0], [0.1]]))
    assert [(physics.image(world, 64) == drawn[world]).all() for world in range(2)] == [True, False]
    other, _ = _physics(_task("estate"), _task("comb"))
    other.load_state(physics.state())
    for name, values in physics.fields.items():
        assert torch.equal(other.fields[name], values)
    physics.close()
    other.close()


def test_only_mocap_bodies_can_be_placed() -> None:
    physics, _ = _physics(_task("hook"))
    with pytest.raises(ValueError, match="'pointmass' of point_maze is not a mocap body"):
        physics.place("pointmass", torch.zeros(1, 3), torch.ones(1, dtype=torch.bool))
    physics.close()
