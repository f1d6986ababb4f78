"""The ray tracer's images against dm_control's OpenGL images of the same states."""

import errno
import os
import time
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
import warp

from envs.families.point_mass import PointMass
from envs.families.walker_speed import WalkerSpeed
from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.physics import InitialState
from envs.simulation.renderer import announce_compilation, start_warp, without_line
from tests.envs.make_silhouettes import SCENES
from tests.envs.segmentation import shown_geoms

SIZE = 64


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    return dict(np.load(Path(__file__).parents[1] / "data" / "silhouettes.npz"))


def _overlap(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Intersection over union, a state."""
    return (ours & theirs).sum(axis=(1, 2)) / (ours | theirs).sum(axis=(1, 2))


@pytest.mark.parametrize("name", SCENES)
def test_silhouettes_equal_dm_controls(name: str, reference: dict[str, np.ndarray]) -> None:
    scene = SCENES[name][0]
    expected = reference[f"{name}/mask"]
    labels = shown_geoms(
        scene, reference[f"{name}/qpos"], reference[f"{name}/mocap_pos"], size=expected.shape[1]
    )
    planes = np.flatnonzero(scene.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
    overlap = _overlap((labels >= 0) & ~np.isin(labels, planes), expected)
    assert overlap.min() >= 0.98, overlap


def test_the_image_shows_what_the_segmentation_shows(reference: dict[str, np.ndarray]) -> None:
    positions, mocap = (
        torch.from_numpy(reference[f"point_mass/{key}"]) for key in ("qpos", "mocap_pos")
    )
    physics = MujocoPhysics(PointMass.scene, len(positions), SIZE, threads=2)
    physics.reset(
        torch.ones(len(positions), dtype=torch.bool),
        InitialState(positions, torch.zeros_like(positions), mocap),
    )
    pixels = torch.zeros((len(positions), SIZE, SIZE, 3), dtype=torch.uint8)
    physics.render(pixels)
    background = pixels[0, 0, 0]
    drawn = (pixels != background).any(dim=-1).numpy()
    assert np.array_equal(
        drawn, shown_geoms(PointMass.scene, positions.numpy(), mocap.numpy()) >= 0
    )
    physics.close()


def test_drawing_some_worlds_equals_drawing_all() -> None:
    physics = MujocoPhysics(WalkerSpeed.scene, 5, SIZE, threads=2)
    start = InitialState.of(physics.model, 5)
    start.joint_positions[:, 2] = torch.linspace(0, 2, 5)
    physics.reset(torch.ones(5, dtype=torch.bool), start)
    every, some = (torch.zeros((count, SIZE, SIZE, 3), dtype=torch.uint8) for count in (5, 3))
    physics.render(every)
    physics.render(some, torch.tensor([0, 3, 4]))
    assert torch.equal(some, every[[0, 3, 4]])
    assert np.array_equal(physics.image(3, SIZE), every[3].numpy())
    physics.close()


def test_colours_come_in_the_order_red_green_blue() -> None:
    physics = MujocoPhysics(PointMass.scene, 1, SIZE)
    pixels = torch.zeros((1, SIZE, SIZE, 3), dtype=torch.uint8)
    physics.render(pixels)
    red, green, blue = (round(255 * part) for part in PointMass.scene.background)
    assert (pixels[0, 0, 0] - torch.tensor([red, green, blue])).abs().max() <= 1
    # The target is red, and the yellow mass lies in front of it where they meet.
    middle = pixels[0, SIZE // 2, SIZE // 2]
    assert middle[0] > 200
    assert middle[1] > 180
    assert middle[2] < 130


def test_mass_and_target_cover_dozens_of_pixels(reference: dict[str, np.ndarray]) -> None:
    labels = shown_geoms(
        PointMass.scene, np.array([[-0.15, 0.1]]), np.array([[[0.15, -0.15, 0.0]]])
    )[0]
    mass, target = (PointMass.scene.model.geom(name).id for name in ("pointmass", "target"))
    assert (labels == mass).sum() >= 24
    assert (labels == target).sum() >= 48


def test_a_long_wait_is_explained_and_a_short_one_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with announce_compilation(seconds=60):
        pass
    assert capsys.readouterr().err == ""
    with announce_compilation(seconds=0):
        time.sleep(0.5)
    assert "compiling the ray tracer" in capsys.readouterr().err


def test_one_known_line_is_left_out_of_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with without_line("no such driver"):
        os.write(2, b"Warp: no such driver\nWarp: out of memory\n")
    assert capfd.readouterr().err == "Warp: out of memory\n"


def test_a_home_that_cannot_be_written_names_the_variable_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/home/nobody/.cache")

    monkeypatch.setattr(warp, "init", fail)
    expected = r"Permission denied .* WARP_CACHE_PATH names another folder\): '/home/nobody/.cache'"
    with pytest.raises(PermissionError, match=expected):
        start_warp.__wrapped__()
    with pytest.raises(PermissionError, match=expected), announce_compilation(60):
        fail()
