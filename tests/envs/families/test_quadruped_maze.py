"""The quadruped's mazes: walls that hold, eyes that see them, starts and touches."""

import mujoco
import numpy as np
import pytest
import torch

from envs import Task, load_suite, make_vec
from envs.families.ant_maze import AntMaze
from envs.families.egocentric_maze import CELL, START_SPREAD, WALL_HEIGHT, EgocentricMaze
from envs.families.maze import FULLEST, MAZES
from envs.families.maze_family import TOUCH
from envs.families.quadruped_maze import QuadrupedMaze
from envs.families.quadruped_speed import QuadrupedSpeed
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState
from tests.envs.segmentation import shown_geoms

SUITE = load_suite("quadruped_maze")
TASKS = [task for tasks in SUITE.splits.values() for task in tasks]
FAMILY = QuadrupedMaze()
MODEL = FAMILY.scene.model
DIRECTIONS = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}


def _start(task: Task, worlds: int = 1, family: EgocentricMaze = FAMILY) -> InitialState:
    start = family.start(task, np.random.default_rng(0))
    rows = (start.joint_positions, start.joint_velocities, start.mocap_positions)
    return InitialState(
        *(torch.from_numpy(np.tile(row, (worlds, *[1] * row.ndim))) for row in rows)
    )


def _physics(start: InitialState, family: EgocentricMaze = FAMILY) -> MujocoPhysics:
    count = len(start.joint_positions)
    physics = MujocoPhysics(family.scene, count, image_size=8, threads=1)
    physics.reset(torch.ones(count, dtype=torch.bool), start)
    return physics


def test_the_body_is_the_quadruped_and_every_maze_fits_into_the_scene() -> None:
    other = QuadrupedSpeed.scene.model
    assert (MODEL.nq, MODEL.nv, MODEL.nu, MODEL.opt.timestep) == (
        other.nq,
        other.nv,
        other.nu,
        other.opt.timestep,
    )
    np.testing.assert_allclose(MODEL.body("torso").mass, other.body("torso").mass)
    walls = [
        name
        for name in (MODEL.geom(index).name for index in range(MODEL.ngeom))
        if name.startswith("wall")
    ]
    assert len(walls) == len(FULLEST.walls)
    assert len({tuple(MODEL.geom(name).rgba) for name in walls}) == 7


def test_starts_stand_in_their_cells_facing_anywhere_and_touch_nothing() -> None:
    facing = []
    for task in TASKS:
        maze = MAZES[str(task.parameters["maze"])]
        middle = maze.centre(maze.places[str(task.parameters["start"])])
        for seed in range(2):
            start = FAMILY.start(task, np.random.default_rng([task.evaluation_seed, seed]))
            data = mujoco.MjData(MODEL)
            data.qpos[:], data.mocap_pos[:] = start.joint_positions, start.mocap_positions
            mujoco.mj_forward(MODEL, data)
            assert data.ncon == 0
            assert np.abs(data.body("torso").xpos[:2] / CELL - middle).max() <= START_SPREAD
            assert data.body("torso").xmat[8] == pytest.approx(1)
            facing.append(data.body("torso").xmat[[0, 3]].copy())
    # Uniform directions: their mean is of length 1 / sqrt(68) = 0.12 on average.
    assert np.linalg.norm(np.mean(facing, axis=0)) < 0.35


def test_no_wall_can_be_passed() -> None:
    """Thrown from the start of "spiral" in four directions at 6 m/s with legs moving at random.

    Three of the four ways end at a wall of the start's cell; to the east there are 3 cells more
    before the next one.
    """
    task = next(task for task in TASKS if task.name == "spiral_g")
    start, maze = _start(task, 4), MAZES["spiral"]
    start.joint_velocities[:, :2] = 6 * torch.tensor(list(DIRECTIONS.values()), dtype=torch.float64)
    physics, rng = _physics(start), np.random.default_rng(1)
    touched = np.zeros(4, bool)
    for _ in range(150):
        physics.step(torch.from_numpy(rng.uniform(-0.8, 0.8, (4, MODEL.nu))))
        for world, (east, north, _) in enumerate(physics.body_position("torso").numpy() / CELL):
            cell = (int(np.floor(maze.height / 2 - north)), int(np.floor(east + maze.width / 2)))
            assert cell in maze.free
            touched[world] |= _touches_a_wall(physics._datas[world])
    assert touched[[0, 1, 3]].all()
    physics.close()


def _touches_a_wall(data: mujoco.MjData) -> bool:
    names = [MODEL.geom(geom).name for contact in data.contact for geom in contact.geom]
    return any(name.startswith("wall") for name in names)


@pytest.mark.parametrize("family", [FAMILY, AntMaze()], ids=["quadruped", "ant"])
@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ("latched", [0, 1, 1, 1]),
        ("once", [0, 1, 0, 0]),
        ("progress", [None, 0.02 / 8, -0.61 / 8, 0.5 / 8]),
    ],
)
def test_the_torso_must_touch_the_goal(
    reward: str, expected: list[float | None], family: EgocentricMaze
) -> None:
    """In "hook" the goal is at the north end of a corridor; the torso is carried along it, in cells
    off its middle."""
    task = TASKS[0]
    task = Task(task.name, task.family, {**task.parameters, "reward": reward}, 1000, 0)
    start, maze = _start(task, family=family), MAZES["hook"]
    physics, goal = _physics(start, family), torch.from_numpy(family.goal(task))[None]
    earned = []
    for off in (-TOUCH - 0.01, -TOUCH + 0.01, -1.0, -0.5):
        start.joint_positions[0, :2] = torch.from_numpy(
            (maze.centre(maze.places["G"]) + np.array([0, off])) * CELL
        )
        start.mocap_positions = physics.fields["mocap_pos"].clone()
        physics.reset(torch.ones(1, dtype=torch.bool), start)
        earned.append(family.reward(physics, goal).item())
    for value, wanted in zip(earned, expected, strict=True):
        assert wanted is None or value == pytest.approx(wanted)
    assert physics.body_position("goal")[0, 2] == family.aside[2]
    physics.close()


def test_the_eyes_see_the_goal_the_floor_and_the_right_walls() -> None:
    """In "ring" with the goal in the corner at A, from 2 cells south of it, facing north."""
    task = next(task for task in TASKS if task.name == "ring_a")
    maze, start = MAZES["ring"], FAMILY.start(task, np.random.default_rng(0))
    positions = start.joint_positions.copy()
    positions[:2], positions[3:7] = maze.centre((3, 1)) * CELL, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]
    labels = shown_geoms(FAMILY.scene, positions[None], start.mocap_positions[None])[0]
    seen = {MODEL.geom(index).name for index in np.unique(labels) if index >= 0}
    assert {"goal", "floor"} <= seen
    walls = {int(name.split("_")[1]) for name in seen if name.startswith("wall")}
    cells = {maze.walls[index] for index in walls}
    # The corridor's two sides before the eyes and its end, and nothing that is behind these, beside
    # or at its back.
    assert (0, 1) in cells or (0, 0) in cells
    assert cells <= {(row, column) for row in range(4) for column in range(3)}
    assert (labels == MODEL.geom("goal").id).sum() > 40
    # It cannot look over them either.
    assert 3 * positions[2] < WALL_HEIGHT


def test_an_episode_of_random_actions_in_different_mazes() -> None:
    tasks = [TASKS[0], TASKS[-1], next(task for task in TASKS if task.name == "estate_g")]
    env = make_vec(SUITE, 3, tasks, image_size=32, threads=1)
    observation, _ = env.reset(seed=0)
    assert observation["pixels"].shape == (3, 32, 32, 3)
    assert (observation["pixels"].reshape(3, -1, 3).std(axis=1).max(axis=1) > 10).all()
    assert env.single_action_space.shape == (12,)
    rng = np.random.default_rng(0)
    for _ in range(20):
        observation, reward, *_ = env.step(rng.uniform(-1, 1, (3, 12)).astype(np.float32))
        assert reward.tolist() == [0, 0, 0]
    env.close()
