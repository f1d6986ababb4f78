"""The ant's mazes: dm_control's own ant, starts, walls that hold and eyes that see."""

import mujoco
import numpy as np
import torch
from dm_control import mjcf
from dm_control.locomotion import arenas, walkers

from envs import load_suite, make_vec
from envs.families import ant
from envs.families.ant_maze import AntMaze
from envs.families.egocentric_maze import CELL, START_SPREAD
from envs.families.maze import MAZES
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState
from tests.envs.segmentation import shown_geoms

SUITE = load_suite("ant_maze")
TASKS = [task for tasks in SUITE.splits.values() for task in tasks]
FAMILY = AntMaze()
MODEL = FAMILY.scene.model


def test_the_ant_moves_as_dm_controls_own_on_its_floor() -> None:
    """Two seconds of random actions from a fall, feet and torso touching the floor.

    Its free joint is at the frame that the torso is attached to, a body of 10 mg, which is moved
    into the torso's own.
    """
    arena, walker = arenas.Floor(size=(9, 9)), walkers.Ant()
    walker.root_body.pos = [0, 0, 0]
    arena.add_free_entity(walker)
    arena.mjcf_model.option.timestep = 0.005
    theirs = mjcf.Physics.from_mjcf_model(arena.mjcf_model)
    model = ant.spec(9.0).compile()
    ours, rng, touched = mujoco.MjData(model), np.random.default_rng(0), 0
    ours.qpos[:] = [0, 0, 1.0, 1, 0, 0, 0, *np.zeros(8)]
    with theirs.reset_context():
        theirs.data.qpos[:] = ours.qpos
    mujoco.mj_forward(model, ours)
    for _ in range(100):
        theirs.data.ctrl[:] = ours.ctrl[:] = rng.uniform(-1, 1, 8)
        theirs.step(ant.SUBSTEPS)
        mujoco.mj_step2(model, ours)
        mujoco.mj_step(model, ours, ant.SUBSTEPS - 1)
        mujoco.mj_step1(model, ours)
        touched += ours.ncon > 0
        np.testing.assert_allclose(ours.qpos, theirs.data.qpos, atol=1e-4)
    assert touched > 50


def test_starts_stand_in_their_cells_and_touch_nothing() -> None:
    for task in TASKS[::3]:
        maze = MAZES[str(task.parameters["maze"])]
        start = FAMILY.start(task, np.random.default_rng(task.evaluation_seed))
        data = mujoco.MjData(MODEL)
        data.qpos[:], data.mocap_pos[:] = start.joint_positions, start.mocap_positions
        mujoco.mj_forward(MODEL, data)
        assert data.ncon == 0
        middle = maze.centre(maze.places[str(task.parameters["start"])])
        assert np.abs(data.body("torso").xpos[:2] / CELL - middle).max() <= START_SPREAD
        assert data.body("torso").xmat[8] > 1 - 1e-9
        assert data.body("torso").xpos[2] < 0.9


def test_no_wall_can_be_passed() -> None:
    """Thrown in four directions at 6 m/s from a cell that is closed on three sides."""
    task = next(task for task in TASKS if task.name == "spiral_g")
    start, maze = FAMILY.start(task, np.random.default_rng(0)), MAZES["spiral"]
    rows = (start.joint_positions, start.joint_velocities, start.mocap_positions)
    worlds = InitialState(*(torch.from_numpy(np.tile(row, (4, *[1] * row.ndim))) for row in rows))
    worlds.joint_velocities[:, :2] = 6 * torch.tensor(
        [[0, 1], [0, -1], [1, 0], [-1, 0]], dtype=torch.float64
    )
    physics, rng = MujocoPhysics(FAMILY.scene, 4, image_size=8, threads=1), np.random.default_rng(1)
    physics.reset(torch.ones(4, dtype=torch.bool), worlds)
    for _ in range(150):
        physics.step(torch.from_numpy(rng.uniform(-1, 1, (4, MODEL.nu))))
        for east, north, _ in physics.body_position("torso").numpy() / CELL:
            assert (
                int(np.floor(maze.height / 2 - north)),
                int(np.floor(east + maze.width / 2)),
            ) in maze.free
    physics.close()


def test_the_eyes_see_the_goal_the_floor_and_walls_but_not_the_body_they_are_in() -> None:
    """In "ring" with the goal in the corner at A, from 2 cells south of it, facing north."""
    task = next(task for task in TASKS if task.name == "ring_a")
    start, maze = FAMILY.start(task, np.random.default_rng(0)), MAZES["ring"]
    positions = start.joint_positions.copy()
    positions[:2], positions[3:7] = maze.centre((3, 1)) * CELL, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]
    labels = shown_geoms(FAMILY.scene, positions[None], start.mocap_positions[None])[0]
    seen = {MODEL.geom(index).name for index in np.unique(labels) if index >= 0}
    assert {"goal", "floor"} <= seen
    assert "torso_geom" not in seen
    assert any(name.startswith("wall") for name in seen)
    assert (labels == MODEL.geom("goal").id).sum() > 40


def test_the_suite_is_the_quadrupeds_for_another_body() -> None:
    theirs = load_suite("quadruped_maze").to_dict()["splits"]
    assert SUITE.splits.keys() == theirs.keys()
    for split, tasks in SUITE.to_dict()["splits"].items():
        changed = [{**task, "family": "ant_maze"} for task in theirs[split]]
        seeds = [task.pop("evaluation_seed") for task in tasks]
        assert tasks == [
            {key: value for key, value in task.items() if key != "evaluation_seed"}
            for task in changed
        ]
        assert all(12000 < seed < 13000 for seed in seeds)


def test_random_actions_in_different_mazes_and_worlds() -> None:
    tasks = [TASKS[0], next(task for task in TASKS if task.dynamics.mass == 2), TASKS[-1]]
    env = make_vec(SUITE, 3, tasks, image_size=32, threads=1)
    observation, _ = env.reset(seed=0)
    assert (observation["pixels"].reshape(3, -1, 3).std(axis=1).max(axis=1) > 10).all()
    assert env.single_action_space.shape == (8,)
    rng = np.random.default_rng(0)
    for _ in range(20):
        _, reward, *_ = env.step(rng.uniform(-1, 1, (3, 8)).astype(np.float32))
        assert reward.tolist() == [0, 0, 0]
    env.close()
