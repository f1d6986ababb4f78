"""Tasks whose episodes are in mazes of a set: what an episode is made of, and who meets it."""

import inspect
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch

from envs import PixelVectorEnv, Suite, Task, load_suite, make_vec
from envs.adapters.gymnasium import SingleEnv
from envs.adapters.stable_baselines3 import Sb3VecEnv
from envs.families import resolve
from envs.families.family import EpisodeTask
from envs.families.layout_sets import stored_set
from envs.families.many_mazes import ManyMazes
from envs.families.maze_family import TOUCH, path_length
from envs.families.point_maze import CELL
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState, Scene

SUITE = load_suite("maze_many_point")
NAMES = [
    *("maze_many_point", "maze_many_point_picture", "maze_many_point_progress"),
    "maze_many_quadruped",
]
SIZE = 16


def _task(layouts: str = "train_4x4", goal: str = "task_vector", reward: str = "once") -> Task:
    parameters = {"layouts": layouts, "goal": goal, "reward": reward}
    return Task(f"{layouts}_{goal}_{reward}", "maze_many_point", parameters, 400, 7)


def _family(*tasks: Task) -> ManyMazes:
    family = resolve(tasks[0]).for_tasks(tasks)
    assert isinstance(family, ManyMazes)
    return family


def _suite_of(*tasks: Task) -> Suite:
    return replace(SUITE, splits={"train": tasks})


def _env(suite: Suite, num_envs: int, **options: object) -> PixelVectorEnv:
    return make_vec(suite, num_envs, image_size=SIZE, threads=1, **options)  # type: ignore[arg-type]


def _episode(task: Task, seed: int) -> EpisodeTask:
    episode = _family(task).start(task, np.random.default_rng(seed)).episode
    assert episode is not None
    return episode


def test_an_episode_has_a_layout_of_its_set_and_two_of_its_rooms() -> None:
    task, layouts = _task("train_3x3"), stored_set("train_3x3")
    family = _family(task)
    drawn = set()
    for seed in range(300):
        start = family.start(task, np.random.default_rng(seed))
        episode = start.episode
        assert episode is not None
        maze = layouts.layouts[episode.layout]
        drawn.add(episode.layout)
        goal = next(r for r in maze.rooms if (maze.centre(r) == episode.goal[:2]).all())
        np.testing.assert_allclose(episode.task_vector, maze.centre(goal) / 5.5, rtol=1e-6)
        offsets = {
            r: np.abs(maze.centre(r) - start.joint_positions / CELL).max() for r in maze.rooms
        }
        room = min(offsets, key=lambda r: offsets[r])
        assert offsets[room] < 0.5
        assert room != goal
        assert episode.path_length == maze.distances(goal)[room] == episode.goal[3]
        walls = start.mocap_positions[2 : 2 + len(maze.walls), :2] / CELL
        np.testing.assert_allclose(walls, [maze.centre(cell) for cell in maze.walls])
        assert (start.mocap_positions[2 + len(maze.walls) :] == family.aside).all()
    assert len(drawn) > 80


def test_a_scene_has_as_many_walls_as_the_fullest_layout_of_its_tasks() -> None:
    for names in (["train_3x3"], ["train_3x3", "train_4x4"], ["larger_5x5"]):
        family = _family(*(_task(name) for name in names))
        most = max(len(maze.walls) for name in names for maze in stored_set(name).layouts.values())
        model = family.scene.model
        walls = [model.body(i).name for i in range(model.nbody)]
        assert sum(name.startswith("wall") for name in walls) == family.num_walls == most
        # The camera is the same, whatever the layouts.
        assert model.camera("fixed").fovy == resolve(_task()).scene.model.camera("fixed").fovy


@pytest.mark.parametrize("name", NAMES)
def test_episodes_last_four_times_as_long_as_the_longest_way_at_top_speed(name: str) -> None:
    for task in load_suite(name).all_tasks:
        family = resolve(task)
        assert isinstance(family, ManyMazes)
        steps_a_second = 1 / (family.scene.substeps * family.scene.model.opt.timestep)
        longest = stored_set(str(task.parameters["layouts"])).longest_path
        fastest = longest * family.cell / family.top_speed * steps_a_second
        assert 4 * fastest <= task.episode_length < 4 * fastest + 150


def test_the_points_top_speed_is_what_it_reaches() -> None:
    scene = resolve(_task()).scene
    data = mujoco.MjData(scene.model)
    mocap = data.mocap_pos.copy()
    mocap[:] = [5.0, 0.0, 0.0]
    data.mocap_pos[:] = mocap
    data.ctrl[:] = [1.0, 0.0]
    mujoco.mj_step(scene.model, data, 500)
    family = resolve(_task())
    assert isinstance(family, ManyMazes)
    assert data.qvel[0] == pytest.approx(family.top_speed, rel=1e-3)


def _compiled(scene: Scene, mocap: np.ndarray, num_walls: int) -> Scene:
    """The same scene with walls that are fixed where one world has its own."""

    def build() -> mujoco.MjSpec:
        spec = scene.build()
        for index in range(num_walls):
            wall = spec.body(f"wall_{index}")
            wall.mocap = False
            wall.pos = mocap[2 + index]
        return spec

    return replace(scene, build=build)


def test_walls_of_each_world_are_as_good_as_compiled_ones() -> None:
    """States and pictures of worlds that share a model, against models with those walls."""
    task = _task("train_4x4")
    family = _family(task)
    starts = [family.start(task, np.random.default_rng(seed)) for seed in range(3)]
    rows = [
        torch.from_numpy(np.stack(row))
        for row in zip(
            *((s.joint_positions, s.joint_velocities, s.mocap_positions) for s in starts),
            strict=True,
        )
    ]
    together = MujocoPhysics(family.scene, 3, 64, threads=1)
    together.reset(torch.ones(3, dtype=torch.bool), InitialState(*rows))
    alone = []
    for index, start in enumerate(starts):
        scene = _compiled(family.scene, start.mocap_positions, family.num_walls)
        physics = MujocoPhysics(scene, 1, 64, threads=1)
        assert physics.fields["mocap_pos"].shape[1] == 2, "walls do not move there"
        row = [part[index : index + 1] for part in rows]
        one = torch.ones(1, dtype=torch.bool)
        physics.reset(one, InitialState(row[0], row[1], row[2][:, :2]))
        alone.append(physics)
    rng = np.random.default_rng(0)
    touched = np.zeros(3, bool)
    pictures = torch.zeros((3, 64, 64, 3), dtype=torch.uint8)
    expected = torch.zeros_like(pictures)
    for step in range(200):
        if step % 20 == 0:
            control = torch.from_numpy(rng.choice([-1.0, 1.0], (3, 2)))
        together.step(control)
        for index, physics in enumerate(alone):
            physics.step(control[index : index + 1])
            touched[index] |= physics._datas[0].ncon > 0
            np.testing.assert_allclose(
                together.fields["qpos"][index], physics.fields["qpos"][0], atol=1e-12
            )
        if step % 50 == 0:
            together.render(pictures)
            for index, physics in enumerate(alone):
                physics.render(expected[index : index + 1])
            # The order in which boxes are met changes the last bit of an edge's shading.
            off = (pictures.int() - expected.int()).abs()
            assert off.max() <= 4
            assert (off > 0).sum() <= 0.001 * off.numel()
    assert touched.all()
    for physics in [together, *alone]:
        physics.close()


def _met(num_envs: int, seed: int, rounds: int) -> dict[tuple[str, int], tuple[object, ...]]:
    """What evaluation shows in each episode, by task and number of the episode."""
    tasks = SUITE.tasks("train")
    env = _env(SUITE, num_envs, tasks=tasks, seed=seed, evaluation=True)
    met = {}
    for episode in range(rounds):
        observation, _ = env.reset(options={"episode": episode})
        for world in range(num_envs):
            task = tasks[world % 2].name
            number = episode * (num_envs // 2) + world // 2
            drawn = env._episode_tasks[world]
            assert drawn is not None
            vector = tuple(observation["task"][world].tolist())
            start = tuple(env._worlds.physics.fields["qpos"][world].tolist())  # type: ignore[attr-defined]
            met[task, number] = (drawn.layout, drawn.path_length, vector, start)
    env.close()
    return met


def test_episodes_are_functions_of_seed_task_and_number() -> None:
    expected = _met(2, 3, 6)
    assert _met(4, 3, 3) == _met(6, 3, 2) == expected
    assert len(set(expected.values())) == len(expected)
    assert _met(4, 4, 3) != expected


def test_the_picture_suites_meet_the_same_episodes_without_being_told_the_goal() -> None:
    told, shown = (_env(load_suite(name), 4, evaluation=True) for name in NAMES[:2])
    one, other = (env.reset(seed=1)[0] for env in (told, shown))
    np.testing.assert_array_equal(one["pixels"], other["pixels"])
    assert np.abs(one["task"]).max(axis=1).min() > 0 or len(np.unique(one["task"], axis=0)) > 2
    assert not other["task"].any()
    told.close()
    shown.close()


def _play(env: PixelVectorEnv, steps: int, seed: int = 0) -> list[tuple[object, ...]]:
    rng = np.random.default_rng(seed)
    results = []
    for step in range(steps):
        if step % 10 == 0:
            actions = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        results.append(env.step(actions))
    return results


def _assert_same(one: object, other: object) -> None:
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        for key in one:
            _assert_same(one[key], other[key])
    elif isinstance(one, np.ndarray) and one.dtype == object:
        for a, b in zip(one, np.asarray(other), strict=True):
            _assert_same(a, b)
    elif one is not None or other is not None:
        np.testing.assert_array_equal(one, other)  # type: ignore[arg-type]


@pytest.mark.parametrize("reward", ["once", "progress"])
def test_a_continued_run_is_the_same_to_the_bit(reward: str) -> None:
    tasks = [
        replace(_task(name, reward=reward), episode_length=120)
        for name in ("train_3x3", "train_4x4")
    ]
    envs = [_env(_suite_of(*tasks), 6, seed=5) for _ in range(2)]
    envs[0].reset()
    _play(envs[0], 75)
    envs[1].load_state_dict(envs[0].state_dict())
    before, after = (_play(env, 130, seed=1) for env in envs)
    assert sum("final_obs" in step[4] for step in before) > 3  # type: ignore[operator]
    for one, other in zip(before, after, strict=True):
        for a, b in zip(one, other, strict=True):
            _assert_same(a, b)
    for env in envs:
        env.close()


def test_a_state_from_before_the_first_episode_can_be_loaded() -> None:
    envs = [_env(SUITE, 2) for _ in range(2)]
    envs[1].load_state_dict(envs[0].state_dict())
    np.testing.assert_array_equal(*(env.reset(seed=3)[0]["task"] for env in envs))
    for env in envs:
        env.close()


def test_the_last_observation_has_the_task_vector_of_its_own_episode() -> None:
    task = replace(_task(), episode_length=40)
    env = _env(_suite_of(task), 3, seed=2)
    told = env.reset()[0]["task"]
    ends = changes = 0
    for observation, _, _, _, infos in _play(env, 100):
        for world in np.flatnonzero(infos.get("_final_obs", [])):  # type: ignore[attr-defined]
            ends += 1
            np.testing.assert_array_equal(infos["final_obs"][world]["task"], told[world])  # type: ignore[index]
            changes += bool((observation["task"][world] != told[world]).any())  # type: ignore[index]
        told = observation["task"]  # type: ignore[index]
    assert ends >= changes > 10
    env.close()


def _carry(env: PixelVectorEnv, places: np.ndarray) -> None:
    """Put the points at these places, in cells, at rest; markers and walls stay."""
    physics = env._worlds.physics  # type: ignore[attr-defined]
    positions = torch.from_numpy(places * CELL)
    mocap = physics.fields["mocap_pos"].clone()
    start = InitialState(positions, torch.zeros_like(positions), mocap)
    physics.reset(torch.ones(len(places), dtype=torch.bool), start)


def test_a_touch_is_paid_once_ends_the_episode_and_is_written_down() -> None:
    env = _env(_suite_of(_task()), 4, seed=0)
    observation, _ = env.reset()
    episodes = list(env._episode_tasks)
    goals = observation["task"] * 5.5
    far = [2.0 * TOUCH, 0.9 * TOUCH, 2.0 * TOUCH, 0.0]
    _carry(env, goals + np.array([[0.0, away] for away in far]))
    _, rewards, terminated, truncated, infos = env.step(np.zeros((4, 2), np.float32))
    assert rewards.tolist() == [0, 1, 0, 1]
    assert terminated.tolist() == [False, True, False, True]
    assert not truncated.any()
    statistics = infos["episode_statistics"]
    for world in (1, 3):
        episode = episodes[world]
        assert episode is not None
        assert statistics["layout"][world] == episode.layout
        assert statistics["path_length"][world] == episode.path_length
        assert statistics["return"][world] == 1
        assert statistics["steps_to_success"][world] == 1
    env.close()


def test_progress_pays_for_what_the_slow_search_says() -> None:
    """Along random places of a maze, by distances that are relaxed cell by cell."""
    task = _task("train_4x4", reward="progress")
    env = _env(_suite_of(task), 1, seed=3)
    env.reset()
    episode = env._episode_tasks[0]
    assert episode is not None
    maze = stored_set("train_4x4").layouts[episode.layout]
    goal = next(room for room in maze.rooms if (maze.centre(room) == episode.goal[:2]).all())
    ways = {cell: 0.0 if cell == goal else np.inf for cell in maze.free}
    for _ in maze.free:
        for row, column in maze.free:
            around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            nearest = min(ways.get(cell, np.inf) for cell in around)
            ways[row, column] = min(ways[row, column], nearest + 1)

    def by_hand(place: np.ndarray) -> float:
        row, column = min(maze.free, key=lambda c: np.abs(maze.centre(c) - place).max())
        near = [
            (row, column),
            (row - 1, column),
            (row + 1, column),
            (row, column - 1),
            (row, column + 1),
        ]
        return min(
            ways[cell] + float(np.linalg.norm(maze.centre(cell) - place))
            for cell in near
            if cell in ways
        )

    rng = np.random.default_rng(1)
    away = [cell for cell in maze.free if ways[cell] > 1]
    cells = [away[index] for index in rng.integers(len(away), size=12)]
    places = [maze.centre(cell) + rng.uniform(-0.15, 0.15, 2) for cell in cells]
    goals = torch.from_numpy(episode.goal)[None]
    before = None
    for place in places:
        _carry(env, place[None])
        assert path_length(torch.from_numpy(place[None]), goals).item() == pytest.approx(
            by_hand(place)
        )
        reward = env._worlds.family.reward(env._worlds.physics, goals).item()  # type: ignore[attr-defined]
        if before is not None:
            assert reward == pytest.approx((before - by_hand(place)) / episode.path_length)
        before = by_hand(place)
    env.close()


def test_a_single_environment_says_layout_and_length_at_the_end() -> None:
    env = SingleEnv(_env(_suite_of(replace(_task(), episode_length=20)), 1, seed=1))
    env.reset()
    for _ in range(10):
        *_, truncated, info = env.step(np.zeros(2, np.float32))
    assert truncated
    statistics = info["episode_statistics"]
    assert statistics["layout"] in stored_set("train_4x4").names
    assert isinstance(statistics["path_length"], int)
    env.close()


def test_stable_baselines3_sees_a_touch_as_a_terminal_state() -> None:
    vec = _env(_suite_of(_task()), 2, seed=0)
    env = Sb3VecEnv(vec)
    told = np.array(env.reset()["task"])  # type: ignore[call-overload]
    _carry(vec, told * 5.5 + [[0.0, 0.0], [0.0, 2 * TOUCH]])
    observation, rewards, done, infos = env.step(np.zeros((2, 2), np.float32))
    assert rewards.tolist() == [1, 0]
    assert done.tolist() == [True, False]
    assert not infos[0]["TimeLimit.truncated"]
    assert infos[0]["is_success"]
    np.testing.assert_array_equal(infos[0]["terminal_observation"]["task"], told[0])
    np.testing.assert_array_equal(observation["task"][1], told[1])  # type: ignore[call-overload]
    env.close()


def test_bodies_side_by_side_have_their_own_goals_behind_the_body() -> None:
    """A suite of two bodies: the vector says the body, then the goal, after a resume too."""
    tasks = [replace(_task(), episode_length=20)]
    tasks += [replace(load_suite(NAMES[3]).tasks("train")[0], episode_length=20)]
    suite = replace(SUITE, splits={"train": tuple(tasks)}, mixed=True)
    envs = [_env(suite, 4, seed=1) for _ in range(2)]
    told = envs[0].reset()[0]["task"]
    for world in range(4):
        episode = envs[0]._episode_tasks[world]
        assert episode is not None
        body = np.eye(2)[world % 2]
        np.testing.assert_array_equal(told[world], [*body, *episode.task_vector[2:]])
        maze = stored_set(str(tasks[world % 2].parameters["layouts"])).layouts[episode.layout]
        half_width = (5.5, 7.5)[world % 2]
        goals = [maze.centre(room) / half_width for room in maze.rooms]
        assert min(np.abs(goal - told[world, 2:]).max() for goal in goals) < 1e-6
    _play(envs[0], 4)
    envs[1].load_state_dict(envs[0].state_dict())
    before, after = (_play(env, 12, seed=1) for env in envs)
    assert any("final_obs" in step[4] for step in before)  # type: ignore[operator]
    for one, other in zip(before, after, strict=True):
        for a, b in zip(one, other, strict=True):
            _assert_same(a, b)
    for env in envs:
        env.close()


def test_parameters_name_what_is_valid() -> None:
    for key, value, named in (
        ("layouts", "labyrinths", "'layouts' must be one of branching_4x4"),
        ("goal", "told", "'goal' must be one of task_vector, picture"),
        ("reward", "latched", "'reward' must be one of once, progress"),
    ):
        values = SUITE.to_dict()
        values["splits"]["train"][0]["parameters"][key] = value
        with pytest.raises(ValueError, match=named):
            Suite.from_dict(values)


def test_the_quadruped_starts_upright_in_its_mazes() -> None:
    suite = load_suite("maze_many_quadruped")
    task = suite.tasks("geometry_largest")[0]
    family = resolve(task).for_tasks([task])
    start = family.start(task, np.random.default_rng(0))
    model = family.scene.model
    data = mujoco.MjData(model)
    data.qpos[:], data.mocap_pos[:] = start.joint_positions, start.mocap_positions
    mujoco.mj_forward(model, data)
    assert start.episode is not None
    assert data.body("torso").xmat[8] > 0.99
    assert data.ncon == 0
    assert inspect.getdoc(type(family))
