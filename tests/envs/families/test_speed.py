"""The cheetah and the quadruped at a speed, in numbers worked out by hand; the walker is in
test_families."""

import mujoco
import numpy as np
import pytest
import torch
from dm_control import suite
from dm_control.suite import quadruped as dm_quadruped

from envs import load_suite
from envs.families import cheetah, contacts
from envs.families.cheetah_speed import CheetahSpeed
from envs.families.contacts import lifted
from envs.families.family import number
from envs.families.quadruped_speed import QuadrupedSpeed
from envs.families.speed import SpeedFamily, two_sided
from envs.simulation.physics import Physics
from envs.vector.episodes import episode_rng
from tests.envs.puppet import goal_rows, puppet
from tests.envs.segmentation import shown_geoms

SPLITS = {
    "cheetah_speed": {
        "train": [2, 4, 6, 8],
        "interpolation": [3, 5, 7],
        "extrapolation_far": [10],
        "novel": [-4],
    },
    "quadruped_speed": {
        "train": [0, 0.5, 1, 2, 3],
        "interpolation": [0.75, 1.5, 2.5],
        "extrapolation_far": [4, 5],
        "novel": [-0.5, -1],
    },
}


def _cheetah_at(*speeds: float) -> Physics:
    return puppet(sensors={"torso_subtreelinvel": [[speed, 9.0, 9.0] for speed in speeds]})


def _quadruped_at(*speeds: float, upright: float = 1.0) -> Physics:
    return puppet(
        sensors={"velocimeter": [[speed, 9.0, 9.0] for speed in speeds]},
        upright=[upright] * len(speeds),
    )


@pytest.mark.parametrize("name", SPLITS)
def test_speeds_are_the_studys(name: str) -> None:
    suite_ = load_suite(name)
    plain = {
        split: tasks
        for split, tasks in suite_.splits.items()
        if not any(task.variations() for task in tasks)
    }
    speeds = {split: [number(task, "speed") for task in tasks] for split, tasks in plain.items()}
    assert speeds == SPLITS[name]
    fastest = 10 if name == "cheetah_speed" else 5
    for tasks in suite_.splits.values():
        for task in tasks:
            vector = suite_.family.task_vector(task)
            np.testing.assert_allclose(vector, [number(task, "speed") / fastest], rtol=1e-6)


def test_too_fast_is_as_wrong_as_too_slow() -> None:
    """Full within half a width, then down to 0 over the target's own size or 1 m/s."""
    target = torch.tensor([4.0, 4.0, 4.0, 4.0, 0.5, -2.0, 0.0])
    speed = torch.tensor([3.75, 4.25, 1.75, 6.25, 0.0, -3.25, 1.25])
    expected = [1, 1, 0.5, 0.5, 0.75, 0.5, 0.0]
    assert two_sided(speed, target, half_width=0.25).tolist() == pytest.approx(expected)


def test_the_cheetahs_reward_depends_on_speed_alone() -> None:
    speeds = [0.0, 1.75, 3.75, 4.25, 8.25, -4.0]
    rewards = CheetahSpeed().reward(_cheetah_at(*speeds), goal_rows(*[(4.0,)] * 6))
    assert rewards.tolist() == pytest.approx([0.0625, 0.5, 1, 1, 0, 0])
    backwards = CheetahSpeed().reward(_cheetah_at(-4.0, 4.0), goal_rows((-4.0,), (-4.0,)))
    assert backwards.tolist() == pytest.approx([1, 0])


def test_the_quadrupeds_reward_is_its_speed_times_its_uprightness() -> None:
    family, targets = QuadrupedSpeed(), goal_rows((0.5,), (0.5,), (2.0,), (-1.0,))
    speeds = (0.0, 0.6, 3.1, -1.05)
    expected = np.array([0.6, 1.0, 0.5, 1.0])
    for upright, share in ((1.0, 1.0), (0.0, 0.5), (-1.0, 0.0), (1 + 1e-12, 1.0)):
        rewards = family.reward(_quadruped_at(*speeds, upright=upright), targets)
        np.testing.assert_allclose(rewards, share * expected, atol=1e-9)
        assert rewards.max() <= 1


@pytest.mark.parametrize("family", [CheetahSpeed(), QuadrupedSpeed()])
def test_success_is_a_second_of_good_reward(family: SpeedFamily) -> None:
    assert (
        family.hold_steps * family.scene.substeps * family.scene.model.opt.timestep
        == pytest.approx(1)
    )
    rewards = torch.tensor([0.79, 0.81])
    assert family.holding(_cheetah_at(0.0, 0.0), goal_rows((0.0,), (0.0,)), rewards).tolist() == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("family", "floor", "seconds"),
    [(CheetahSpeed(), "ground", 10.0), (QuadrupedSpeed(), "floor", 20.0)],
)
def test_floors_reach_as_far_as_the_fastest_body_can_go(
    family: SpeedFamily, floor: str, seconds: float
) -> None:
    geom = family.scene.model.geom(floor)
    farthest = family.fastest * seconds
    assert geom.pos[0] - geom.size[0] <= -farthest
    assert geom.pos[0] + geom.size[0] >= farthest


def test_the_cheetah_settles_as_in_dm_control() -> None:
    """The same joint angles, the same two seconds of falling, to the last bit but two."""
    model = CheetahSpeed.scene.model
    environment = suite.load("cheetah", "run")
    rng = np.random.default_rng(0)
    for _ in range(3):
        angles = rng.uniform(*model.jnt_range[model.jnt_limited.astype(bool)].T)
        environment.task._random = _Fixed(angles)
        environment.reset()
        positions = np.concatenate([np.zeros(3), angles])
        start = cheetah.settled(model, positions)
        np.testing.assert_allclose(start.joint_positions, environment.physics.data.qpos, atol=1e-12)
        np.testing.assert_allclose(
            start.joint_velocities, environment.physics.data.qvel, atol=1e-11
        )
        assert np.abs(start.joint_positions - positions).max() > 0.1


def test_the_quadruped_is_lifted_as_in_dm_control() -> None:
    model = QuadrupedSpeed.scene.model
    physics = suite.load("quadruped", "run").physics
    rng = np.random.default_rng(0)
    heights = []
    for _ in range(4):
        orientation = rng.standard_normal(4)
        orientation /= np.linalg.norm(orientation)
        dm_quadruped._find_non_contacting_height(physics, orientation)
        start = lifted(model, orientation)
        np.testing.assert_array_equal(start.joint_positions, physics.data.qpos)
        assert not start.joint_velocities.any()
        heights.append(start.joint_positions[2])
        assert _contacts(model, start.joint_positions) == 0
        assert _contacts(model, start.joint_positions - 0.01 * np.eye(model.nq)[2]) > 0
    assert np.std(heights) > 0.03


def test_the_quadruped_starts_in_every_orientation() -> None:
    """Uniform on the sphere of unit quaternions: each number squared is 1/4 on average and signs
    are even."""
    family, task = QuadrupedSpeed(), load_suite("quadruped_speed").tasks("train")[0]
    starts = [
        family.start(task, episode_rng(1, "train", 0, episode)).joint_positions[3:7]
        for episode in range(300)
    ]
    np.testing.assert_allclose(np.linalg.norm(starts, axis=1), 1)
    np.testing.assert_allclose(np.square(starts).mean(axis=0), 0.25, atol=0.05)
    np.testing.assert_allclose(np.sign(starts).mean(axis=0), 0, atol=0.15)


def test_a_quadruped_that_always_touches_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contacts, "contacts", lambda model, data: 1)
    with pytest.raises(RuntimeError, match="touches itself"):
        lifted(QuadrupedSpeed.scene.model, np.array([1.0, 0.0, 0.0, 0.0]))


def test_front_legs_can_be_distinguished_from_hind_legs() -> None:
    """At 64x64, upright and seen from its left: dozens of pixels of either, and only the front is
    nearly white."""
    model = QuadrupedSpeed.scene.model
    shown = shown_geoms(QuadrupedSpeed.scene, model.qpos0[None], np.zeros((1, 0, 3)))[0]
    legs = {
        end: [model.geom(f"{part}_{end}_left").id for part in ("thigh", "shin", "foot")]
        for end in ("front", "back")
    }
    assert all(np.isin(shown, ids).sum() >= 12 for ids in legs.values())
    colours = {end: model.geom_rgba[ids[0]] for end, ids in legs.items()}
    assert colours["front"][:3].min() > 0.85
    assert model.mat("self").rgba[2] < 0.5
    assert model.geom_matid[legs["front"]].tolist() == [-1] * 3


class _Fixed:
    """A random state whose every draw is the same."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def uniform(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return self._values


def _contacts(model: mujoco.MjModel, positions: np.ndarray) -> int:
    data = mujoco.MjData(model)
    data.qpos[:] = positions
    mujoco.mj_forward(model, data)
    return int(data.ncon)
