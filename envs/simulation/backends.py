"""Choose what simulates the worlds of a suite: MuJoCo on the CPU, or MuJoCo Warp."""

from collections.abc import Sequence

import mujoco
import torch

from envs.simulation.mujoco_cpu import MujocoPhysics
from envs.simulation.mujoco_warp import WarpPhysics, refuse_scene
from envs.simulation.physics import Physics, Scene
from envs.simulation.warp_device import check_device

MUJOCO = "mujoco"
WARP = "warp"
PHYSICS = ("auto", MUJOCO, WARP)


def choose_physics(physics: str, scenes: Sequence[Scene], device: str | torch.device) -> str:
    """Return what simulates these scenes, `mujoco` or `warp`.

    `auto` is `warp` on a GPU where MuJoCo Warp can simulate all of them there, else `mujoco`.

    Args:
        physics: one of `PHYSICS`.
        scenes: of a suite; none of an external one.
        device: that the agent computes on.

    Raises:
        ValueError: an unknown name, or `warp` for scenes or a device that it cannot use; the
            message says what can.
    """
    if physics not in PHYSICS:
        raise ValueError(f"physics is {physics!r}; choose from {', '.join(PHYSICS)}")
    if physics == MUJOCO or (physics == "auto" and torch.device(device).type != "cuda"):
        return MUJOCO
    try:
        _check_warp(scenes, device)
    except ValueError:
        if physics == WARP:
            raise
        return MUJOCO
    return WARP


def make_physics(
    physics: str,
    scene: Scene,
    num_worlds: int,
    image_size: int,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    variants: Sequence[mujoco.MjModel] = (),
    distractors: int = 0,
) -> Physics:
    """Make a simulator; for the arguments see `MujocoPhysics` and `WarpPhysics`.

    Args:
        physics: as `choose_physics` returns it.
        scene: model, camera and control rate.
        num_worlds: number of worlds.
        image_size: height and width of the observation in pixels.
        device: that MuJoCo Warp simulates on.
        threads: of MuJoCo.
        variants: variants of the scene's model.
        distractors: number of distractors in the images.

    Raises:
        ValueError: the scene, the device or the number of worlds cannot be.
    """
    if physics == WARP:
        return WarpPhysics(scene, num_worlds, image_size, str(device), variants, distractors)
    return MujocoPhysics(scene, num_worlds, image_size, threads, variants, distractors)


def _check_warp(scenes: Sequence[Scene], device: str | torch.device) -> None:
    """Raise ValueError where MuJoCo Warp cannot simulate these scenes on this device."""
    if not scenes:
        raise ValueError(
            "physics=warp cannot simulate environments of other libraries; physics=mujoco can"
        )
    for scene in scenes:
        refuse_scene(scene)
    check_device(device)
