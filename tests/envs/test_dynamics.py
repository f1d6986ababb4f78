"""Worlds whose dynamics differ: against closed forms, against models compiled that way, and beside plain worlds."""

import mujoco
import numpy as np
import pytest
import torch

from envs import Suite, load_suite, make_vec
from envs.dynamics import Dynamics
from envs.families.point_mass import _MJCF, PointMass
from envs.families.walker_speed import WalkerSpeed
from envs.physics import Start
from envs.physics_mujoco import MujocoPhysics
from envs.tasks import Task

MASS, DAMPING, GEAR, STEP = 0.3, 1.0, 0.1, 0.02
FACTORS = ("mass", "friction", "gravity", "damping", "gain")


def varied_suite(**factors: float) -> Suite:
    """Two tasks of a point mass, the second one's dynamics as given; short episodes."""
    task = {"name": "plain", "family": "point_mass", "parameters": {"target": [0.1, 0.1]}, "episode_length": 8}
    other = {**task, "name": "varied", "dynamics": factors}
    tasks = [{**one, "evaluation_seed": 0} for one in (task, other)]
    values = load_suite("point_mass").to_dict()
    return Suite.from_dict({**values, "splits": {"train": tasks}})


@pytest.mark.parametrize("factors", [{}, {"mass": 2.0}, {"damping": 0.5}, {"gain": 1.5}, {"mass": 0.5, "gain": 2.0}])
def test_a_pushed_mass_moves_by_its_own_mass_damping_and_gain(factors):
    """From rest, one step with implicit damping: v = h F / (m + h d)."""
    dynamics = Dynamics(**factors)
    physics = MujocoPhysics(PointMass.scene, 2, 8, threads=1, variants=[Dynamics(), dynamics])
    start = Start.of(physics.model, 2)
    start.variants = torch.tensor([0, 1])
    physics.reset(torch.ones(2, dtype=torch.bool), start)
    physics.step(torch.tensor([[1.0, 0.0]] * 2))
    physics.close()
    expected = [
        STEP * GEAR * each.gain / (MASS * each.mass + STEP * DAMPING * each.damping) for each in (Dynamics(), dynamics)
    ]
    assert physics.fields["qvel"][:, 0].tolist() == pytest.approx(expected, rel=1e-9)


def test_a_falling_body_falls_by_its_own_gravity():
    """In the air nothing but gravity moves the centre of mass of a body that does nothing."""
    factors = (0.5, 1.0, 2.0)
    variants = [Dynamics(gravity=factor) for factor in factors]
    physics = MujocoPhysics(WalkerSpeed.scene, 3, 8, threads=1, variants=variants)
    start = Start.of(physics.model, 3)
    start.joint_positions[:, 0] += 10
    start.variants = torch.arange(3)
    physics.reset(torch.ones(3, dtype=torch.bool), start)
    for _ in range(4):
        physics.step(torch.zeros(3, physics.model.nu))
    seconds = 4 * WalkerSpeed.scene.substeps * physics.model.opt.timestep
    falling = physics.sensor("torso_subtreelinvel")[:, 2]
    physics.close()
    assert falling.tolist() == pytest.approx([-9.81 * factor * seconds for factor in factors], rel=1e-3)


def test_contacts_have_the_friction_of_their_world():
    touching = []
    for factor in (1.0, 2.0):
        model = Dynamics(friction=factor).applied(WalkerSpeed.scene.model)
        data = mujoco.MjData(model)
        data.qpos[0] -= 0.2
        mujoco.mj_forward(model, data)
        assert data.ncon
        touching.append(data.contact.friction.copy())
    # Contacts are of five numbers: two sliding, one torsional, two rolling.
    np.testing.assert_allclose(touching[1][:, :2], 2 * touching[0][:, :2])
    np.testing.assert_allclose(touching[1][:, 2:], touching[0][:, 2:])


def test_a_heavier_model_is_the_one_that_compiles_from_a_heavier_description():
    """In every number of the mass, those that follow from it included."""
    description = _MJCF.replace('mass=".3"', 'mass=".6"')
    assert description != _MJCF
    compiled = mujoco.MjModel.from_xml_string(description)
    applied = Dynamics(mass=2.0).applied(PointMass.scene.model)
    for name in ("body_mass", "body_inertia", "body_subtreemass", "body_invweight0"):
        ours, theirs = (getattr(model, name)[-1] for model in (applied, compiled))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, err_msg=name)
    for name in ("dof_invweight0", "dof_M0", "actuator_acc0"):
        np.testing.assert_allclose(getattr(applied, name), getattr(compiled, name), rtol=1e-12, err_msg=name)
    assert PointMass.scene.model.body_mass[-1] == MASS, "the scene's own model stays as it is"


def test_worlds_beside_varied_ones_are_as_without_them():
    """Tasks are dealt out in turn: a world changes its dynamics with its task, from episode to episode."""
    suite = varied_suite(mass=3.0, gain=0.5)
    mixed = make_vec(suite, 3, image_size=8, seed=1)
    plain, varied = suite.tasks("train")
    envs = {task.name: make_vec(suite, 3, tasks=[task], image_size=8, seed=1) for task in (plain, varied)}
    mixed.reset()
    start = mixed.state_dict()["physics"][:, 1:5]
    for env in envs.values():
        env.reset()
        np.testing.assert_array_equal(env.state_dict()["physics"][:, 1:5], start)
    action = np.array([[1.0, -0.5]] * 3, np.float32)
    for _ in range(3):
        mixed.step(action)
        for env in envs.values():
            env.step(action)
    moved = mixed.state_dict()["physics"][:, 1:5]
    for world, name in enumerate(("plain", "varied", "plain")):
        np.testing.assert_array_equal(moved[world], envs[name].state_dict()["physics"][world, 1:5])
    ends = [env.state_dict()["physics"][:, 1:5] for env in envs.values()]
    assert not np.isclose(*ends).any()
    for env in (mixed, *envs.values()):
        env.close()


def test_a_saved_world_goes_on_with_its_own_dynamics():
    """Into an environment that was never reset, over the end of an episode, to the bit."""
    suite, action = varied_suite(mass=3.0), np.array([[1.0, 0.5]] * 3, np.float32)
    first, second = (make_vec(suite, 3, image_size=8, seed=2, threads=2) for _ in range(2))
    first.reset()
    first.step(action)
    second.load_state_dict(first.state_dict())
    for _ in range(6):
        ours, theirs = first.step(action), second.step(action)
        np.testing.assert_array_equal(ours[1], theirs[1])
    for key, value in first.state_dict().items():
        np.testing.assert_array_equal(value, second.state_dict()[key], err_msg=key)
    first.close()
    second.close()


def test_plain_tasks_are_written_without_dynamics_and_others_with_what_differs():
    suite = varied_suite(mass=2, gravity=1)
    plain, varied = suite.tasks("train")
    assert "dynamics" not in plain.to_dict()
    assert varied.to_dict()["dynamics"] == {"mass": 2.0}
    assert Suite.from_dict(suite.to_dict()) == suite
    assert len({plain, varied}) == 2


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"weight": 2.0}, r"task 'varied': dynamics: unknown factor 'weight'; valid are mass, friction, gravity"),
        ({"mass": 0}, r"task 'varied': dynamics: mass must be a factor from 0\.1 to 10, got 0"),
        ({"gain": "much"}, r"task 'varied': dynamics: gain must be a factor from 0\.1 to 10, got 'much'"),
        ({"friction": 2.0}, r"task 'varied': dynamics: friction has no effect in a scene without contacts"),
    ],
)
def test_impossible_dynamics_are_refused(factors, message):
    with pytest.raises(ValueError, match=message):
        varied_suite(**factors)


def test_outside_environments_keep_their_dynamics():
    values = load_suite("gym/Pendulum-v1").to_dict()
    values["splits"]["train"][0]["dynamics"] = {"mass": 2.0}
    with pytest.raises(ValueError, match="dynamics of an outside environment cannot be changed"):
        Suite.from_dict(values)


@pytest.mark.parametrize("name", ["cheetah_speed", "quadruped_speed"])
def test_the_dynamics_splits_turn_one_factor_at_a_time(name):
    """Each factor down and up, mildly and strongly, on one training task."""
    suite = load_suite(name)
    (parameters,) = {str(task.parameters) for split in ("mild", "strong") for task in suite.tasks(f"dynamics_{split}")}
    assert parameters in {str(task.parameters) for task in suite.tasks("train")}
    for split, levels in (("mild", (0.75, 1.5)), ("strong", (0.5, 2.0))):
        found = [task.dynamics.to_dict() for task in suite.tasks(f"dynamics_{split}")]
        assert found == [{factor: level} for factor in ("mass", "friction", "gravity", "gain") for level in levels]


def test_every_factor_has_a_name_in_the_configuration():
    assert tuple(Dynamics().factors()) == FACTORS
    task = Task("a", "walker_speed", {"speed": 1.0}, 10, 0)
    assert task.dynamics == Dynamics()
