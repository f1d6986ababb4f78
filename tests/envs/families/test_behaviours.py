"""Behaviours beside speed: rewards worked out by hand, task vectors, success and errors."""

import mujoco
import numpy as np
import pytest
import torch

from envs import Suite, Task, load_suite
from envs.families import cheetah_behaviours, quadruped_behaviours, resolve, walker_behaviours
from envs.families.behaviours import BehaviourFamily
from envs.families.cheetah_speed import CheetahSpeed
from envs.families.family import number
from envs.families.speed import SpeedFamily
from envs.families.walker_speed import WalkerSpeed
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState, Physics
from tests.envs.puppet import at_heights, goal_rows, puppet

BODIES = ("walker", "cheetah", "quadruped")
NOVEL = {
    "walker": ["legs_up", "arabesque", "headstand"],
    "cheetah": ["jump", "run_front", "run_back", "stand_front", "stand_back", "lie_down"],
    "quadruped": ["stand", "jump", "roll"],
}
# The value of a reward at its margin, with dm_control's default sigmoid.
EDGE = 0.1


def _family(body: str) -> BehaviourFamily:
    family = load_suite(f"{body}_behaviours").family
    assert isinstance(family, BehaviourFamily)
    return family


def _rewards(body: str, behaviour: str, physics: Physics, speeds: list[float]) -> list[float]:
    task = Task("a", f"{body}_behaviours", {"behaviour": behaviour, "speed": speeds[0]}, 1000, 0)
    family = resolve(task)
    goal = torch.from_numpy(family.goal(task)).repeat(len(speeds), 1)
    goal[:, 1] = torch.tensor(speeds)
    return [round(value, 9) for value in family.reward(physics, goal).tolist()]


def _walker(
    torso: list[float],
    hips: list[float],
    left: list[float],
    right: list[float],
    upright: list[float],
) -> Physics:
    heights = {
        "torso": torso,
        "left_thigh": hips,
        "right_thigh": hips,
        "left_foot": left,
        "right_foot": right,
    }
    still = {"torso_subtreelinvel": [[0.0, 0.0, 0.0]] * len(torso)}
    return puppet(at_heights(**heights), still, upright)


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        # On its back: torso and hips on the floor, feet at 1.1 m; the second with its torso a
        # margin too high.
        ("legs_up", [(3 + 2 + 1 + 0.5) / 7, (3 * EDGE + 2 + 1 + 0.5) / 7, None, None]),
        # The third stands on its left foot; the fourth stands on its head, its feet half a meter
        # too low.
        ("arabesque", [None, None, (3 + 1 + 1 + 0) / 6, None]),
        ("headstand", [None, None, None, (3 * EDGE + 2) / 5]),
    ],
)
def test_the_walkers_behaviours(behaviour: str, expected: list[float | None]) -> None:
    physics = _walker(
        torso=[0.08, 0.12, 1.0, 0.5],
        hips=[0.08, 0.0, 0.9, 1.0],
        left=[1.1, 1.0, 0.08, 0.55],
        right=[1.1, 1.2, 1.0, 0.55],
        upright=[0.0, 0.0, 1.0, -1.0],
    )
    rewards = _rewards("walker", behaviour, physics, [0.0] * 4)
    for reward, value in zip(rewards, expected, strict=True):
        assert 0 <= reward <= 1
        assert value is None or reward == pytest.approx(value)


@pytest.mark.parametrize(
    ("behaviour", "speed", "expected"),
    [
        ("jump", 0.0, [1, (5 * EDGE + 1) / 6, (5 * (1 + EDGE) / 2 + 0.5) / 6, 5 / 6]),
        ("stand_front", 0.0, [1, (5 * EDGE + 1) / 6, (5 + 0.5) / 6, 5 / 6]),
        ("stand_back", 0.0, [1, (5 * EDGE + 1) / 6, (5 * EDGE + 0.5) / 6, 5 / 6]),
        ("run_front", 6.0, [1 / 6, EDGE / 6, (3 + 2 * EDGE) / 5 * (5 * 0.75 / 6 + 1) / 6, 1]),
        ("run_back", 6.0, [1 / 6, EDGE / 6, None, 1]),
        ("lie_down", 0.0, [0, None, None, 0]),
    ],
)
def test_the_cheetahs_behaviours(
    behaviour: str, speed: float, expected: list[float | None]
) -> None:
    """In the air and still; half as high; back foot up at 0.75 m/s; in the air and running."""
    heights = at_heights(
        torso=[1.2, 0.6, 0.6, 1.2], ffoot=[1.2, 0.6, 0.6, 1.2], bfoot=[1.2, 0.6, 1.8, 1.2]
    )
    velocities = {"torso_subtreelinvel": [[speed, 0.0, 0.0] for speed in (0.0, 0.0, 0.75, 8.0)]}
    rewards = _rewards("cheetah", behaviour, puppet(heights, velocities), [speed] * 4)
    for reward, value in zip(rewards, expected, strict=True):
        assert 0 <= reward <= 1
        assert value is None or reward == pytest.approx(value, abs=1e-8)


def test_a_lying_cheetah() -> None:
    heights = at_heights(torso=[0.25, 0.375, 0.5], ffoot=[0.0, 0.5, 0.75], bfoot=[0.5, 0.25, 0.75])
    velocities = {"torso_subtreelinvel": [[0.0, 0.0, 0.0]] * 3}
    rewards = _rewards("cheetah", "lie_down", puppet(heights, velocities), [0.0] * 3)
    assert rewards == pytest.approx([1, (3 * 0.5 + 0.5) / 4, 0])


def test_the_quadrupeds_tasks() -> None:
    velocities = [[0.0, 0.0, 0.25], [3.0, 4.0, 0.0], [0.0, -0.5, 0.0]]
    sensors = {
        "velocimeter": velocities,
        "center_of_mass": [[9.0, 9.0, height] for height in (0.5, 1.0, 1.2)],
    }
    physics = puppet(sensors=sensors, upright=[1.0, 0.0, 1.0])
    assert _rewards("quadruped", "stand", physics, [0.0] * 3) == [1, 0.5, 1]
    assert _rewards("quadruped", "jump", physics, [0.0] * 3) == [0.75, 0.5, 1]
    assert _rewards("quadruped", "roll", physics, [0.5, 5.0, 1.0]) == pytest.approx(
        [0.75, 0.5, 0.75]
    )


def test_heights_are_those_of_the_models_bodies() -> None:
    """At rest as modelled, from the offsets in dm_control's files: joints at 0, feet where the
    chain ends."""
    physics = MujocoPhysics(CheetahSpeed.scene, 1, 8, threads=1)
    torso, front, back = 0.7, 0.7 - 0.24 - 0.18, 0.7 - 0.25 - 0.14
    raised = [EDGE ** (((1.2 - (torso + foot) / 2) / 0.6) ** 2) for foot in (front, back)]
    expected = (5 * np.mean(raised) + 1) / 6
    reward = cheetah_behaviours.jump(physics, torch.zeros(1)).item()
    assert reward == pytest.approx(expected, rel=1e-9)
    physics.close()
    physics = MujocoPhysics(WalkerSpeed.scene, 1, 8, threads=1)
    # Head down with the hips at 1 m: feet 0.95 m above the hips.
    start = InitialState.of(physics.model, 1)
    start.joint_positions[0, physics.model.joint("rooty").qposadr[0]] = np.pi
    start.joint_positions[0, physics.model.joint("rootz").qposadr[0]] = 1.0 - 1.3 - 0.3
    physics.reset(torch.ones(1, dtype=torch.bool), start)
    assert walker_behaviours.headstand(physics, torch.zeros(1)).item() == pytest.approx(1)
    assert physics.body_position("left_foot")[0, 2].item() == pytest.approx(1.95)
    physics.close()


def test_the_quadrupeds_jump_reads_the_centre_of_mass() -> None:
    family = _family("quadruped")
    physics = MujocoPhysics(family.scene, 2, 8, threads=1)
    start = InitialState.of(physics.model, 2)
    start.joint_positions[:, 2] += torch.tensor([0.0, 2.0])
    physics.reset(torch.ones(2, dtype=torch.bool), start)
    data = mujoco.MjData(physics.model)
    mujoco.mj_forward(physics.model, data)
    height = data.subtree_com[physics.model.body("torso").id, 2]
    assert quadruped_behaviours.jump(physics, torch.zeros(2)).tolist() == pytest.approx(
        [0.5 + height / 2, 1]
    )
    physics.close()


@pytest.mark.parametrize("body", BODIES)
def test_a_behaviour_suite_is_the_speed_suite_and_novel_behaviours(body: str) -> None:
    speeds, both = load_suite(f"{body}_speed"), load_suite(f"{body}_behaviours")
    assert both.family.scene is speeds.family.scene
    for split, tasks in speeds.splits.items():
        shared = both.tasks(split)[: len(tasks)]
        assert [task.name for task in shared] == [task.name for task in tasks]
        assert [task.evaluation_seed for task in shared] == [task.evaluation_seed for task in tasks]
        for task, other in zip(tasks, shared, strict=True):
            assert other.parameters == {"behaviour": "speed", **task.parameters}
            assert other.variations() == task.variations()
    added = both.tasks("novel")[len(speeds.tasks("novel")) :]
    assert [task.parameters["behaviour"] for task in added] == NOVEL[body]
    assert sum(map(len, both.splits.values())) == sum(map(len, speeds.splits.values())) + len(added)


@pytest.mark.parametrize("body", BODIES)
def test_the_task_vector_says_speed_and_behaviour(body: str) -> None:
    suite = load_suite(f"{body}_behaviours")
    fastest = max(number(task, "speed") for task in suite.tasks("extrapolation_far"))
    names = ["speed", *NOVEL[body]]
    for task in (*suite.tasks("train"), *suite.tasks("novel")):
        one_hot = [float(task.parameters["behaviour"] == name) for name in names]
        expected = [number(task, "speed") / fastest, *one_hot]
        np.testing.assert_allclose(suite.family.task_vector(task), expected, rtol=1e-6)
    assert suite.task_size == 1 + len(names)


@pytest.mark.parametrize("body", BODIES)
def test_speed_tasks_earn_what_they_earn_in_the_speed_family(body: str) -> None:
    """One batch of worlds that follow all tasks of a suite, in motion."""
    suite, speeds = load_suite(f"{body}_behaviours"), load_suite(f"{body}_speed").family
    assert isinstance(speeds, SpeedFamily)
    tasks = [task for split in suite.splits.values() for task in split]
    physics = MujocoPhysics(suite.family.scene, len(tasks), 8, threads=1)
    start = InitialState.of(physics.model, len(tasks))
    start.joint_velocities[:, 0 if body != "walker" else 1] = torch.linspace(-3, 5, len(tasks))
    physics.reset(torch.ones(len(tasks), dtype=torch.bool), start)
    physics.step(torch.zeros((len(tasks), physics.model.nu)))
    goals = torch.from_numpy(np.stack([suite.family.goal(task) for task in tasks]))
    rewards = suite.family.reward(physics, goals)
    at_speed = torch.tensor([task.parameters["behaviour"] == "speed" for task in tasks])
    expected = speeds.reward(physics, goals[:, 1:])
    assert torch.equal(rewards[at_speed], expected[at_speed])
    assert not torch.isclose(rewards[~at_speed], expected[~at_speed], atol=1e-3).all()
    assert ((rewards >= 0) & (rewards <= 1)).all()
    physics.close()


def test_a_jump_is_never_a_success_and_a_stand_can_be() -> None:
    family = _family("cheetah")
    good = torch.tensor([0.95, 0.95, 0.95, 0.7])
    goal = goal_rows((0.0, 2.0), (1.0, 0.0), (4.0, 0.0), (4.0, 0.0))
    assert family.holding(puppet(), goal, good).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("body", "parameters", "named"),
    [
        (
            "walker",
            {"behaviour": "legs_up", "speed": 1.0},
            "'speed' of behaviour 'legs_up' must be 0.*got 1",
        ),
        (
            "walker",
            {"behaviour": "fly", "speed": 0.0},
            "one of speed, legs_up, arabesque, headstand",
        ),
        (
            "walker",
            {"behaviour": "speed"},
            "parameter 'speed' is missing; needed are behaviour, speed",
        ),
        ("walker", {"speed": 1.0}, "parameter 'behaviour' is missing"),
        ("walker", {"behaviour": 3.0, "speed": 1.0}, "one of speed, legs_up"),
        ("walker", {"behaviour": "speed", "speed": 9.0}, "from -8 to 8"),
        (
            "cheetah",
            {"behaviour": "run_front", "speed": 0.0},
            "behaviour 'run_front' must be from 1 to 10, got 0",
        ),
        ("cheetah", {"behaviour": "run_back", "speed": -6.0}, "from 1 to 10, got -6"),
        ("quadruped", {"behaviour": "roll", "speed": 0.2}, "from 0.5 to 5, got 0.2"),
        (
            "quadruped",
            {"behaviour": "jump", "speed": 0.0, "height": 1.0},
            "unknown parameter 'height'",
        ),
    ],
)
def test_an_error_names_the_valid_values(body: str, parameters: dict, named: str) -> None:
    values = load_suite(f"{body}_behaviours").to_dict()
    values["splits"]["novel"][-1]["parameters"] = parameters
    with pytest.raises(ValueError, match=named):
        Suite.from_dict(values)
