"""Images put together from what stays and a window around what moves, against images traced
whole."""

import mujoco
import numpy as np
import pytest
import torch

from envs.families.maze import MAZES
from envs.families.point_mass import PointMass
from envs.families.point_maze import PointMaze
from envs.families.quadruped_maze import QuadrupedMaze
from envs.families.walker_speed import WalkerSpeed
from envs.simulation import mujoco_cpu
from envs.simulation.fixed_camera import window_size
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState, Physics, Scene
from envs.simulation.variation import Dynamics, Vision, variant

SIZE = 48
# The window's rays are computed by other roundings, which decide a few pixels on edges.
FEW = 2e-4


def scene_of(family: type) -> Scene:
    return family().scene


def pair(scene: Scene, worlds: int, monkeypatch, threads: int = 1, **more) -> list[MujocoPhysics]:
    """The same worlds, with windows and without."""
    quick = MujocoPhysics(scene, worlds, SIZE, threads, **more)
    assert quick._chunks[0]._fixed is not None
    monkeypatch.setattr(mujoco_cpu, "window_size", lambda scene, size: None)
    whole = MujocoPhysics(scene, worlds, SIZE, threads, **more)
    assert whole._chunks[0]._fixed is None
    return [quick, whole]


def images(physics: Physics, worlds: torch.Tensor | None = None) -> np.ndarray:
    count = physics.num_worlds if worlds is None else len(worlds)
    out = torch.zeros(count, SIZE, SIZE, 3, dtype=torch.uint8)
    physics.render(out, worlds)
    return out.numpy().astype(int)


def assert_same(first: np.ndarray, second: np.ndarray) -> None:
    assert (first != second).any(-1).mean() < FEW
    assert second.std() > 0


@pytest.mark.parametrize("family", [PointMass, PointMaze])
@pytest.mark.parametrize("threads", [1, 2])
def test_composed_images_are_those_that_are_traced_whole(family, threads, monkeypatch):
    both = pair(scene_of(family), 5, monkeypatch, threads)
    generator = torch.Generator().manual_seed(0)
    for step in range(40):
        control = torch.rand(5, 2, generator=generator) * 2 - 1
        for physics in both:
            physics.step(control)
        if step % 4 == 0:
            assert_same(*map(images, both))


def test_moved_markers_and_new_episodes_are_seen_at_once(monkeypatch):
    both = pair(scene_of(PointMaze), 4, monkeypatch)
    before = [images(physics) for physics in both]
    some = torch.tensor([True, False, True, False])
    for physics in both:
        physics.place("goal", torch.tensor([[0.1, 0.05, 0.0]] * 4, dtype=torch.float64), some)
    after = [images(physics) for physics in both]
    assert_same(*after)
    changed = (after[0] != before[0]).any((1, 2, 3))
    assert changed.tolist() == some.tolist()
    for physics in both:
        start = InitialState.of(physics.model, 4)
        start.joint_positions[:] = torch.tensor([0.12, -0.07])
        physics.reset(~some, start)
    assert_same(*map(images, both))


def test_listed_worlds_and_loaded_states(monkeypatch):
    both = pair(scene_of(PointMass), 5, monkeypatch, threads=2)
    for physics in both:
        physics.step(torch.linspace(-1, 1, 10).view(5, 2))
    listed = torch.tensor([0, 2, 4])
    assert_same(*(images(physics, listed) for physics in both))
    state = both[0].state()
    state[:, 1] += np.linspace(-0.2, 0.2, 5)
    for physics in both:
        physics.load_state(state)
    assert_same(*map(images, both))


def test_variants_of_camera_and_colours(monkeypatch):
    scene = scene_of(PointMass)
    visions = [Vision(), Vision(distance=1.4), Vision(roll=12.0), Vision(hue=90.0)]
    models = [variant(scene.model, scene.camera, Dynamics(), vision) for vision in visions]
    both = pair(scene, 4, monkeypatch, variants=models)
    for physics in both:
        start = InitialState.of(physics.model, 4)
        start.variants = torch.arange(4)
        start.joint_positions[:] = torch.tensor([0.15, -0.1])
        physics.reset(torch.ones(4, dtype=torch.bool), start)
    first = images(both[0])
    assert_same(first, images(both[1]))
    assert len({image.tobytes() for image in first}) == 4
    # The same worlds get other variants.
    for physics in both:
        start = InitialState.of(physics.model, 4)
        start.variants = torch.tensor([3, 2, 1, 0])
        start.joint_positions[:] = torch.tensor([0.1, 0.1])
        physics.reset(torch.ones(4, dtype=torch.bool), start)
    assert_same(*map(images, both))


@pytest.mark.parametrize("place", [(0.29, 0.29), (-0.3, 0.1), (5.0, 0.0), (0.0, -0.31)])
def test_what_moves_may_be_at_the_edge_or_out_of_sight(place, monkeypatch):
    both = pair(scene_of(PointMass), 1, monkeypatch)
    for physics in both:
        start = InitialState.of(physics.model, 1)
        start.joint_positions[:] = torch.tensor(place)
        physics.reset(torch.ones(1, dtype=torch.bool), start)
    assert_same(*map(images, both))


NEARER = """
<mujoco>
  <visual><headlight ambient=".5 .5 .5" diffuse=".5 .5 .5" specular="0 0 0"/></visual>
  <worldbody>
    <camera name="eye" pos="0 0 4"/>
    <geom type="box" size=".4 .2 .01" pos=".8 0 -.5" rgba=".2 .5 .9 1"/>
    <body name="ball" pos="0 0 0">
      <joint type="slide" axis="0 0 1"/>
      <joint type="slide" axis="1 0 0"/>
      <geom type="sphere" size=".2" rgba=".9 .6 .2 1"/>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.mark.parametrize("height", [-2.0, 0.0, 1.0, 3.0, 3.7, 4.1, 6.0])
def test_what_comes_so_near_that_no_window_holds_it(height, monkeypatch):
    """The window is made for the ball's size at the start; whole images are traced where it is
    larger, around the camera, or behind it."""
    scene = Scene("nearer", lambda: mujoco.MjSpec.from_string(NEARER), 1, "eye")
    both = pair(scene, 2, monkeypatch)
    for physics in both:
        start = InitialState.of(physics.model, 2)
        start.joint_positions[:] = torch.tensor([[height, 0.0], [height, 0.7]])
        physics.reset(torch.ones(2, dtype=torch.bool), start)
    assert_same(*map(images, both))


def test_an_image_does_not_depend_on_the_worlds_beside_it():
    """One ball is far too near for its window; the other one's image stays as it is alone."""
    scene = Scene("nearer", lambda: mujoco.MjSpec.from_string(NEARER), 1, "eye")
    seen = []
    for heights in ([0.0, 3.7], [0.0, 0.0]):
        physics = MujocoPhysics(scene, 2, SIZE, 1)
        start = InitialState.of(physics.model, 2)
        start.joint_positions[:, 0] = torch.tensor(heights)
        physics.reset(torch.ones(2, dtype=torch.bool), start)
        seen.append(images(physics))
    assert np.array_equal(seen[0][0], seen[1][0])
    assert not np.array_equal(seen[0][1], seen[1][1])


def test_moving_cameras_have_no_window():
    assert window_size(scene_of(WalkerSpeed), 64) is None
    assert window_size(scene_of(QuadrupedMaze), 64) is None
    assert window_size(scene_of(PointMass), 64) is not None


def test_a_tree_sorted_anew_gives_the_same_images():
    """In mazes with walls at other places, against one that is sorted as the scene was built."""
    family = QuadrupedMaze()
    both = [MujocoPhysics(family.scene, 2, SIZE, 1) for _ in range(2)]
    for physics in both:
        start = InitialState.of(physics.model, 2)
        for world, name in enumerate(("spiral", "gate")):
            walls = [[*MAZES[name].centre(cell) * family.cell, 1.0] for cell in MAZES[name].walls]
            start.mocap_positions[world, -len(walls) :] = torch.tensor(np.array(walls))
        start.joint_positions[:, 2] = 0.6
        physics.reset(torch.ones(2, dtype=torch.bool), start)
    assert both[0]._chunks[0]._has_moved_walls
    both[1]._chunks[0]._has_moved_walls = False
    assert_same(*map(images, both))
    assert not both[0]._chunks[0]._has_moved_walls
