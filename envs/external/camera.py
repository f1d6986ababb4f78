"""Choose the place from which an external environment is seen."""

from dataclasses import dataclass
from typing import Any, Protocol

import mujoco
import numpy as np
from jaxtyping import Float
from typing_extensions import override

FOVY = 45.0


@dataclass(frozen=True)
class Pose:
    """Place a camera: position [3] in metres, and a rotation.

    The rotation's columns point right, up and backwards.
    """

    position: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]


class CameraView(Protocol):
    """Place a camera that may move with the state."""

    def fovy(self, model: mujoco.MjModel) -> float:
        """Return the vertical field of view, degrees."""

    def pose(self, model: mujoco.MjModel, data: mujoco.MjData) -> Pose:
        """Return the place of the camera in this state."""


@dataclass(frozen=True)
class NamedView(CameraView):
    """Look through a camera of the model.

    Attributes:
        name: in the model.
        position: in the world, where it is to stand elsewhere than the model says.
        upside_down: the model's camera is, so that it has to be turned about its axis.

    Raises:
        ValueError: from both methods, where the model has no such camera; the message names those
            it has.
    """

    name: str
    position: tuple[float, float, float] | None = None
    upside_down: bool = False

    @override
    def fovy(self, model: mujoco.MjModel) -> float:
        return float(model.cam_fovy[self._index(model)])

    @override
    def pose(self, model: mujoco.MjModel, data: mujoco.MjData) -> Pose:
        index = self._index(model)
        rotation = data.cam_xmat[index].reshape(3, 3).copy()
        if self.upside_down:
            rotation[:, :2] *= -1
        return Pose(np.array(self.position or data.cam_xpos[index]), rotation)

    def _index(self, model: mujoco.MjModel) -> int:
        index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, self.name)
        if index < 0:
            names = ", ".join(model.camera(camera).name for camera in range(model.ncam)) or "none"
            raise ValueError(f"there is no camera {self.name!r}; the model's cameras are {names}")
        return int(index)


@dataclass(frozen=True)
class OrbitView(CameraView):
    """Look through MuJoCo's free camera, which looks at a target from an angle and a distance.

    Attributes:
        target: metres in the world, or the number of a body, which is followed wherever it goes.
        distance: metres.
        azimuth: degrees, of the direction in which it looks.
        elevation: degrees; -90 looks straight down with the azimuth's direction upwards in the
            image.
        field: vertical field of view, degrees.
    """

    target: tuple[float, float, float] | int
    distance: float
    azimuth: float = 90.0
    elevation: float = -45.0
    field: float = FOVY

    @override
    def fovy(self, model: mujoco.MjModel) -> float:
        return self.field

    @override
    def pose(self, model: mujoco.MjModel, data: mujoco.MjData) -> Pose:
        azimuth = np.radians(self.azimuth)
        elevation = np.radians(self.elevation)
        level = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        forward = np.cos(elevation) * level + np.sin(elevation) * np.array([0.0, 0.0, 1.0])
        upward = np.cos(elevation) * np.array([0.0, 0.0, 1.0]) - np.sin(elevation) * level
        rotation = np.stack([np.cross(forward, upward), upward, -forward], axis=1)
        target = data.xpos[self.target] if isinstance(self.target, int) else np.array(self.target)
        return Pose(target - self.distance * forward, rotation)


def own_view(env: Any, model: mujoco.MjModel, data: mujoco.MjData) -> CameraView:
    """Return the view that a Gymnasium environment's own renderer has.

    Source: Gymnasium's `MujocoRenderer`, whose camera looks at the median of the geoms from one
    model extent away unless the environment names a camera or says where to place it.
    """
    renderer = getattr(env, "mujoco_renderer", None)
    index = getattr(renderer, "camera_id", -1)
    if index is not None and index >= 0:
        return NamedView(model.camera(index).name)
    config = dict(getattr(renderer, "default_cam_config", None) or {})
    centre = np.median(data.geom_xpos, axis=0) if model.ngeom else np.zeros(3)
    x, y, z = (float(part) for part in config.get("lookat", centre))
    tracked = int(config.get("trackbodyid", -1))
    return OrbitView(
        target=tracked if tracked >= 0 else (x, y, z),
        distance=float(config.get("distance", model.stat.extent)),
        azimuth=float(config.get("azimuth", 90.0)),
        elevation=float(config.get("elevation", -45.0)),
        field=float(model.vis.global_.fovy),
    )
