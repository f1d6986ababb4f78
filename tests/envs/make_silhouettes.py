"""Make data/silhouettes.npz: masks of the moving geoms in dm_control's OpenGL images of states.

Needs OpenGL (`MUJOCO_GL=egl` or `osmesa`); the test that reads the file does not. Run it from the
repository root:

    MUJOCO_GL=egl python tests/envs/make_silhouettes.py
"""

from pathlib import Path
from typing import Any

import numpy as np
from dm_control import mujoco
from dm_control.suite.utils.randomizers import randomize_limited_and_rotational_joints

from envs.families.cheetah_speed import CheetahSpeed
from envs.families.compat import (
    CompatCartpole,
    CompatCheetah,
    CompatHopper,
    CompatHumanoid,
    CompatPointMass,
    CompatQuadruped,
    CompatReacher,
    CompatWalker,
)
from envs.families.point_mass import PointMass
from envs.families.quadruped_speed import QuadrupedSpeed
from envs.families.walker_speed import WalkerSpeed
from envs.simulation.physics import Scene

STATES = 8
# Scene and image size: at 64x64 a single pixel would be 2 % of a point mass and its target.
SCENES = {
    "compat_walker": (CompatWalker.scene, 64),
    "walker_speed": (WalkerSpeed.scene, 64),
    "compat_point_mass": (CompatPointMass.scene, 320),
    "point_mass": (PointMass.scene, 320),
    "cheetah_speed": (CheetahSpeed.scene, 64),
    "quadruped_speed": (QuadrupedSpeed.scene, 64),
    "compat_cheetah": (CompatCheetah.scene, 64),
    "compat_quadruped": (CompatQuadruped.scene, 64),
    "compat_reacher": (CompatReacher.scene, 128),
    "compat_cartpole": (CompatCartpole(1).scene, 128),
    "compat_hopper": (CompatHopper.scene, 64),
    "compat_humanoid": (CompatHumanoid.scene, 64),
}


def silhouettes(scene: Scene, size: int, rng: np.random.RandomState) -> dict[str, np.ndarray]:
    """Joint positions [state, nq], mocap positions and masks [state, height, width] of everything
    but planes."""
    physics = mujoco.Physics.from_model(mujoco.wrapper.MjModel(scene.model))
    planes = np.flatnonzero(
        physics.model.geom_type == mujoco.wrapper.mjbindings.enums.mjtGeom.mjGEOM_PLANE
    )
    rows: dict[str, list[np.ndarray]] = {"qpos": [], "mocap_pos": [], "mask": []}
    # Sites, which the ray tracer does not draw, would be numbered like geoms.
    geoms = mujoco.wrapper.MjvOption()
    geoms.sitegroup[:] = 0
    for _ in range(STATES):
        with physics.reset_context():
            randomize_limited_and_rotational_joints(physics, rng)
            physics.data.mocap_pos[:] = rng.uniform(-0.25, 0.25, physics.data.mocap_pos.shape) * [
                1,
                1,
                0,
            ]
        physics.step(200)
        labels = physics.render(
            size, size, camera_id=scene.camera, segmentation=True, scene_option=geoms
        )[..., 0]
        rows["qpos"].append(physics.data.qpos.copy())
        rows["mocap_pos"].append(physics.data.mocap_pos.copy())
        rows["mask"].append((labels >= 0) & ~np.isin(labels, planes))
    return {name: np.stack(values) for name, values in rows.items()}


def main() -> None:
    """Write the reference file."""
    rng = np.random.RandomState(0)
    arrays: dict[str, Any] = {
        f"{name}/{key}": value
        for name, pair in SCENES.items()
        for key, value in silhouettes(*pair, rng).items()
    }
    target = Path(__file__).parent / "data" / "silhouettes.npz"
    np.savez_compressed(target, **arrays)
    print(f"wrote {target}: " + ", ".join(f"{key} {value.shape}" for key, value in arrays.items()))


if __name__ == "__main__":
    main()
