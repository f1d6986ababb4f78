"""How a world differs from its scene: the state-space generalization of the splits `dynamics_*` and
`vision_*`.

A variant is a copy of the scene's model with other numbers and the same sizes, so that worlds of
one batch may follow different ones.
"""

from __future__ import annotations

import colorsys
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import mujoco
import numpy as np
from jaxtyping import Float

from envs.simulation.distractors import MOST, filming_distance

# MuJoCo's colour of a geom that has been given none.
UNSET = (0.5, 0.5, 0.5, 1.0)


def _within(default: float, least: float, most: float, whole: bool = False) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "whole": whole})


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Numbers by name, each within its bounds; at their defaults they change nothing.

    Raises:
        ValueError: something that is not a number within the bounds of its name.
    """

    def __post_init__(self) -> None:
        for part in fields(self):
            value, least, most = (
                getattr(self, part.name),
                part.metadata["least"],
                part.metadata["most"],
            )
            number = isinstance(value, int | float) and not isinstance(value, bool)
            whole = part.metadata["whole"]
            if not number or not least <= value <= most or (whole and value != int(value)):
                kind = "a whole number" if whole else "a number"
                raise ValueError(
                    f"{part.name} must be {kind} from {least:g} to {most:g}, got {value!r}"
                )
            object.__setattr__(self, part.name, float(value))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Those left out stay at their defaults. Raises ValueError naming an unknown one and what
        there is.
        """
        valid = [part.name for part in fields(cls)]
        unknown = [key for key in values if key not in valid]
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r}; valid are {', '.join(valid)}")
        return cls(**values)

    def to_dict(self) -> dict[str, float]:
        """What is not at its default."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {
            part.name: values[part.name]
            for part in fields(self)
            if values[part.name] != part.default
        }


@dataclass(frozen=True, kw_only=True)
class Dynamics(Variation):
    """Factors on what moves bodies.

    ImaginationStart are drawn for the plain model: what settles before an episode begins does so
    under plain dynamics.

    mass: of every body, with its inertia, as a change of density.
    friction: sliding friction of every geom.
    gravity: acceleration.
    damping: of every joint.
    gain: force of every actuator at the same control and state.
    """

    mass: float = _within(1.0, 0.1, 10.0)
    friction: float = _within(1.0, 0.1, 10.0)
    gravity: float = _within(1.0, 0.1, 10.0)
    damping: float = _within(1.0, 0.1, 10.0)
    gain: float = _within(1.0, 0.1, 10.0)

    def applied(self, model: mujoco.MjModel) -> mujoco.MjModel:
        """A model that differs in these.

        Raises:
            ValueError: friction or gravity is to differ where it has no effect, or the gain of a
                muscle.
        """
        varied = copy.copy(model)
        if self.friction != 1 and not _rubs(model):
            raise ValueError("friction has no effect in a scene without contacts that have any")
        if self.gravity != 1 and not _weighs(model):
            raise ValueError("gravity has no effect in a scene where no joint feels it")
        if self.gain != 1 and (model.actuator_gaintype == int(mujoco.mjtGain.mjGAIN_MUSCLE)).any():
            raise ValueError("gain cannot be changed in a scene with muscles")
        varied.body_mass[:] *= self.mass
        varied.body_inertia[:] *= self.mass
        varied.geom_friction[:, 0] *= self.friction
        varied.opt.gravity[:] *= self.gravity
        varied.dof_damping[:] *= self.damping
        # A force is the gain times the control plus the bias, both affine in the actuator's length
        # and velocity.
        varied.actuator_gainprm[:, :3] *= self.gain
        varied.actuator_biasprm[:, :3] *= self.gain
        return varied


def _rubs(model: mujoco.MjModel) -> bool:
    """Whether anything that touches is slowed by it."""
    touching = not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT
    return bool(touching and (model.geom_condim > 1).any())


def _weighs(model: mujoco.MjModel) -> bool:
    """Whether gravity pulls at a joint in the initial state."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return bool(np.abs(data.qfrc_bias).max() > 1e-9)


@dataclass(frozen=True, kw_only=True)
class Vision(Variation):
    """What images show otherwise. The background and the colours within textures (floors among
    them) stay.

    hue: degrees by which the colours of geoms and materials are turned.
    brightness: factor on them, cut off at white.
    distance: factor on how far the camera is from what it films, along its line of sight.
    tilt: degrees by which the camera looks up; down where it is negative.
    roll: degrees by which the camera is turned about the line of sight, anticlockwise.
    distractors: number of coloured spheres that move through the image (see
        `envs.simulation.distractors`).
    """

    hue: float = _within(0.0, -180.0, 180.0)
    brightness: float = _within(1.0, 0.1, 10.0)
    distance: float = _within(1.0, 0.1, 10.0)
    tilt: float = _within(0.0, -90.0, 90.0)
    roll: float = _within(0.0, -180.0, 180.0)
    distractors: float = _within(0.0, 0.0, MOST, whole=True)

    def applied(self, model: mujoco.MjModel, camera: str) -> mujoco.MjModel:
        """A model whose named camera and colours differ in these; distractors are no part of it.

        Raises:
            ValueError: the camera is to be moved or turned and always looks at some body.
        """
        varied = copy.copy(model)
        # A geom that has MuJoCo's default colour is drawn in that of its material, and in its own
        # with any other.
        unset = (varied.geom_matid >= 0) & (varied.geom_rgba == UNSET).all(axis=1)
        for colour in (
            *(varied.geom_rgba[geom] for geom in np.flatnonzero(~unset)),
            *varied.mat_rgba,
        ):
            colour[:3] = self._colour(colour[:3])
        if self.distance != 1 or self.tilt or self.roll:
            self._pose(varied, camera)
        return varied

    def _pose(self, varied: mujoco.MjModel, camera: str) -> None:
        index = varied.camera(camera).id
        looks_at = (
            mujoco.mjtCamLight.mjCAMLIGHT_TARGETBODY,
            mujoco.mjtCamLight.mjCAMLIGHT_TARGETBODYCOM,
        )
        if int(varied.cam_mode[index]) in map(int, looks_at):
            raise ValueError(
                f"camera {camera!r} always looks at a body and cannot be moved or turned"
            )
        # A camera looks along its -z; x is to the right of the image and y upwards.
        backwards = np.zeros(3)
        mujoco.mju_rotVecQuat(backwards, np.array([0.0, 0.0, 1.0]), varied.cam_quat[index])
        varied.cam_pos[index] += (self.distance - 1) * filming_distance(varied, camera) * backwards
        for axis, degrees in (((1.0, 0.0, 0.0), self.tilt), ((0.0, 0.0, 1.0), self.roll)):
            turn, turned = np.zeros(4), np.zeros(4)
            mujoco.mju_axisAngle2Quat(turn, np.array(axis), np.deg2rad(degrees))
            mujoco.mju_mulQuat(turned, varied.cam_quat[index], turn)
            varied.cam_quat[index] = turned

    def _colour(self, colour: Float[np.ndarray, " 3"]) -> tuple[float, float, float]:
        hue, saturation, value = colorsys.rgb_to_hsv(*colour.tolist())
        return colorsys.hsv_to_rgb(
            (hue + self.hue / 360) % 1, saturation, min(1.0, value * self.brightness)
        )


def variant(
    model: mujoco.MjModel, camera: str, dynamics: Dynamics, vision: Vision
) -> mujoco.MjModel:
    """A copy of a scene's model that differs in these; it may be simulated with the same data.

    Raises:
        ValueError: this scene cannot differ in one of them.
    """
    varied = vision.applied(dynamics.applied(model), camera)
    if dynamics.to_dict() or vision.to_dict():
        # Masses of subtrees, inverse weights for contacts, cameras' frames and the like follow from
        # these.
        mujoco.mj_setConst(varied, mujoco.MjData(varied))
    return varied
