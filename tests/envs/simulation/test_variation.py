"""Worlds with other dynamics and appearance, against closed forms, models compiled that way, and
plain worlds beside them."""

import mujoco
import numpy as np
import pytest
import torch

from envs import Suite, load_suite, make_vec
from envs.families.point_mass import _MJCF, PointMass
from envs.families.walker_speed import WalkerSpeed
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState, Scene
from envs.simulation.variation import Dynamics, Vision, variant
from envs.tasks import Task

MASS, DAMPING, GEAR, STEP = 0.3, 1.0, 0.1, 0.02


def varied_suite(kind: str = "dynamics", **values: object) -> Suite:
    """Two tasks of a point mass, of which the second one's worlds differ; short episodes."""
    task = {
        "name": "plain",
        "family": "point_mass",
        "parameters": {"target": [0.1, 0.1]},
        "episode_length": 8,
    }
    other = {**task, "name": "varied", kind: values}
    tasks = [{**one, "evaluation_seed": 0} for one in (task, other)]
    return Suite.from_dict({**load_suite("point_mass").to_dict(), "splits": {"train": tasks}})


def heavier(scene: Scene, **factors: float) -> mujoco.MjModel:
    return variant(scene.model, scene.camera, Dynamics(**factors), Vision())


def seen(*visions: Vision, size: int = 64) -> np.ndarray:
    """Images of worlds in the same state: the mass north-east of the target."""
    scene = PointMass.scene
    models = [variant(scene.model, scene.camera, Dynamics(), vision) for vision in visions]
    physics = MujocoPhysics(scene, len(models), size, threads=1, variants=models)
    start = InitialState.of(physics.model, len(models))
    start.joint_positions[:] = 0.15
    start.variants = torch.arange(len(models))
    physics.reset(torch.ones(len(models), dtype=torch.bool), start)
    images = torch.zeros((len(models), size, size, 3), dtype=torch.uint8)
    physics.render(images)
    for world in range(len(models)):
        np.testing.assert_array_equal(physics.image(world, size), images[world].numpy())
    physics.close()
    return images.numpy().astype(int)


def drawn(image: np.ndarray) -> np.ndarray:
    """Where there is something: the corner shows the background."""
    shown: np.ndarray = (image != image[0, 0]).any(-1)
    return shown


@pytest.mark.parametrize(
    "factors", [{}, {"mass": 2.0}, {"damping": 0.5}, {"gain": 1.5}, {"mass": 0.5, "gain": 2.0}]
)
def test_a_pushed_mass_moves_by_its_own_mass_damping_and_gain(factors):
    """From rest, one step with implicit damping: v = h F / (m + h d)."""
    dynamics = Dynamics(**factors)
    physics = MujocoPhysics(
        PointMass.scene,
        2,
        8,
        threads=1,
        variants=[heavier(PointMass.scene), heavier(PointMass.scene, **factors)],
    )
    start = InitialState.of(physics.model, 2)
    start.variants = torch.tensor([0, 1])
    physics.reset(torch.ones(2, dtype=torch.bool), start)
    physics.step(torch.tensor([[1.0, 0.0]] * 2))
    physics.close()
    expected = [
        STEP * GEAR * each.gain / (MASS * each.mass + STEP * DAMPING * each.damping)
        for each in (Dynamics(), dynamics)
    ]
    assert physics.fields["qvel"][:, 0].tolist() == pytest.approx(expected, rel=1e-9)


def test_a_falling_body_falls_by_its_own_gravity():
    """In the air nothing but gravity moves the centre of mass of a body that does nothing."""
    factors = (0.5, 1.0, 2.0)
    variants = [heavier(WalkerSpeed.scene, gravity=factor) for factor in factors]
    physics = MujocoPhysics(WalkerSpeed.scene, 3, 8, threads=1, variants=variants)
    start = InitialState.of(physics.model, 3)
    start.joint_positions[:, 0] += 10
    start.variants = torch.arange(3)
    physics.reset(torch.ones(3, dtype=torch.bool), start)
    for _ in range(4):
        physics.step(torch.zeros(3, physics.model.nu))
    seconds = 4 * WalkerSpeed.scene.substeps * physics.model.opt.timestep
    falling = physics.sensor("torso_subtreelinvel")[:, 2]
    physics.close()
    assert falling.tolist() == pytest.approx(
        [-9.81 * factor * seconds for factor in factors], rel=1e-3
    )


def test_contacts_have_the_friction_of_their_world():
    touching = []
    for factor in (1.0, 2.0):
        model = heavier(WalkerSpeed.scene, friction=factor)
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
    applied = heavier(PointMass.scene, mass=2.0)
    for name in ("body_mass", "body_inertia", "body_subtreemass", "body_invweight0"):
        ours, theirs = (getattr(model, name)[-1] for model in (applied, compiled))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, err_msg=name)
    for name in ("dof_invweight0", "dof_M0", "actuator_acc0"):
        np.testing.assert_allclose(
            getattr(applied, name), getattr(compiled, name), rtol=1e-12, err_msg=name
        )
    assert PointMass.scene.model.body_mass[-1] == MASS, "the scene's own model stays as it is"


def test_worlds_beside_varied_ones_are_as_without_them():
    """Tasks are assigned round-robin: a world changes its dynamics with its task, from episode to
    episode."""
    suite = varied_suite(mass=3.0, gain=0.5)
    mixed = make_vec(suite, 3, image_size=8, seed=1)
    plain, varied = suite.tasks("train")
    envs = {
        task.name: make_vec(suite, 3, tasks=[task], image_size=8, seed=1)
        for task in (plain, varied)
    }
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
    assert plain.to_dict().keys().isdisjoint({"dynamics", "vision"})
    assert varied.to_dict()["dynamics"] == {"mass": 2.0}
    assert Suite.from_dict(suite.to_dict()) == suite
    assert len({plain, varied}) == 2


def test_colours_turn_by_their_hue():
    """A third of a turn makes red green, green blue and blue red, in every pixel but those of the
    background."""
    plain, turned = seen(Vision(), Vision(hue=120.0))
    np.testing.assert_array_equal(drawn(plain), drawn(turned))
    np.testing.assert_allclose(turned[drawn(turned)], plain[drawn(plain)][:, [2, 0, 1]], atol=1)
    assert np.abs(turned - plain).max() > 50


def test_brightness_is_a_factor():
    plain, dark = seen(Vision(), Vision(brightness=0.5))
    np.testing.assert_allclose(dark[drawn(plain)], plain[drawn(plain)] / 2, atol=1.5)


def test_a_camera_that_is_turned_around_shows_the_image_turned():
    plain, half = seen(Vision(), Vision(roll=180.0))
    upside_down = np.rot90(drawn(plain), 2)
    overlap = (drawn(half) & upside_down).sum() / (drawn(half) | upside_down).sum()
    assert overlap > 0.95
    assert (drawn(half) ^ drawn(plain)).sum() > 40, "the mass covers some thirty pixels"


def test_the_image_sinks_when_the_camera_looks_up_and_turns_clockwise_when_it_turns_anticlockwise():
    plain, up, quarter = (
        np.argwhere(drawn(image)) for image in seen(Vision(), Vision(tilt=5.0), Vision(roll=90.0))
    )
    assert up[:, 0].mean() > plain[:, 0].mean() + 3
    assert up[:, 1].mean() == pytest.approx(plain[:, 1].mean(), abs=0.5)
    row, column = plain.mean(0) - 31.5
    assert quarter.mean(0) - 31.5 == pytest.approx([column, -row], abs=0.5)


def test_a_camera_from_farther_away_shows_everything_smaller_about_the_middle():
    plain, far = seen(Vision(), Vision(distance=2.0), size=128)
    # The camera is 0.75 m above the middle, the mass 0.74 m below it and the target 0.75 m.
    rows, further = (np.argwhere(drawn(image)) - 63.5 for image in (plain, far))
    assert further.mean(0) == pytest.approx(rows.mean(0) / 2, abs=0.5)
    assert len(further) == pytest.approx(len(rows) / 4, rel=0.1)


@pytest.mark.parametrize(
    "name", ["walker_speed", "cheetah_speed", "quadruped_speed", "quadruped_maze", "ant_maze"]
)
def test_a_camera_moves_along_its_line_of_sight_wherever_its_body_is(name):
    """By half of how far its body's centre of mass is when it moves to 1.5 times the distance; it
    looks as before."""
    scene = load_suite(name).family.scene
    model = scene.model
    moved, index = Vision(distance=1.5).applied(model, scene.camera), model.camera(scene.camera).id
    mujoco.mj_setConst(moved, mujoco.MjData(moved))
    datas = [mujoco.MjData(model), mujoco.MjData(model)]
    mujoco.mj_forward(model, datas[0])
    away = np.linalg.norm(datas[0].cam_xpos[index] - datas[0].subtree_com[model.cam_bodyid[index]])
    velocity = np.random.default_rng(0).standard_normal(model.nv)
    for seconds in (0.0, 1.0):
        for which, data in zip((model, moved), datas, strict=True):
            mujoco.mj_resetData(model, data)
            mujoco.mj_integratePos(model, data.qpos, velocity, seconds)
            mujoco.mj_forward(which, data)
        plain, other = datas
        backwards = plain.cam_xmat[index].reshape(3, 3)[:, 2]
        np.testing.assert_allclose(
            other.cam_xpos[index] - plain.cam_xpos[index], 0.5 * away * backwards, atol=1e-9
        )
        np.testing.assert_allclose(other.cam_xmat[index], plain.cam_xmat[index], atol=1e-9)


def test_worlds_keep_their_appearance_from_episode_to_episode_of_a_task():
    """Images of a varied task are the same beside a plain one, and the plain one's are
    untouched."""
    suite = varied_suite("vision", hue=90.0)
    plain, varied = suite.tasks("train")
    mixed = make_vec(suite, 2, image_size=16, seed=1, threads=1)
    alone = [
        make_vec(suite, 2, tasks=[task], image_size=16, seed=1, threads=1)
        for task in (plain, varied)
    ]
    frames = [[env.reset()[0]["pixels"]] for env in (mixed, *alone)]
    for _ in range(5):  # past the end of the first episode, after which worlds change places
        for env, shown in zip((mixed, *alone), frames, strict=True):
            shown.append(env.step(np.zeros((2, 2), np.float32))[0]["pixels"])
    for together, as_plain, as_varied in zip(*frames, strict=True):
        np.testing.assert_array_equal(together[0], as_plain[0])
        np.testing.assert_array_equal(together[1], as_varied[1])
        assert not np.array_equal(as_plain[1], as_varied[1])
    for env in (mixed, *alone):
        env.close()


def test_materials_keep_their_colours_and_become_darker():
    """The walker's geoms have colours by their materials alone: half as bright, pixel by pixel,
    floor included."""
    scene = WalkerSpeed.scene
    models = [
        variant(scene.model, scene.camera, Dynamics(), vision)
        for vision in (Vision(), Vision(brightness=0.5))
    ]
    physics = MujocoPhysics(scene, 2, 64, threads=1, variants=models)
    start = InitialState.of(physics.model, 2)
    start.variants = torch.arange(2)
    physics.reset(torch.ones(2, dtype=torch.bool), start)
    images = torch.zeros((2, 64, 64, 3), dtype=torch.uint8)
    physics.render(images)
    physics.close()
    plain, dark = images.numpy().astype(int)
    shown = drawn(plain)
    assert shown.mean() > 0.3
    assert np.abs(plain[shown] / 2 - dark[shown]).max() <= 1.5
    assert np.ptp(plain[shown], axis=-1).max() > 100, "something is not grey"


def test_the_gain_of_muscles_stays():
    description = _MJCF.replace("<motor gear", "<muscle gear").replace(
        "<motor name", "<muscle name"
    )
    model = mujoco.MjModel.from_xml_string(description)
    with pytest.raises(ValueError, match="gain cannot be changed in a scene with muscles"):
        Dynamics(gain=2.0).applied(model)


def test_a_camera_that_looks_at_a_body_is_not_turned():
    description = _MJCF.replace(
        '<camera name="fixed"', '<camera name="fixed" mode="targetbody" target="pointmass"'
    )
    model = mujoco.MjModel.from_xml_string(description)
    with pytest.raises(
        ValueError, match="camera 'fixed' always looks at a body and cannot be moved or turned"
    ):
        Vision(tilt=5.0).applied(model, "fixed")
    with pytest.raises(ValueError, match="camera 'fixed' always looks at a body"):
        Vision(distance=2.0).applied(model, "fixed")


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (
            "dynamics",
            {"weight": 2.0},
            r"task 'varied': dynamics: unknown key 'weight'; valid are mass, friction, grav",
        ),
        (
            "dynamics",
            {"mass": 0},
            r"task 'varied': dynamics: mass must be a number from 0\.1 to 10, got 0",
        ),
        (
            "dynamics",
            {"gain": "much"},
            r"task 'varied': dynamics: gain must be a number from 0\.1 to 10, got 'much'",
        ),
        (
            "dynamics",
            {"friction": 2.0},
            r"task 'varied': dynamics: friction has no effect in a scene without contacts",
        ),
        (
            "dynamics",
            {"gravity": 2.0},
            r"task 'varied': dynamics: gravity has no effect in a scene where no joint",
        ),
        (
            "vision",
            {"tilt": 100},
            r"task 'varied': vision: tilt must be a number from -90 to 90, got 100",
        ),
        (
            "vision",
            {"fog": 1},
            r"vision: unknown key 'fog'; valid are hue, brightness, distance, tilt, roll",
        ),
        (
            "vision",
            {"distractors": 1.5},
            r"vision: distractors must be a whole number from 0 to 8, got 1\.5",
        ),
    ],
)
def test_impossible_variations_are_refused(kind, values, message):
    with pytest.raises(ValueError, match=message):
        varied_suite(kind, **values)


@pytest.mark.parametrize("kind", ["dynamics", "vision"])
def test_external_environments_stay_as_they_are(kind):
    values = load_suite("gym/Pendulum-v1").to_dict()
    values["splits"]["train"][0][kind] = {"mass": 2.0} if kind == "dynamics" else {"hue": 30.0}
    with pytest.raises(ValueError, match=f"{kind} of an external environment cannot be changed"):
        Suite.from_dict(values)


_BODY, _POINT = ("mass", "friction", "gravity", "gain"), ("mass", "damping", "gain")


SUITES = [
    ("point_mass", _POINT),
    ("point_maze", _POINT),
    ("walker_speed", _BODY),
    ("cheetah_speed", _BODY),
    ("quadruped_speed", _BODY),
    ("walker_behaviours", _BODY),
    ("cheetah_behaviours", _BODY),
    ("quadruped_behaviours", _BODY),
    ("quadruped_maze", _BODY),
    ("ant_maze", _BODY),
]


@pytest.mark.parametrize(("name", "moved"), SUITES)
def test_the_splits_change_one_number_at_a_time(name, moved):
    """Each factor down and up, each view one way and the other, mildly and strongly, on one
    training task."""
    suite, changes = load_suite(name), {"mild": (0.75, 1.5), "strong": (0.5, 2.0)}
    views = {
        "mild": {
            "hue": 30.0,
            "brightness": 0.75,
            "distance": 1.2,
            "tilt": 5.0,
            "roll": 5.0,
            "distractors": 2.0,
        }
    }
    views["strong"] = {"hue": 120.0, "brightness": 0.5, "distance": 1.5}
    views["strong"] |= {"tilt": 15.0, "roll": 15.0, "distractors": 6.0}
    tasks = [
        task
        for level in changes
        for kind in ("dynamics", "vision")
        for task in suite.tasks(f"{kind}_{level}")
    ]
    assert len({str(task.parameters) for task in tasks}) == 1
    assert tasks[0].parameters in [task.parameters for task in suite.tasks("train")]
    for level, factors in changes.items():
        dynamics = [task.variations() for task in suite.tasks(f"dynamics_{level}")]
        assert dynamics == [{"dynamics": {key: factor}} for key in moved for factor in factors]
        shown = [task.variations() for task in suite.tasks(f"vision_{level}")]
        if name in ("quadruped_maze", "ant_maze"):
            # A third of a turn would give a wall the goal's colour; eyes stay in their head.
            views["strong"]["hue"], left_out = 180.0, "distance"
        else:
            left_out = (
                "tilt" if moved == _POINT else ""
            )  # of a camera that shows the arena from edge to edge
        assert shown == [
            {"vision": {key: value}} for key, value in views[level].items() if key != left_out
        ]


def test_every_body_of_a_mixed_suite_is_varied_as_in_its_own():
    """The strong variations of all of them, each on one of the body's training tasks, from that
    task's starts."""
    mixed = load_suite("mixed_speed")
    for split in ("dynamics_strong", "vision_strong"):
        own = [
            (task.family, task.variations())
            for body in ("walker", "cheetah", "quadruped")
            for task in load_suite(f"{body}_speed").tasks(split)
        ]
        tasks = mixed.tasks(split)
        assert [(task.family, task.variations()) for task in tasks] == own
        for task in tasks:
            (plain,) = [
                one for one in mixed.tasks("train") if one.evaluation_seed == task.evaluation_seed
            ]
            assert (plain.family, plain.parameters, plain.variations()) == (
                task.family,
                task.parameters,
                {},
            )
    env = make_vec(
        mixed, 2 * len(tasks), [*tasks, *mixed.tasks("train")], image_size=16, evaluation=True
    )
    assert env.reset()[0]["pixels"].shape[0] == 2 * len(tasks)
    env.close()


@pytest.mark.parametrize("name", [name for name, _ in SUITES])
def test_every_variation_has_an_effect(name):
    """Beside the plain task from the same start: other images at once, or other motion within 20
    agent steps."""
    suite = load_suite(name)
    tasks = [task for split in suite.splits for task in suite.tasks(split) if task.variations()]
    (plain,) = (task for task in suite.tasks("train") if task.parameters == tasks[0].parameters)
    env = make_vec(suite, 1 + len(tasks), [plain, *tasks], image_size=32, evaluation=True)
    first = env.reset()[0]["pixels"]
    rng = np.random.default_rng(0)
    for _ in range(20):
        env.step(
            np.tile(rng.uniform(-1, 1, env.single_action_space.shape), (env.num_envs, 1)).astype(
                np.float32
            )
        )
    state = env._worlds.physics.fields["qpos"].numpy()
    for world, task in enumerate(tasks, 1):
        looks_otherwise = not np.array_equal(first[world], first[0])
        assert looks_otherwise == ("vision" in task.variations()), task.name
        assert np.array_equal(state[world], state[0]) == ("vision" in task.variations()), task.name
    env.close()


def test_a_task_is_plain_by_default():
    assert Task("a", "walker_speed", {"speed": 1.0}, 10, 0).variations() == {}
