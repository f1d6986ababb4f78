"""External suites: episodes from pixels, their families against their libraries, experts."""

from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from envs import Suite, load_suite, make_vec
from envs.external import family as external
from envs.external import fetch_shim
from envs.external.env import ExternalEnv, Outcome
from envs.external.families import external_family
from envs.external.jaco import SUCCESS_REWARD, Jaco
from envs.external.maze_ascii import read_maze
from envs.external.ogbench_maze import GOALS, SIZES
from envs.external.robotics_maze import top_view
from envs.vector.external import ExternalVectorEnv
from hrl.benchmarks.env import opengl_backend

PACKAGES = {
    "metaworld_mt10": "metaworld",
    "jaco": "dm_control",
    "robotics_maze": "gymnasium_robotics",
    "robotics_fetch": "gymnasium_robotics",
    "ogbench_visual_maze": "ogbench",
}


def _needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


EVERY_SUITE = [pytest.param(name, marks=_needs(package)) for name, package in PACKAGES.items()]


def _vector(suite: Suite, num_envs: int, **arguments: Any) -> ExternalVectorEnv:
    env = make_vec(suite, num_envs, **{"threads": 2, **arguments})
    assert isinstance(env, ExternalVectorEnv)
    return env


def _first_env(name: str) -> ExternalEnv:
    task = load_suite(name).tasks("train")[0]
    return external_family(task).make_env(task)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", EVERY_SUITE)
def test_a_random_episode_of_every_task_from_pixels(name: str) -> None:
    suite = load_suite(name)
    tasks = [task for split in suite.splits.values() for task in split]
    env = _vector(suite, len(tasks), tasks=tasks)
    observation, _ = env.reset(seed=0)
    first = observation["pixels"]
    assert all(len(np.unique(image.reshape(-1, 3), axis=0)) >= 5 for image in first), (
        "something is drawn"
    )
    rng, running, moved = (
        np.random.default_rng(0),
        np.ones(len(tasks), bool),
        np.zeros(len(tasks), bool),
    )
    lengths = np.array([task.episode_length for task in tasks])
    while running.any():
        observation, reward, terminated, truncated, infos = env.step(_random(rng, env))
        assert np.isfinite(reward).all()
        moved |= running & (observation["pixels"] != first).any(axis=(1, 2, 3))
        ended = running & (terminated | truncated)
        assert (
            (infos["episode_statistics"]["length"][ended] <= lengths[ended]).all()
            if ended.any()
            else True
        )
        assert not (
            ended
            & truncated
            & (infos.get("episode_statistics", {}).get("length", lengths) != lengths)
        ).any()
        running &= ~ended
    env.close()
    assert moved.all(), "every image shows motion"


def _random(rng: np.random.Generator, env: ExternalVectorEnv) -> np.ndarray:
    return rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)


@pytest.mark.parametrize("name", EVERY_SUITE)
def test_a_start_follows_from_its_seed_alone_and_actions_matter(name: str) -> None:
    one, other = _first_env(name), _first_env(name)
    other.begin(5)
    for _ in range(3):
        other.act(np.full(9, 0.5, np.float32))
    images = []
    for world in (one, other):
        world.begin(7)
        images.append([_drawn(world)])
        for _ in range(4):
            world.act(np.full(9, 0.7, np.float32))
        images[-1].append(_drawn(world))
    np.testing.assert_array_equal(images[0][0], images[1][0])
    np.testing.assert_array_equal(images[0][1], images[1][1])
    one.begin(8)
    assert (_drawn(one) != images[0][0]).any(), "another seed, another start"
    one.close()
    other.close()


def _drawn(world: ExternalEnv, size: int = 64) -> np.ndarray:
    out = np.zeros((size, size, 3), np.uint8)
    world.draw(out)
    return out


@pytest.mark.parametrize("name", EVERY_SUITE)
def test_the_numbers_of_an_action_are_the_librarys(name: str) -> None:
    suite = load_suite(name)
    tasks = {str(task.parameters.get("robot", "")): task for task in suite.tasks("train")}
    for task in tasks.values():
        world = external_family(task).make_env(task)
        assert world.env.action_space.shape == (external_family(task).action_size(task),)
        world.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [param for param in EVERY_SUITE if param.values[0] != "robotics_fetch"]
)
def test_ray_traced_images_show_what_opengl_shows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare with the environment's own image, mirrored and upside down too.

    Fetch has another view.
    """
    backend = opengl_backend()
    if backend is None:
        pytest.skip("no OpenGL (neither egl nor osmesa works here)")
    monkeypatch.setenv("MUJOCO_GL", backend)
    suite, images = load_suite(name), []
    for render in ("ray", "opengl"):
        task = suite.tasks("train")[0]
        env = _vector(
            suite,
            1,
            tasks=[replace(task, parameters={**task.parameters, "render": render})],
            threads=1,
        )
        images.append(env.reset(seed=0)[0]["pixels"][0].astype(float))
        env.close()
    traced, drawn = images
    others = (drawn[::-1], drawn[:, ::-1], drawn[::-1, ::-1])
    apart = np.abs(traced - drawn).mean()
    assert apart < 20
    assert apart < 0.6 * min(np.abs(traced - other).mean() for other in others)


def test_suites_have_their_tasks() -> None:
    held_out = {name: list(load_suite(name).splits)[1:] for name in PACKAGES}
    assert held_out == {
        "metaworld_mt10": ["novel"],
        "jaco": ["novel"],
        "robotics_maze": ["geometry"],
        "robotics_fetch": ["novel"],
        "ogbench_visual_maze": ["interpolation", "geometry"],
    }
    mt10 = load_suite("metaworld_mt10")
    assert (
        len(mt10.tasks("train")),
        len(mt10.tasks("novel")),
        mt10.task_size,
        mt10.action_size,
    ) == (10, 5, 15, 4)
    vectors = [mt10.family.task_vector(task) for split in mt10.splits.values() for task in split]
    np.testing.assert_array_equal(vectors, np.eye(15))
    mazes = load_suite("robotics_maze")
    assert mazes.action_size == 8
    for task in mazes.all_tasks:
        assert mazes.actuator_count(task) == {"ant": 8, "point": 2}[task.parameters["robot"]]


@pytest.mark.parametrize("package", sorted({*PACKAGES.values()} - {"dm_control"}))
def test_a_missing_package_is_named_with_its_command_before_a_process_is_started(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "find_spec", lambda name: None)
    message = f"'{package}' is not installed: pip install {external.REQUIREMENTS[package]}"
    for name in (name for name, needed in PACKAGES.items() if needed == package):
        with pytest.raises(ValueError, match=message):
            make_vec(load_suite(name), 1)
        with pytest.raises(ValueError, match=message):
            load_suite(name).check_installed()


def test_requirements_are_those_of_the_extra() -> None:
    settings = ConfigParser()
    settings.read(Path(__file__).parents[3] / "setup.cfg")
    extra = settings["options.extras_require"]["external"].split()
    assert {*external.REQUIREMENTS.values()} <= {*extra}


# Meta-World.


@_needs("metaworld")
def test_metaworlds_tasks_are_the_packages() -> None:
    package: Any = import_module("metaworld.env_dict")
    suite = load_suite("metaworld_mt10")
    assert [task.parameters["task"] for task in suite.tasks("train")] == list(package.MT10_V3)
    novel = {str(task.parameters["task"]) for task in suite.tasks("novel")}
    assert set(package.ML10_V3["test"]) - set(package.MT10_V3) <= novel
    assert novel <= set(package.ALL_V3_ENVIRONMENTS) - set(package.MT10_V3)
    assert all(task.episode_length == 500 for task in suite.tasks("train"))


@_needs("metaworld")
def test_metaworld_is_upright() -> None:
    """Find up in the world up in the image, and the arm's base, at the far left, on the left."""
    task = load_suite("metaworld_mt10").tasks("train")[0]
    world = external_family(task).make_env(task)
    world.begin(0)
    renderer: Any = world._renderer
    model, data = renderer._state()
    pose = renderer._view.pose(model, data)
    assert pose.rotation[2, 1] > 0.5
    assert abs(pose.rotation[2, 0]) < 0.1
    assert np.linalg.det(pose.rotation) == pytest.approx(1.0)
    base = (data.body("base").xpos - pose.position) @ pose.rotation
    assert base[0] < 0
    world.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@_needs("metaworld")
def test_metaworlds_experts_solve_its_tasks_through_the_adapter() -> None:
    """Three seeded episodes of each of the ten tasks: at least 28 of 30 succeed."""
    policies: Any = import_module("metaworld.policies")
    suite = replace(load_suite("metaworld_mt10"), action_repeat=1)
    tasks = suite.tasks("train")
    env = _vector(suite, 3 * len(tasks), evaluation=True, seed=0, image_size=8)
    names = [str(task.parameters["task"]) for task in tasks]
    experts = [
        policies.ENV_POLICY_MAP[names[index % len(names)]]() for index in range(env.num_envs)
    ]
    env.reset()
    solved = np.zeros(env.num_envs, bool)
    for _ in range(500):
        wanted = [
            expert.get_action(env.own_observation(index)) for index, expert in enumerate(experts)
        ]
        *_, infos = env.step(np.clip(np.stack(wanted), -1, 1).astype(np.float32))
        solved |= infos["success"]
    env.close()
    assert infos["_episode_statistics"].all()
    np.testing.assert_array_equal(infos["episode_statistics"]["success"], solved)
    unsolved = [tasks[index % len(tasks)].name for index in np.flatnonzero(~solved)]
    assert solved.sum() >= 28, f"unsolved: {unsolved}"


# Jaco.


def test_jacos_success_is_a_full_reward_and_its_time_limit_truncates() -> None:
    task = load_suite("jaco").tasks("train")[0]
    world = Jaco().make_env(task)
    world.begin(0)
    env: Any = world.env
    own, physics = env._env.task, env._env.physics

    def play(steps: int, away: float) -> list[Outcome]:
        """Keep still, with the site that has to be reached so many metres away from the hand."""
        physics.bind(own._target).pos = physics.bind(own._hand.tool_center_point).xpos + np.array(
            [away, 0, 0]
        )
        return [world.act(np.zeros(9, np.float32)) for _ in range(steps)]

    outcomes = play(100, 0.5) + play(task.episode_length - 100, 0.0)
    assert [outcome.success for outcome in outcomes[98:102]] == [False, False, True, True]
    assert all(outcome.success == (outcome.reward >= SUCCESS_REWARD) for outcome in outcomes)
    assert not any(outcome.terminated for outcome in outcomes)
    assert [outcome.truncated for outcome in outcomes] == [False] * 249 + [True]
    world.close()


# Gymnasium-Robotics.


def test_a_maze_is_read_from_text() -> None:
    maze = read_maze("#####/#g..#/###.#/#r..#/#####")
    assert (maze.start, maze.goal, maze.size) == ((3, 1), (1, 1), (5, 5))
    np.testing.assert_array_equal(maze.goal_place, [-1, 1])
    assert maze.cells()[1] == [1, "g", 0, 0, 1]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("####/#rg#/###", "of one length"),
        ("", "of one length"),
        ("####/#rX#/####", "got 'X'"),
        ("####/#rg./####", "walls all round"),
        ("####/#r.#/####", "exactly one 'g', got 0"),
        ("#####/#rrg#/#####", "exactly one 'r', got 2"),
        ("#####/#r#g#/#####", "a way from its start"),
    ],
)
def test_a_wrong_maze_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_maze(text)
    values = load_suite("robotics_maze").to_dict()
    values["splits"]["train"][0]["parameters"]["maze"] = text
    with pytest.raises(ValueError, match=f"'maze'.*{named}"):
        Suite.from_dict(values)


@_needs("gymnasium_robotics")
def test_a_maze_is_played_as_it_is_written() -> None:
    suite = load_suite("robotics_maze")
    for task in suite.tasks("train"):
        world = external_family(task).make_env(task)
        env: Any = world.env.unwrapped
        side = env.maze.maze_size_scaling
        east, north, robot = suite.family.task_vector(task)
        assert robot == (1 if task.parameters["robot"] == "ant" else -1)
        for seed in range(3):
            world.begin(seed)
            np.testing.assert_allclose(env.goal / side, 6 * np.array([east, north]), atol=0.2501)
            np.testing.assert_array_equal(env.data.site("target").xpos[:2], env.goal)
        world.close()


@_needs("gymnasium_robotics")
def test_the_whole_maze_is_in_the_image_and_the_goal_is_red() -> None:
    for task in load_suite("robotics_maze").tasks("train"):
        world = external_family(task).make_env(task)
        world.begin(1)
        image = _drawn(world).astype(int)
        rows, columns = np.nonzero((image[..., 0] > 120) & (image[..., 1:].max(axis=-1) < 60))
        own: Any = world.env.unwrapped
        view = top_view(read_maze(str(task.parameters["maze"])).size, own.maze.maze_size_scaling)
        span = (
            2
            * np.tan(np.radians(view.field / 2))
            * (view.distance - own.data.site("target").xpos[2])
        )
        expected = [0.5 - own.goal[1] / span, 0.5 + own.goal[0] / span]
        np.testing.assert_allclose([rows.mean() / 64, columns.mean() / 64], expected, atol=0.03)
        world.close()


@_needs("gymnasium_robotics")
def test_fetchs_shim_makes_the_helpers_agree_with_mujoco() -> None:
    """Joint positions and welds as the helpers give them, against mujoco's own accessors."""
    mujoco_utils: Any = import_module("gymnasium_robotics.utils.mujoco_utils")
    world = _first_env("robotics_fetch")
    world.begin(0)
    env: Any = world.env.unwrapped
    for joint in range(env.model.njnt):
        name, first = env.model.joint(joint).name, env.model.jnt_qposadr[joint]
        value = mujoco_utils.get_joint_qpos(env.model, env.data, name)
        count = {mujoco.mjtJoint.mjJNT_FREE: 7}.get(
            mujoco.mjtJoint(int(env.model.jnt_type[joint])), 1
        )
        np.testing.assert_array_equal(value, env.data.qpos[first : first + count])
    env.data.mocap_pos[:] = 9.0
    mujoco_utils.reset_mocap2body_xpos(env.model, env.data)
    np.testing.assert_array_equal(env.data.mocap_pos[0], env.data.body("robot0:gripper_link").xpos)
    world.close()


@_needs("gymnasium_robotics")
def test_fetch_moves_where_its_action_points_and_reports_success() -> None:
    world = _first_env("robotics_fetch")
    world.begin(3)
    env: Any = world.env.unwrapped
    outcomes = []
    for _ in range(40):
        gap = env.goal - env.data.site("robot0:grip").xpos
        outcomes.append(world.act(np.array([*np.clip(10 * gap, -1, 1), 0], np.float32)))
    assert outcomes[-1].success
    assert not outcomes[0].success
    assert -0.05 < outcomes[-1].reward <= 0
    world.close()


def test_the_shim_is_refused_for_versions_it_was_not_tried_on() -> None:
    with pytest.raises(ValueError, match=r"mujoco 4\.0\.0.*tried on mujoco 3\.16 only"):
        fetch_shim.apply("4.0.0")
    with pytest.raises(ValueError, match=r"mujoco 3\.12\.1"):
        fetch_shim.apply("3.12.1")
    fetch_shim.apply("3.11.0")


# OGBench.


@_needs("ogbench")
def test_ogbenchs_goals_are_the_packages() -> None:
    for maze, goals in GOALS.items():
        values = load_suite("ogbench_visual_maze").to_dict()
        task = replace(
            load_suite("ogbench_visual_maze").tasks("train")[0],
            parameters={"maze": maze, "goal": 1, "render": "ray"},
        )
        world = external_family(task).make_env(task)
        env: Any = world.env.unwrapped
        assert env.maze_map.shape == SIZES[maze]
        assert tuple(info["goal_ij"] for info in env.task_infos) == goals
        assert values["reference_return"] == 0
        world.close()


def _whole(goal: float) -> Callable[[], None]:
    def play() -> None:
        task = load_suite("ogbench_visual_maze").tasks("train")[0]
        changed = replace(task, parameters={**task.parameters, "goal": goal})
        external_family(changed).check(changed)

    return play


def test_a_goal_between_two_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number from 1 to 5, got 2"):
        _whole(2.5)()
    with pytest.raises(ValueError, match="from 1 to 5"):
        _whole(6.0)()
