"""Vary a scene's dynamics and appearance, for the splits `dynamics_*` and `vision_*`.

These splits test state-space generalization. A variant is a copy of the scene's model with other
numbers and the same sizes, so that the worlds of one batch may have different variants.
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

from envs.simulation.distractors import MAX_DISTRACTORS, subject_distance

# MuJoCo's default colour of a geom.
_DEFAULT_COLOUR = (0.5, 0.5, 0.5, 1.0)


def _within(default: float, least: float, most: float, whole: bool = False) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "whole": whole})


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Hold numbers by name, each within its range; their defaults change nothing.

    Raises:
        ValueError: a value is not a number within the range of its name.
    """

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            least = part.metadata["least"]
            most = part.metadata["most"]
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
        """Return an instance with these values, and defaults for the others.

        Raises:
            ValueError: a key is unknown; the message names the valid ones.
        """
        valid = [part.name for part in fields(cls)]
        unknown = [key for key in values if key not in valid]
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r}; valid are {', '.join(valid)}")
        return cls(**values)

    def to_dict(self) -> dict[str, float]:
        """Return the values that are not at their defaults."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {
            part.name: values[part.name]
            for part in fields(self)
            if values[part.name] != part.default
        }


@dataclass(frozen=True, kw_only=True)
class Dynamics(Variation):
    """Scale the quantities that move bodies.

    Initial states are drawn for the unchanged model: a body that settles before an episode begins
    does so under unchanged dynamics.

    Attributes:
        mass: factor on the mass of every body and on its inertia, like a change of density.
        friction: factor on the sliding friction of every geom.
        gravity: factor on the acceleration.
        damping: factor on the damping of every joint.
        gain: factor on the force of every actuator at the same control and state.
    """

    mass: float = _within(1.0, 0.1, 10.0)
    friction: float = _within(1.0, 0.1, 10.0)
    gravity: float = _within(1.0, 0.1, 10.0)
    damping: float = _within(1.0, 0.1, 10.0)
    gain: float = _within(1.0, 0.1, 10.0)

    def applied(self, model: mujoco.MjModel) -> mujoco.MjModel:
        """Return a copy of the model with these changes.

        Raises:
            ValueError: friction or gravity is changed where it has no effect, or the gain of a
                muscle.
        """
        varied = copy.copy(model)
        if self.friction != 1 and not _has_friction(model):
            raise ValueError("friction has no effect in a scene without contacts that have any")
        if self.gravity != 1 and not _feels_gravity(model):
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


def _has_friction(model: mujoco.MjModel) -> bool:
    """Return whether there are contacts, and any with friction."""
    touching = not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT
    return bool(touching and (model.geom_condim > 1).any())


def _feels_gravity(model: mujoco.MjModel) -> bool:
    """Return whether gravity acts on a joint in the initial state."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return bool(np.abs(data.qfrc_bias).max() > 1e-9)


@dataclass(frozen=True, kw_only=True)
class Vision(Variation):
    """Change the camera and the colours of images.

    The background and the colours within textures, such as those of floors, stay the same.

    Attributes:
        hue: degrees by which the hues of geoms and materials are rotated.
        brightness: factor on their brightness, clipped at white.
        distance: factor on the distance between the camera and its subject, along the line of
            sight.
        tilt: degrees by which the camera looks up; negative is down.
        roll: degrees by which the camera is rotated about the line of sight, anticlockwise.
        distractors: number of coloured spheres that move through the image (see
            `envs.simulation.distractors`).
    """

    hue: float = _within(0.0, -180.0, 180.0)
    brightness: float = _within(1.0, 0.1, 10.0)
    distance: float = _within(1.0, 0.1, 10.0)
    tilt: float = _within(0.0, -90.0, 90.0)
    roll: float = _within(0.0, -180.0, 180.0)
    distractors: float = _within(0.0, 0.0, MAX_DISTRACTORS, whole=True)

    def applied(self, model: mujoco.MjModel, camera: str) -> mujoco.MjModel:
        """Return a copy of the model with these changes of the named camera and the colours.

        Distractors are not part of it.

        Raises:
            ValueError: the camera is moved or rotated but always looks at a body.
        """
        varied = copy.copy(model)
        # A geom with MuJoCo's default colour is drawn in the colour of its material.
        unset = (varied.geom_matid >= 0) & (varied.geom_rgba == _DEFAULT_COLOUR).all(axis=1)
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
        varied.cam_pos[index] += (self.distance - 1) * subject_distance(varied, camera) * backwards
        for axis, degrees in (((1.0, 0.0, 0.0), self.tilt), ((0.0, 0.0, 1.0), self.roll)):
            turn = np.zeros(4)
            turned = np.zeros(4)
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
    """Return a copy of a scene's model with these changes, for data of the same sizes.

    Args:
        model: the scene's model.
        camera: name of the observation's camera.
        dynamics: changes of the dynamics.
        vision: changes of the camera and of colours.

    Raises:
        ValueError: one of the changes is not possible in this scene.
    """
    varied = vision.applied(dynamics.applied(model), camera)
    if dynamics.to_dict() or vision.to_dict():
        # This recomputes what depends on them: masses of subtrees, inverse weights for contacts,
        # cameras' frames and others.
        mujoco.mj_setConst(varied, mujoco.MjData(varied))
    return varied
