"""Rewards, start states and success of the families, in numbers worked out by hand."""

import mujoco
import numpy as np
import pytest
import torch

from envs import Task, load_suite, make_vec
from envs.families import resolve
from envs.families.joints import random_joint_positions
from envs.families.point_mass import NEAREST_START, PointMass
from envs.families.suite_models import suite_model
from envs.families.walker_speed import WalkerSpeed
from envs.simulation.physics import Physics
from envs.vector.episodes import Episodes, episode_rng
from tests.envs.puppet import at_heights, goal_rows, puppet
from tests.envs.small import one_task, short_suite

STANDING = 1.3


def _mass_at(*places: tuple[float, float]) -> Physics:
    return puppet({"pointmass": [[x, y, 0.01] for x, y in places]})


def _walking(speeds: list[float], height: float = STANDING, upright: float = 1.0) -> Physics:
    count = len(speeds)
    velocity = {"torso_subtreelinvel": [[speed, 9.0, 9.0] for speed in speeds]}
    return puppet(at_heights(torso=[height] * count), velocity, [upright] * count)


def test_point_mass_reward_falls_linearly_with_the_planar_distance() -> None:
    distances = [0.0, 0.03, 0.06, 0.18, 0.33, 0.5]
    physics = _mass_at(*[(0.1 + distance, -0.1) for distance in distances])
    goals = goal_rows(*[(0.1, -0.1)] * 6)
    family = PointMass()
    assert family.reward(physics, goals).tolist() == pytest.approx([1, 1, 0.9, 0.5, 0, 0])
    near = _mass_at((0.1, 0.0), (0.1, -0.08))
    assert family.holding(near, goals[:2], torch.ones(2)).tolist() == [False, True]


def test_point_mass_starts_away_from_the_target_and_uniformly_elsewhere() -> None:
    task = load_suite("point_mass").tasks("train")[0]
    family, target = PointMass(), np.array(task.parameters["target"])
    starts = np.stack(
        [family.start(task, episode_rng(1, "train", 0, e)).joint_positions for e in range(2000)]
    )
    assert np.linalg.norm(starts - target, axis=1).min() >= NEAREST_START
    assert np.abs(starts).max() <= 0.29
    # Two equal areas far from the target are visited equally often: 2000 / (allowed area / box
    # area).
    corners = [((starts * sign) > [0.1, 0.1]).all(axis=1).sum() for sign in ([-1, -1], [1, -1])]
    low = ((starts * [-1, -1]) > [0.0, 0.0]).all(axis=1).sum()
    assert low / corners[0] == pytest.approx(0.29**2 / 0.19**2, rel=0.12)
    start = family.start(task, episode_rng(1, "train", 0, 0))
    np.testing.assert_array_equal(start.mocap_positions[0, :2], target)


@pytest.mark.parametrize(
    ("target", "speeds", "expected"),
    [
        (0.0, [-1.25, -0.75, -0.25, 0.0, 0.25, 0.75, 1.25], [0, 0.5, 1, 1, 1, 0.5, 0]),
        (1.0, [0.0, 0.75, 1.0, 1.25, 1.75, 2.25, 8.0], [0.25, 1, 1, 1, 0.5, 0, 0]),
        (4.0, [0.0, 1.75, 3.75, 4.25, 6.25, 8.25], [0.0625, 0.5, 1, 1, 0.5, 0]),
        (-2.0, [0.0, -0.75, -1.75, -2.0, -3.25, -4.25, 2.0], [0.125, 0.5, 1, 1, 0.5, 0, 0]),
    ],
)
def test_walker_speed_rewards_neither_too_slow_nor_too_fast(
    target: float, speeds: list[float], expected: list[float]
) -> None:
    goals = goal_rows(*[(target,)] * len(speeds))
    assert WalkerSpeed().reward(_walking(speeds), goals).tolist() == pytest.approx(expected)


def test_walker_speed_is_worth_less_on_the_ground() -> None:
    """Posture: (3 * standing + upright) / 4, where standing falls to 0.1 at half the height."""
    family, goals = WalkerSpeed(), goal_rows((1.0,))
    assert family.reward(_walking([1.0], height=0.6), goals).item() == pytest.approx(
        (3 * 0.1 + 1) / 4
    )
    assert family.reward(_walking([1.0], upright=0.0), goals).item() == pytest.approx((3 + 0.5) / 4)
    assert family.reward(_walking([1.0], height=0.6, upright=-1.0), goals).item() == pytest.approx(
        0.075
    )
    for reward, success in ((0.79, False), (0.81, True)):
        assert family.holding(_walking([1.0]), goals, torch.tensor([reward])).tolist() == [success]


def test_the_walkers_floor_reaches_as_far_backwards_as_forwards() -> None:
    floor = WalkerSpeed.scene.model.geom("floor")
    assert (floor.pos[0] - floor.size[0], floor.pos[0] + floor.size[0]) == (-500, 500)
    compat = resolve(load_suite("compat_walker").tasks("train")[0]).scene.model.geom("floor")
    assert floor.size[0] == 2 * compat.size[0]


def test_success_takes_as_long_as_the_family_says() -> None:
    task = Task("a", "walker_speed", {"speed": 0.0}, 100, 0)
    episodes = Episodes([task], 2, hold_steps=[3])
    episodes.begin(np.ones(2, bool))
    holding = [[True, True], [True, True], [False, True], [True, False], [True, True], [True, True]]
    results = [episodes.advance(np.ones(2), np.array(row)).tolist() for row in holding]
    assert results == [[False, False]] * 2 + [
        [False, True],
        [False, False],
        [False, False],
        [True, False],
    ]
    assert episodes.statistics()["success"].tolist() == [True, True]
    assert episodes.statistics()["return"].tolist() == [6, 6]
    assert episodes.statistics()["steps_to_success"].tolist() == [6, 3], "of the first one"
    episodes.begin(np.array([False, True]))
    assert episodes.statistics()["steps_to_success"].tolist() == [6, 0]
    assert episodes.statistics()["success"].tolist() == [True, False]


def test_steps_to_success_are_those_that_were_played() -> None:
    """Of an episode that began part of the way, as its length is."""
    episodes = Episodes([Task("a", "walker_speed", {"speed": 0.0}, 100, 0)], 2, hold_steps=[1])
    episodes.begin(np.ones(2, bool))
    episodes.set_initial_step(1, share=0.5, multiple=2)
    for holding in ([False, False], [True, True], [True, True]):
        episodes.advance(np.zeros(2), np.array(holding))
    assert episodes.statistics()["steps_to_success"].tolist() == [2, 2]
    assert episodes.statistics()["length"].tolist() == [3, 3]


def test_a_driven_mass_reaches_its_target_and_that_is_a_success() -> None:
    suite = short_suite(length=1000)
    env = make_vec(suite, 4, image_size=8, threads=1)
    env.reset(seed=0)
    targets = np.array([task.parameters["target"] for task in env.tasks])
    rewards = []
    for _ in range(500):
        state = env.state_dict()["physics"]
        place, velocity = state[:, 1:3], state[:, 3:5]
        action = np.clip(60 * (targets - place) - 20 * velocity, -1, 1).astype(np.float32)
        _, reward, _, _, infos = env.step(action)
        rewards.append(reward)
    assert infos["episode_statistics"]["success"].all()
    assert infos["success"].all()
    np.testing.assert_allclose(rewards[-1], 2)
    assert (infos["episode_statistics"]["return"] > 800).all()
    env.close()


@pytest.mark.parametrize("moving", [False, True])
def test_doing_nothing_or_anything_earns_little(moving: bool) -> None:
    env = make_vec(short_suite(length=1000), 32, image_size=8, threads=2)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(500):
        action = (
            rng.uniform(-1, 1, (32, 2)).astype(np.float32)
            if moving
            else np.zeros((32, 2), np.float32)
        )
        infos = env.step(action)[-1]
    assert infos["episode_statistics"]["return"].mean() < 60
    assert not infos["episode_statistics"]["success"].any()
    env.close()


def test_task_vectors_are_scaled() -> None:
    point, walker = load_suite("point_mass"), load_suite("walker_speed")
    np.testing.assert_allclose(point.family.task_vector(point.tasks("train")[0]), [0.5, 0.5])
    np.testing.assert_allclose(
        walker.family.task_vector(walker.tasks("extrapolation_far")[0]), [1.0]
    )
    np.testing.assert_allclose(walker.family.task_vector(walker.tasks("novel")[1]), [-0.25])


def test_joints_that_no_family_has_are_refused() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body><joint type="ball"/><geom size=".1"/></body></worldbody></mujoco>'
    )
    with pytest.raises(ValueError, match="ball joints"):
        random_joint_positions(model, np.random.default_rng(0))
    with pytest.raises(FileNotFoundError, match="walkr"):
        suite_model("walkr")


def test_one_suite_can_be_played_with_any_of_its_tasks() -> None:
    suite = load_suite("walker_speed")
    env = make_vec(suite, 1, suite.tasks("novel"), image_size=8)
    assert env.reset(seed=0)[0]["task"].tolist() == [[-0.125]]
    assert one_task(short_suite())[0].name == "north_east"
    env.close()
