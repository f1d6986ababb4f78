"""Segment images: the geom that each pixel shows."""

import mujoco
import numpy as np

from envs.simulation.physics import Scene
from envs.simulation.renderer import POSES, RayTracer


def shown_geoms(
    scene: Scene, positions: np.ndarray, mocap: np.ndarray, size: int = 64
) -> np.ndarray:
    """Geom numbers, -1 for none, [state, size, size], at joint positions [state, nq] and mocap
    positions."""
    tracer = RayTracer(scene, size, len(positions), segmentation=True)
    for row, (position, targets) in enumerate(zip(positions, mocap, strict=True)):
        data = mujoco.MjData(scene.model)
        data.qpos[:], data.mocap_pos[:] = position, targets
        mujoco.mj_forward(scene.model, data)
        for name in POSES:
            tracer.poses[name][row] = getattr(data, name).reshape(-1)
    return tracer.segment(len(positions))
