"""Images of any MuJoCo model are the ray tracer's own, from any camera, sites included."""

import mujoco
import numpy as np
import pytest

from envs.external.camera import NamedView, OrbitView, own_view
from envs.external.mujoco_scene import DrawnModel, appearance_digest, shape_digest
from envs.families.suite_models import suite_model
from envs.simulation.physics import Scene
from envs.simulation.renderer import POSES, RayTracer

SIZE = 48

_SCENE = """
<mujoco>
  <option integrator="implicitfast"><flag energy="enable"/></option>
  <visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
  <asset>
    <mesh name="wedge" vertex="0 0 0  .3 0 0  0 .2 0  0 0 .1  .3 0 .1  0 .2 .1"/>
    <material name="hidden" rgba="1 1 1 0"/>
  </asset>
  <worldbody>
    <camera name="down" pos="0 0 2"/>
    <camera name="turned" pos="0 0 2" xyaxes="-1 0 0 0 -1 0"/>
    <geom name="ghost" type="box" size=".9 .9 .01" pos="0 0 .5" material="hidden"/>
    <geom name="collision" type="box" size=".9 .9 .01" pos="0 0 .6" group="3" rgba="1 1 1 1"/>
    <geom name="wedge" type="mesh" mesh="wedge" pos="-.5 .4 0" euler="0 0 30" rgba="1 0 0 1"/>
    <body name="carrier" pos="0 0 0">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom name="box" type="box" size=".1 .1 .1" rgba="0 1 0 1" margin=".1" gap=".05"/>
      <site name="goal" type="sphere" size=".12" pos=".4 -.4 0" rgba="0 0 1 1"/>
      <site name="unseen" type="sphere" size=".3" rgba="1 1 1 0"/>
    </body>
  </worldbody>
</mujoco>
"""


def _scene(slide: float = 0.0) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(_SCENE)
    data = mujoco.MjData(model)
    data.qpos[0] = slide
    mujoco.mj_forward(model, data)
    return model, data


def _draw(
    model: mujoco.MjModel, data: mujoco.MjData, view: NamedView | OrbitView, size: int = SIZE
) -> np.ndarray:
    out = np.zeros((size, size, 3), np.uint8)
    DrawnModel(model, data, size, view.fovy(model)).draw(data, view.pose(model, data), out)
    return out


def _centre(image: np.ndarray, colour: int) -> np.ndarray:
    """Row and column of the middle of what has this colour alone, as shares of the image."""
    others = [index for index in range(3) if index != colour]
    rows, columns = np.nonzero((image[..., colour] > 100) & (image[..., others].max(axis=-1) < 60))
    assert len(rows), "the colour is not in the image"
    return np.array([rows.mean() + 0.5, columns.mean() + 0.5]) / len(image)


@pytest.mark.parametrize(
    ("name", "camera"), [("walker", "side"), ("point_mass", "fixed"), ("dog", "y-axis")]
)
def test_a_copy_is_drawn_as_the_model_itself(name: str, camera: str) -> None:
    """Textures, planes, lights, capsules, and of the dog its meshes and skin of geoms."""
    spec = suite_model(name)
    scene = Scene(name, lambda: spec, 1, camera)
    model = scene.model
    model.site_rgba[:, 3] = 0  # which the ray tracer's own image has not
    data = mujoco.MjData(model)
    data.qpos[-1] += 0.1
    mujoco.mj_forward(model, data)
    own = RayTracer(scene, SIZE, 1)
    for pose in POSES:
        own.poses[pose][0] = getattr(data, pose).reshape(-1)
    expected = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    own.draw(1, expected)
    image = _draw(model, data, NamedView(camera))
    assert np.abs(image.astype(int) - expected[0]).max() <= 2
    assert len(np.unique(image)) > 8


def test_what_is_seen_stands_where_it_is() -> None:
    """Compare with the closed form of a view straight down.

    From 2 m with 45 degrees, a metre is a share 1 / (4 tan 22.5) of the image.
    """
    model, data = _scene(slide=0.3)
    image = _draw(model, data, NamedView("down"), 96)
    for colour, name, height in [(1, "geom", 0.1), (2, "site", 0.0)]:
        x, y, _ = getattr(data, f"{name}_xpos")[
            model.geom("box").id if name == "geom" else model.site("goal").id
        ]
        scale = 2 * np.tan(np.radians(model.cam_fovy[0] / 2)) * (2 - height)
        np.testing.assert_allclose(
            _centre(image, colour), [0.5 - y / scale, 0.5 + x / scale], atol=0.02
        )
    assert image[..., 0].max() > 100, "the mesh is there"
    assert not (image.min(axis=-1) > 200).any(), "what is transparent or in a hidden group is not"


def test_a_mesh_lies_where_its_vertices_do() -> None:
    """Compare with the corners in the world, since MuJoCo turns a mesh into its principal axes."""
    model, data = _scene()
    index = model.geom("wedge").id
    mesh = 0
    first = model.mesh_vertadr[mesh]
    count = model.mesh_vertnum[mesh]
    corners = (
        data.geom_xpos[index]
        + model.mesh_vert[first : first + count] @ data.geom_xmat[index].reshape(3, 3).T
    )
    image = _draw(model, data, NamedView("down"), 96)
    scale = 2 * np.tan(np.radians(model.cam_fovy[0] / 2)) * (2 - corners[:, 2])
    rows, columns = np.nonzero((image[..., 0] > 60) & (image[..., 1] < 60))
    shown = np.array([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]) / 96
    places = np.stack([0.5 - corners[:, 1] / scale, 0.5 + corners[:, 0] / scale])
    expected = [places[0].min(), places[0].max(), places[1].min(), places[1].max()]
    np.testing.assert_allclose(shown, expected, atol=0.02)


def test_an_inverted_camera_is_turned_upright_and_may_be_moved() -> None:
    model, data = _scene(slide=0.3)
    upright = _draw(model, data, NamedView("down"))
    np.testing.assert_array_equal(
        _draw(model, data, NamedView("turned", upside_down=True)), upright
    )
    assert np.abs(_draw(model, data, NamedView("turned")).astype(int) - upright).max() > 100
    moved = _draw(model, data, NamedView("down", position=(0.3, 0.0, 2.0)), 96)
    np.testing.assert_allclose(_centre(moved, 1), [0.5, 0.5], atol=0.02)


def test_mujocos_free_camera() -> None:
    """Against MuJoCo's own `mjv_updateCamera`, which needs no OpenGL."""
    model, data = _scene(slide=0.2)
    for azimuth, elevation, distance in [(90, -45, 2), (132, -14, 2.5), (30, -90, 3), (-60, 10, 1)]:
        view = OrbitView((0.1, 0.2, 0.3), distance, azimuth, elevation)
        camera, scene = mujoco.MjvCamera(), mujoco.MjvScene(model, 10)
        camera.lookat[:], camera.distance, camera.azimuth, camera.elevation = (
            view.target,
            distance,
            azimuth,
            elevation,
        )
        mujoco.mjv_updateScene(
            model, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL, scene
        )
        pose = view.pose(model, data)
        one, other = scene.camera
        np.testing.assert_allclose(pose.position, (one.pos + other.pos) / 2, atol=1e-5)
        np.testing.assert_allclose(pose.rotation[:, 1], one.up, atol=1e-5)
        np.testing.assert_allclose(-pose.rotation[:, 2], one.forward, atol=1e-5)


def test_a_tracking_view_follows_its_body_and_the_default_is_gymnasiums() -> None:
    model, data = _scene(slide=0.4)
    body = model.body("carrier").id
    centre = _centre(_draw(model, data, OrbitView(body, 2.0, elevation=-90), 96), 1)
    np.testing.assert_allclose(centre, [0.5, 0.5], atol=0.02)

    class Renderer:
        camera_id = -1
        default_cam_config = {"trackbodyid": body, "distance": 3.0}  # noqa: RUF012

    class Env:
        mujoco_renderer = Renderer()

    assert own_view(Env(), model, data) == OrbitView(
        body, 3.0, 90.0, -45.0, float(model.vis.global_.fovy)
    )
    free = own_view(object(), model, data)
    assert isinstance(free, OrbitView)
    np.testing.assert_allclose(free.target, np.median(data.geom_xpos, axis=0))
    Renderer.camera_id = 1
    assert own_view(Env(), model, data) == NamedView("turned")


def test_digests_tell_looks_apart_and_nothing_else() -> None:
    model, _ = _scene()
    other, _ = _scene(slide=0.4)
    assert (appearance_digest(model), shape_digest(model)) == (
        appearance_digest(other),
        shape_digest(other),
    )
    other.geom_rgba[2, 0] = 0.5
    assert appearance_digest(model) != appearance_digest(other)
    assert shape_digest(model) == shape_digest(other)
    other.mesh_vert[0, 0] += 0.1
    assert shape_digest(model) != shape_digest(other)


def test_an_unknown_camera_names_the_known_ones() -> None:
    model, _ = _scene()
    with pytest.raises(ValueError, match="no camera 'side'; the model's cameras are down, turned"):
        NamedView("side").fovy(model)
