"""Spheres that move through images, against rays that are traced one by one."""

import numpy as np
import pytest
import torch

from envs import Suite, load_suite, make_vec
from envs.families.point_mass import PointMass
from envs.families.walker_speed import WalkerSpeed
from envs.simulation.distractors import (
    FARTHEST,
    MAX_DISTRACTORS,
    NEAREST,
    RADIUS,
    distractor_positions,
    paths,
    subject_distance,
    with_distractors,
)
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState
from envs.simulation.renderer import RayTracer
from tests.envs.small import final

SIZE = 24
# Of the point mass's camera: above the middle, looking down.
HEIGHT, CAMERA_TAN = 0.75, np.tan(np.deg2rad(22.5))


def suite_with(count: float, length: int = 8) -> Suite:
    """Two tasks of a point mass, of which the second one's images have distractors."""
    task = {
        "name": "plain",
        "family": "point_mass",
        "parameters": {"target": [0.1, 0.1]},
        "episode_length": length,
    }
    other = {**task, "name": "distracted", "vision": {"distractors": count}}
    tasks = [{**one, "evaluation_seed": 0} for one in (task, other)]
    return Suite.from_dict({**load_suite("point_mass").to_dict(), "splits": {"train": tasks}})


def first_hit(ray: np.ndarray, spheres: list[tuple[np.ndarray, float]]) -> int:
    """Which sphere, given as middle and radius in the camera's frame, a ray from the camera meets
    first; -1: none."""
    nearest, found = np.inf, -1
    for index, (middle, radius) in enumerate(spheres):
        along = ray @ middle
        missed = middle @ middle - along**2 - radius**2
        if missed <= 0 and along > 0 and along - np.sqrt(-missed) < nearest:
            nearest, found = along - np.sqrt(-missed), index
    return found


def test_spheres_are_visible_where_rays_meet_them_first() -> None:
    """Among them the point mass, which some of them pass before and some behind; its target is out
    of sight."""
    scene, counts, worlds = (
        PointMass.scene,
        np.array([0, 1, MAX_DISTRACTORS, 3, MAX_DISTRACTORS, MAX_DISTRACTORS]),
        6,
    )
    model = scene.model
    seconds, mass = np.linspace(3.0, 40.0, worlds), np.linspace(-0.2, 0.2, worlds)
    shown_spheres = np.arange(MAX_DISTRACTORS) < counts[:, None]
    scattered = distractor_positions(scene, shown_spheres, seconds, np.ones(worlds))
    physics = MujocoPhysics(scene, worlds, SIZE, threads=1, distractors=MAX_DISTRACTORS)
    start = InitialState.of(model, worlds)
    start.joint_positions[:, 0], start.mocap_positions[:] = torch.from_numpy(mass), 9.0
    physics.reset(torch.ones(worlds, dtype=torch.bool), start)
    physics.set_distractors(scattered)
    tracer = RayTracer(scene, SIZE, worlds, segmentation=True, distractors=MAX_DISTRACTORS)
    physics._chunks[0].fill(tracer, list(range(worlds)))
    shown = tracer.segment(worlds)
    physics.close()

    wrong, seen = 0, set()
    radius = RADIUS * 2 * CAMERA_TAN * subject_distance(model, "fixed")
    numbers = [model.geom("pointmass").id, *range(model.ngeom, model.ngeom + MAX_DISTRACTORS), -1]
    for world in range(worlds):
        spheres = [(np.array([mass[world], 0.0, 0.01 - HEIGHT]), 0.03)]
        spheres += [(middle, radius) for middle in scattered[world, : counts[world]]]
        for row in range(SIZE):
            for column in range(SIZE):
                ray = np.array(
                    [(column + 0.5) / SIZE * 2 - 1, 1 - (row + 0.5) / SIZE * 2, -1 / CAMERA_TAN]
                )
                hit = numbers[first_hit(ray / np.linalg.norm(ray), spheres)]
                wrong += hit != shown[world, row, column]
                seen.add(hit)
    assert wrong <= 2, "rays along an edge may be rounded either way"
    assert seen == set(numbers)


def test_spheres_stay_whole_and_do_not_keep_together() -> None:
    """Over an episode of 25 s at 40 control steps a second: within the image, everywhere in it,
    near and far."""
    found = paths(np.arange(1000) / 40)
    assert found.shape == (1000, MAX_DISTRACTORS, 3)
    middles, away = found[..., :2], found[..., 2:]
    assert (np.abs(middles) + RADIUS / away).max() <= 0.5
    assert (middles.min(0) < -0.3).all()
    assert (middles.max(0) > 0.3).all()
    assert away.min(0) == pytest.approx(NEAREST, abs=0.01)
    assert away.max(0) == pytest.approx(FARTHEST, abs=0.01)
    speeds = np.linalg.norm(np.diff(middles, axis=0), axis=-1) * 40
    assert speeds.max() < 1.0, "an image's height a second"
    apart = np.linalg.norm(middles[:, :, None] - middles[:, None], axis=-1)[
        :, *np.triu_indices(MAX_DISTRACTORS, 1)
    ]
    assert (apart > 2 * RADIUS).mean(0).min() > 0.5, "any two are mostly clear of each other"


def test_a_body_hides_what_passes_behind_it() -> None:
    """Through the centre of the walker's image: less of a sphere is visible behind the body than
    in front of it."""
    scene = WalkerSpeed.scene
    physics = MujocoPhysics(scene, 2, 64, threads=1, distractors=1)
    away = subject_distance(scene.model, scene.camera)
    physics.set_distractors(
        np.array([[[0.0, 0.1, -NEAREST * away]], [[0.0, 0.1, -FARTHEST * away]]])
    )
    tracer = RayTracer(scene, 64, 2, segmentation=True, distractors=1)
    physics._chunks[0].fill(tracer, [0, 1])
    before, behind = (tracer.segment(2) == scene.model.ngeom).sum(axis=(1, 2))
    physics.close()
    assert before == pytest.approx(np.pi * (64 * RADIUS / NEAREST) ** 2, rel=0.1)
    assert behind < 0.5 * np.pi * (64 * RADIUS / FARTHEST) ** 2


@pytest.mark.parametrize(
    "name", ["point_mass", "point_maze", "walker_speed", "cheetah_speed", "quadruped_speed"]
)
def test_spheres_are_the_last_geoms_of_what_is_drawn(name: str) -> None:
    scene = load_suite(name).family.scene
    model, plain = with_distractors(scene, 3), scene.model
    assert model.ngeom == plain.ngeom + 3
    assert [model.geom(index).name for index in range(plain.ngeom)] == [
        plain.geom(i).name for i in range(plain.ngeom)
    ]
    assert not model.geom_contype[-3:].any()
    assert not model.geom_conaffinity[-3:].any()


@pytest.mark.parametrize(
    ("worlds", "counts"), [(1, (0, 3)), (1, (1, 6)), (2, (2, 6)), (3, (6, 1, 0))]
)
def test_images_do_not_depend_on_the_tasks_beside(worlds: int, counts: tuple[int, ...]) -> None:
    """Whichever of the tasks the worlds follow now, also where none of them has the most
    spheres."""
    task = {
        "family": "point_mass",
        "parameters": {"target": [0.1, 0.1]},
        "episode_length": 4,
        "evaluation_seed": 0,
    }
    tasks = [{**task, "name": f"of_{count}", "vision": {"distractors": count}} for count in counts]
    suite = Suite.from_dict({**load_suite("point_mass").to_dict(), "splits": {"train": tasks}})
    env, actions = (
        make_vec(suite, worlds, image_size=SIZE, seed=1),
        np.zeros((worlds, 2), np.float32),
    )
    images = [env.reset()[0]["pixels"]]
    indices, drifts, states = (
        [env._episodes.task_index.copy()],
        [env._worlds.distractor_start.copy()],
        [env.state_dict()["physics"]],
    )
    for _ in range(6):
        images.append(env.step(actions)[0]["pixels"])
        indices.append(env._episodes.task_index.copy())
        drifts.append(env._worlds.distractor_start + env._episodes.step * env._worlds.seconds)
        states.append(env.state_dict()["physics"])
    env.close()
    for shown, index, seconds, state in zip(images, indices, drifts, states, strict=True):
        for world in range(worlds):
            count = counts[index[world]]
            alone = MujocoPhysics(PointMass.scene, 1, SIZE, threads=1, distractors=count)
            alone.load_state(state[world : world + 1, :-1])
            alone.set_distractors(
                distractor_positions(
                    PointMass.scene,
                    np.ones((1, count), bool),
                    seconds[world : world + 1],
                    np.ones(1),
                )
            )
            image = torch.zeros((1, SIZE, SIZE, 3), dtype=torch.uint8)
            alone.render(image)
            alone.close()
            np.testing.assert_array_equal(shown[world], image[0].numpy())


def test_spheres_pass_in_front_of_and_behind_the_subject_of_a_camera_farther_away() -> None:
    """In shares of how far it is: the same paths, so that from twice as far they are seen half as
    large."""
    scene, shown, seconds = WalkerSpeed.scene, np.ones((2, 4), bool), np.array([5.0, 5.0])
    near, far = distractor_positions(scene, shown, seconds, np.array([1.0, 2.0]))
    np.testing.assert_allclose(far, 2 * near)


def test_positions_must_be_of_all_worlds_and_distractors() -> None:
    physics = MujocoPhysics(PointMass.scene, 2, 8, threads=1, distractors=3)
    with pytest.raises(
        ValueError, match=r"positions must have the shape \(2, 3, 3\) .* got \(2, 1, 3\)"
    ):
        physics.set_distractors(np.zeros((2, 1, 3)))
    image, plain = (
        torch.zeros((2, 8, 8, 3), dtype=torch.uint8),
        MujocoPhysics(PointMass.scene, 2, 8, threads=1),
    )
    physics.render(image)
    expected = torch.zeros_like(image)
    plain.render(expected)
    assert torch.equal(image, expected), "nothing is seen of them before they are placed"
    for each in (physics, plain):
        each.close()


def test_only_worlds_of_such_tasks_show_them_and_all_images_agree() -> None:
    """Worlds change tasks after 4 steps; the last image of an episode has the spheres of its own
    time."""
    suite = suite_with(3)
    plain, distracted = suite.tasks("train")
    scene, actions = PointMass.scene, np.zeros((3, 2), np.float32)
    env, bare = (make_vec(suite, 3, tasks, image_size=SIZE, seed=1) for tasks in (None, [plain]))
    reference = MujocoPhysics(scene, 3, SIZE, threads=1, distractors=3)
    images = [each.reset()[0]["pixels"] for each in (env, bare)]
    first_drift, rate = env._worlds.distractor_start.copy(), float(env.metadata["render_fps"])

    def expected(counts: list[int], seconds: np.ndarray) -> np.ndarray:
        reference.set_distractors(
            distractor_positions(
                scene, np.arange(3) < np.array(counts)[:, None], seconds, np.ones(3)
            )
        )
        out = torch.zeros((3, SIZE, SIZE, 3), dtype=torch.uint8)
        reference.render(out)
        return out.numpy()

    for number in range(1, 7):
        reference.load_state(bare.state_dict()["physics"])
        results = [each.step(actions) for each in (env, bare)]
        images = [result[0]["pixels"] for result in results]
        if number == 4:
            for _ in range(suite.action_repeat):
                reference.step(torch.zeros(3, 2))
            last, before = (final(result[4], "pixels") for result in results)
            np.testing.assert_array_equal(last, expected([0, 3, 0], first_drift + 4 / rate))
            np.testing.assert_array_equal(last[[0, 2]], before[[0, 2]])
            assert not np.array_equal(last[1], before[1])
        reference.load_state(bare.state_dict()["physics"])
        np.testing.assert_array_equal(
            env.state_dict()["physics"][:, :-1], bare.state_dict()["physics"]
        )
        counts = [[0, 3, 0], [3, 0, 3]][number >= 4]
        np.testing.assert_array_equal(
            images[0], expected(counts, env._worlds.distractor_start + (number % 4) / rate)
        )
        for world in range(3):
            assert np.array_equal(images[0][world], images[1][world]) == (counts[world] == 0)
            np.testing.assert_array_equal(env.render_frames(world, SIZE), images[0][world])
    assert (env._worlds.distractor_start != first_drift).all(), "another stretch in every episode"
    assert distracted.to_dict()["vision"] == {"distractors": 3.0}
    for each in (env, bare, reference):
        each.close()
