"""dm_control's tasks besides those of test_physics_parity: rewards, trajectories, start states,
cameras, pace."""

import copy
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from dm_control import suite
from dm_control.rl.control import Environment
from dm_control.suite import quadruped as dm_quadruped
from scipy import stats

from envs import PixelVectorEnv, load_suite, make_vec
from envs.families import resolve
from envs.families.compat import TASKS, CompatReacher
from envs.families.compat.point_mass import mix_actuators
from envs.families.compat.quadruped_escape import bowl
from envs.families.family import Family
from envs.families.joints import random_joint_positions
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState
from envs.simulation.renderer import RayTracer
from envs.tasks import Task
from envs.vector.episodes import episode_rng
from tests.envs.segmentation import shown_geoms

NAMES = [name for name in TASKS if not name.startswith(("point_mass-easy", "walker"))]
DOMAINS = list(dict.fromkeys(name.split("-")[0] for name in NAMES))
WORLDS = 24
CONTROL_STEPS = 100
SIZE = 24
EPISODES = 120
# Of a model that differs from episode to episode.
SEED = 5
# Forward speeds at which states are tried, m/s (rad/s for the reacher's shoulder), up to well above
# the fastest task's.
SPEEDS = {
    "cheetah": 13.0,
    "quadruped": 7.0,
    "hopper": 3.0,
    "humanoid": 12.0,
    "reacher": 1.0,
    "cartpole": 1.0,
    "point_mass": 0.1,
}


@pytest.fixture(autouse=True)
def _without_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its property quadruped-escape would look for OpenGL at every start, to draw its terrain
    with."""
    monkeypatch.setattr(dm_quadruped.Physics, "contexts", None)


def _family(name: str) -> tuple[Family, Task]:
    task = Task(name, "compat", {"task": name}, 1000, 0)
    return resolve(task), task


@cache
def _theirs(name: str) -> Environment:
    domain, task = name.split("-")
    return suite.load(domain, task, task_kwargs={"random": 3})


def _ours(name: str) -> MujocoPhysics:
    """Tasks of one scene share it."""
    return _worlds(_family(name)[0])


@cache
def _worlds(family: Family) -> MujocoPhysics:
    return MujocoPhysics(family.scene, WORLDS, 8, threads=1)


def _copy(start: InitialState, world: int, name: str, environment: Environment) -> None:
    """Put dm_control's state into one of our worlds."""
    start.joint_positions[world] = torch.from_numpy(environment.physics.data.qpos.copy())
    start.joint_velocities[world] = torch.from_numpy(environment.physics.data.qvel.copy())
    if name.startswith("reacher"):
        place = environment.physics.named.model.geom_pos["target"].copy()
        start.mocap_positions[world, ["reacher-easy", "reacher-hard"].index(name)] = (
            torch.from_numpy(place)
        )


def _share_model(name: str, environment: Environment, start: InitialState) -> None:
    """Where models differ from episode to episode: the same one for dm_control and for all of our
    worlds."""
    remodel = _family(name)[0].scene.remodel
    if remodel is not None:
        with environment.physics.reset_context():
            remodel(environment.physics.model, SEED)
            if name == "quadruped-escape":
                environment.physics.data.qpos[2] += 1.0  # above whatever is there now
        start.model_seeds = torch.full((WORLDS,), SEED)


def _everywhere() -> torch.Tensor:
    return torch.ones(WORLDS, dtype=torch.bool)


def _goals(name: str) -> torch.Tensor:
    family, task = _family(name)
    return torch.from_numpy(family.goal(task)).expand(WORLDS, -1)


def _set_state(name: str, environment: Environment, share: float, rng: np.random.Generator) -> None:
    """From as modelled (`share` 0) to crooked (`share` 1), at any speed; the reacher's target near
    its finger."""
    physics = environment.physics
    with physics.reset_context():
        bent = rng.random(physics.model.nq) < 0.5
        # A single pole must turn far to earn little; of many joints a few that bend do.
        most = 3.0 if name.startswith("cartpole") else 0.8
        physics.data.qpos[:] += most * share * bent * rng.standard_normal(physics.model.nq)
        for first in physics.model.jnt_qposadr[
            physics.model.jnt_type == mujoco.mjtJoint.mjJNT_FREE
        ]:
            physics.data.qpos[first + 3 : first + 7] /= np.linalg.norm(
                physics.data.qpos[first + 3 : first + 7]
            )
        if name == "quadruped-fetch":
            physics.named.data.qpos["ball_root"][:2] = 15 * share * rng.choice([-1, 1], 2)
        if name == "quadruped-escape":  # in the air, out to where it has escaped
            physics.data.qpos[:3] = [30 * share * rng.choice([-1, 1]), 10 * share, 8]
        physics.data.qvel[:] = share * rng.standard_normal(physics.model.nv)
        physics.data.qvel[0] = SPEEDS[name.split("-")[0]] * (1.2 * rng.random() - 0.1)
    if name.startswith("reacher"):
        finger = physics.named.data.geom_xpos["finger", :2]
        physics.named.model.geom_pos["target", :2] = finger + share * rng.uniform(-0.1, 0.1, 2)
        physics.after_reset()


@pytest.mark.parametrize("name", NAMES)
def test_rewards_of_states_equal_dm_controls(name: str) -> None:
    """As modelled to crooked, at any speed, with controls from none to full: before and after a
    step."""
    family, _ = _family(name)
    environment, physics, goals = _theirs(name), _ours(name), _goals(name)
    environment.reset()
    rng = np.random.default_rng(7)
    start, still, moved = InitialState.of(physics.model, WORLDS), [], []
    _share_model(name, environment, start)
    low, high = physics.model.actuator_ctrlrange.T
    controls = np.linspace(0, 1, WORLDS)[:, None] * rng.uniform(
        low, high, (WORLDS, physics.model.nu)
    )
    for world in range(WORLDS):
        _set_state(name, environment, world / WORLDS, rng)
        _copy(start, world, name, environment)
        still.append(environment.task.get_reward(environment.physics))
        moved.append(environment.step(controls[world]).reward)
    physics.reset(_everywhere(), start)
    np.testing.assert_allclose(family.reward(physics, goals), still, atol=1e-6)
    physics.step(torch.from_numpy(controls))
    np.testing.assert_allclose(family.reward(physics, goals), moved, atol=1e-6)
    # States that all earn the same would show nothing.
    assert max(moved) > 0.5
    assert min(moved) < 0.3
    assert len(np.unique(np.round(moved, 3))) >= (2 if _is_sparse(name) else WORLDS // 4)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "quadruped-escape"])
def test_states_equal_dm_controls_observations(name: str) -> None:
    """At the start of an episode and after steps, with sensors of forces among them."""
    family, _ = _family(name)
    environment, physics = _theirs(name), _ours(name)
    observation = environment.reset().observation
    start = InitialState.of(physics.model, WORLDS)
    _share_model(name, environment, start)
    if start.model_seeds is not None:
        observation = environment.task.get_observation(environment.physics)
    for world in range(WORLDS):
        _copy(start, world, name, environment)
    physics.reset(_everywhere(), start)
    rng = np.random.default_rng(6)
    for _ in range(CONTROL_STEPS):
        expected = np.concatenate([np.ravel(values) for values in observation.values()])
        state = family.state(physics)
        assert state.shape == (WORLDS, family.state_size)
        np.testing.assert_allclose(state, np.tile(expected, (WORLDS, 1)), atol=1e-6)
        action = rng.uniform(*physics.model.actuator_ctrlrange.T)
        observation = environment.step(action).observation
        physics.step(torch.from_numpy(action).expand(WORLDS, -1))
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_trajectories_and_rewards_equal_dm_controls(name: str) -> None:
    family, _ = _family(name)
    environment, physics, goals = _theirs(name), _ours(name), _goals(name)
    environment.reset()
    start = InitialState.of(physics.model, WORLDS)
    _share_model(name, environment, start)
    for world in range(WORLDS):
        _copy(start, world, name, environment)
    physics.reset(_everywhere(), start)
    rng = np.random.default_rng(5)
    for _ in range(CONTROL_STEPS):
        action = rng.uniform(*physics.model.actuator_ctrlrange.T)
        reward = environment.step(action).reward
        physics.step(torch.from_numpy(action).expand(WORLDS, -1))
        np.testing.assert_allclose(family.reward(physics, goals), reward, atol=1e-6)
    assert np.abs(physics.fields["qpos"].numpy() - environment.physics.data.qpos).max() <= 1e-9


@pytest.mark.parametrize("name", [*NAMES, "walker-run", "point_mass-easy"])
def test_cameras_and_pace_are_dm_controls(name: str) -> None:
    scene, theirs = _family(name)[0].scene, _theirs(name)
    published = 2 if name.startswith("quadruped") else 0
    model, camera = theirs.physics.model, scene.model.camera(scene.camera)
    assert model.id2name(published, "camera") == scene.camera
    np.testing.assert_array_equal(camera.pos, model.cam_pos[published])
    np.testing.assert_array_equal(camera.quat, model.cam_quat[published])
    assert (camera.fovy[0], camera.mode[0]) == (
        model.cam_fovy[published],
        model.cam_mode[published],
    )
    assert scene.substeps * scene.model.opt.timestep == pytest.approx(theirs.control_timestep())
    lengths = [task.episode_length for task in load_suite(_suite(name)).tasks("train")]
    assert {*lengths} == {round(theirs._step_limit)} == {1000}


def _their_starts(name: str) -> np.ndarray:
    environment, rows = _theirs(name), []
    for _ in range(EPISODES):
        environment.reset()
        data = environment.physics.data
        target = (
            environment.physics.named.model.geom_pos["target"] if name.startswith("reacher") else []
        )
        rows.append(
            np.concatenate(
                [data.qpos, data.qvel, target, _drawn_numbers(name, environment.physics.model)]
            )
        )
    return np.array(rows)


def _drawn_numbers(name: str, model: mujoco.MjModel) -> np.ndarray:
    """Some of a model's numbers that differ between episodes: actuators' directions, or heights
    here and there."""
    if name == "quadruped-escape":
        heights = model.hfield_data[::2017]
        return np.array([*heights, heights.std()])
    return np.array(model.wrap_prm[:4] if name == "point_mass-hard" else [])


def _our_starts(name: str) -> np.ndarray:
    family, task = _family(name)
    rows = []
    for episode in range(EPISODES):
        start = family.start(task, episode_rng(0, "train", 0, episode))
        shown = (
            start.mocap_positions[["reacher-easy", "reacher-hard"].index(name)]
            if len(start.mocap_positions)
            else []
        )
        drawn = _drawn_numbers(name, family.scene.remodelled(family.scene.model, start.model_seed))
        rows.append(np.concatenate([start.joint_positions, start.joint_velocities, shown, drawn]))
    return np.array(rows)


@pytest.mark.parametrize(
    "name",
    [
        "cheetah-run",
        "quadruped-walk",
        "reacher-easy",
        "reacher-hard",
        "cartpole-balance",
        "cartpole-swingup_sparse",
        "hopper-hop",
        "humanoid-walk",
        "quadruped-fetch",
        "quadruped-escape",
        "cartpole-three_poles",
        "point_mass-hard",
    ],
)
def test_start_states_have_dm_controls_distribution(name: str) -> None:
    ours, theirs = _our_starts(name), _their_starts(name)
    for column in range(theirs.shape[1]):
        if np.ptp(theirs[:, column]) < 1e-9:
            np.testing.assert_allclose(ours[:, column], theirs[0, column], atol=1e-9)
        else:
            # Seeds are fixed, so this either always passes or never does; 1 in 1000 is far from
            # chance and from a bug.
            assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3, column


def test_a_bowl_with_bumps_is_dm_controls() -> None:
    """From the same bumps, in every cell."""
    environment, model = _theirs("quadruped-escape"), _family("quadruped-escape")[0].scene.model
    bumps = np.random.default_rng(3).uniform(0.15, 1, (30, 30))
    drawn = SimpleNamespace(
        uniform=lambda low, high, size: bumps, randn=np.random.default_rng(0).standard_normal
    )
    task = copy.copy(environment.task)
    task._random = drawn
    with environment.physics.reset_context():
        task.initialize_episode(environment.physics)
    theirs = environment.physics.model.hfield_data
    np.testing.assert_allclose(bowl(201, bumps).ravel(), theirs, atol=1e-6)
    assert model.hfield_nrow[0] == model.hfield_ncol[0] == 201
    assert np.ptp(theirs) > 0.5


def test_every_world_has_its_own_terrain_until_its_episode_ends_and_is_shown_it() -> None:
    """The geom of each pixel against MuJoCo's own rays through that world's model; saved, restored,
    another one next."""
    name = "quadruped-escape"
    family, task = _family(name)
    suite = load_suite(_suite(name))
    env, other = (
        make_vec(suite, 3, [replace(task, episode_length=8)], image_size=SIZE, threads=2)
        for _ in range(2)
    )
    first = env.reset()[0]["pixels"]
    models = [_model_of(env, world) for world in range(3)]
    heights = [model.hfield_data.copy() for model in models]
    assert not np.array_equal(heights[0], heights[1])
    assert not np.array_equal(heights[1], heights[2])
    for world in range(3):
        shown, expected = _geoms_shown(env, world), _geoms_by_rays(env, world, models[world])
        terrain = family.scene.model.geom("terrain").id
        assert (expected == terrain).sum() > 50
        assert (shown != expected).mean() < 0.02, "rays along an edge may be rounded either way"
        flat = _geoms_by_rays(env, world, family.scene.model)
        assert (shown != flat).mean() > 0.1
    other.load_state_dict(env.state_dict())
    actions = np.zeros((3, env.single_action_space.shape[0]), np.float32)
    for _ in range(5):  # past the end of the episode
        ours, theirs = env.step(actions), other.step(actions)
        np.testing.assert_array_equal(ours[0]["pixels"], theirs[0]["pixels"])
        np.testing.assert_array_equal(ours[1], theirs[1])
    assert all(
        not np.array_equal(_model_of(env, world).hfield_data, heights[world]) for world in range(3)
    )
    assert not np.array_equal(first[0], first[1])
    assert not family.scene.model.hfield_data.any(), "the scene's own model stays flat"
    for each in (env, other):
        each.close()


def _chunk_of(env: PixelVectorEnv, world: int) -> Any:
    return next(chunk for chunk in env._worlds.physics._chunks if world < chunk.end)


def _model_of(env: PixelVectorEnv, world: int) -> mujoco.MjModel:
    chunk = _chunk_of(env, world)
    return chunk._own[world - chunk.low]


def _geoms_shown(env: PixelVectorEnv, world: int) -> np.ndarray:
    """By the ray tracer, in the second of two places, the first being another world's."""
    tracer, chunk = (
        RayTracer(env._worlds.family.scene, SIZE, 2, segmentation=True),
        _chunk_of(env, world),
    )
    chunk.fill(tracer, [chunk.low, world])
    return tracer.segment(2)[1]


def _geoms_by_rays(env: PixelVectorEnv, world: int, model: mujoco.MjModel) -> np.ndarray:
    """By MuJoCo, ray by ray."""
    scene, data, found = (
        env._worlds.family.scene,
        env._worlds.physics._datas[world],
        np.full((SIZE, SIZE), -1),
    )
    camera = model.camera(scene.camera)
    half, turn = np.tan(np.deg2rad(camera.fovy[0]) / 2), data.cam_xmat[camera.id].reshape(3, 3)
    for row, column in np.ndindex(SIZE, SIZE):
        right, up = ((column + 0.5) / SIZE * 2 - 1) * half, (1 - (row + 0.5) / SIZE * 2) * half
        ray, geom = turn @ np.array([right, up, -1.0]), np.zeros(1, np.int32)
        mujoco.mj_ray(
            model, data, data.cam_xpos[camera.id], ray / np.linalg.norm(ray), None, 1, -1, geom
        )
        found[row, column] = geom[0]
    return found


def test_hard_actuators_push_where_their_number_says() -> None:
    """A step from rest: velocity along the direction of the one actuator that is used; others'
    worlds are as ever."""
    model = _family("point_mass-hard")[0].scene.model
    mixed = copy.copy(model)
    mix_actuators(mixed, SEED)
    physics, start = _worlds(_family("point_mass-hard")[0]), InitialState.of(model, WORLDS)
    start.model_seeds = torch.zeros(WORLDS, dtype=torch.int64)
    start.model_seeds[1::2] = SEED
    physics.reset(_everywhere(), start)
    physics.step(torch.tensor([[1.0, 0.0]]).expand(WORLDS, -1))
    moved = physics.fields["qvel"].numpy()
    moved = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(
        moved[1::2], np.tile(mixed.wrap_prm[:2], (WORLDS // 2, 1)), atol=1e-9
    )
    np.testing.assert_allclose(moved[::2], np.tile([1.0, 0.0], (WORLDS // 2, 1)), atol=1e-9)


def test_a_humanoid_starts_without_touching_anything() -> None:
    """Where the first draw touches something, another one is taken; where it does not, it is
    kept."""
    family, task = _family("humanoid-stand")
    model = family.scene.model
    touching = 0
    for episode in range(100):
        first = random_joint_positions(model, episode_rng(0, "train", 0, episode))
        start = family.start(task, episode_rng(0, "train", 0, episode)).joint_positions
        assert _contacts(model, start) == 0
        assert np.array_equal(first, start) == (_contacts(model, first) == 0)
        touching += _contacts(model, first) > 0
    assert 3 <= touching <= 97


def _contacts(model: mujoco.MjModel, positions: np.ndarray) -> int:
    data = mujoco.MjData(model)
    data.qpos[:] = positions
    mujoco.mj_forward(model, data)
    return int(data.ncon)


@pytest.mark.parametrize(
    ("name", "other"), [("reacher-easy", "reacher-hard"), ("reacher-hard", "reacher-easy")]
)
def test_the_reacher_is_shown_the_target_of_its_task_only(name: str, other: str) -> None:
    family, task = _family(name)
    starts = [family.start(task, episode_rng(0, "train", 0, episode)) for episode in range(4)]
    positions = np.stack([start.joint_positions for start in starts])
    shown = shown_geoms(
        CompatReacher.scene, positions, np.stack([start.mocap_positions for start in starts])
    )
    model = CompatReacher.scene.model
    assert ((shown == model.geom(name).id).sum(axis=(1, 2)) > 0).all()
    assert not (shown == model.geom(other).id).any()
    assert model.geom(name).size[0] == _theirs(name).physics.named.model.geom_size["target", 0]


def test_success_of_a_balanced_pole_takes_longer_than_falling() -> None:
    """Left alone, a pole that starts upright earns 0.8 for a while, but not for as long as a
    success takes."""
    family, task = _family("cartpole-balance")
    physics, goals = _ours("cartpole-balance"), _goals("cartpole-balance")
    start = InitialState.of(physics.model, WORLDS)
    for world in range(WORLDS):
        drawn = family.start(task, episode_rng(0, "train", 0, world))
        start.joint_positions[world] = torch.from_numpy(drawn.joint_positions)
        start.joint_velocities[world] = torch.from_numpy(drawn.joint_velocities)
    physics.reset(_everywhere(), start)
    held = torch.zeros(WORLDS)
    standing = torch.ones(WORLDS, dtype=torch.bool)
    for _ in range(family.hold_steps):
        physics.step(torch.zeros((WORLDS, 1)))
        standing &= family.holding(physics, goals, family.reward(physics, goals))
        held += standing
    assert 50 < held.median() < family.hold_steps / 2
    assert held.max() < family.hold_steps


def test_task_vectors_keep_their_places() -> None:
    """Agents that were trained on the first tasks must find them where they were."""
    assert TASKS[:4] == ("point_mass-easy", "walker-stand", "walker-walk", "walker-run")
    for name in TASKS:
        family, task = _family(name)
        assert family.task_vector(task).tolist() == [float(name == other) for other in TASKS]
    assert len({*TASKS}) == len(TASKS)


def test_every_task_has_a_suite() -> None:
    for name in map(_suite, TASKS):
        listed = [task.name for task in load_suite(name).tasks("train")]
        assert listed == [other for other in TASKS if _suite(other) == name]


def _suite(name: str) -> str:
    """Tasks of one scene share a suite; the first of its body is named after the body."""
    own = ("quadruped-fetch", "quadruped-escape", "cartpole-two_poles", "cartpole-three_poles")
    return "compat_" + (name.replace("-", "_") if name in own else name.split("-")[0])


def _is_sparse(name: str) -> bool:
    return name.endswith("_sparse") or name.startswith("reacher")
