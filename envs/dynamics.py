"""How a world's dynamics differ from its scene's: the state-space generalization of the splits `dynamics_*`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import mujoco

SMALLEST, LARGEST = 0.1, 10.0


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """Factors on numbers of a MuJoCo model; 1 changes nothing.

    mass: of every body, with its inertia, as a change of density.
    friction: sliding friction of every geom and predefined pair.
    gravity: acceleration.
    damping: of every joint.
    gain: force of every actuator at the same control and state.

    Raises:
        ValueError: a factor that is not a number from 0.1 to 10.
    """

    mass: float = 1.0
    friction: float = 1.0
    gravity: float = 1.0
    damping: float = 1.0
    gain: float = 1.0

    def __post_init__(self) -> None:
        for key, factor in self.factors().items():
            number = isinstance(factor, int | float) and not isinstance(factor, bool)
            if not number or not SMALLEST <= factor <= LARGEST:
                raise ValueError(f"{key} must be a factor from {SMALLEST:g} to {LARGEST:g}, got {factor!r}")
            object.__setattr__(self, key, float(factor))

    def factors(self) -> dict[str, Any]:
        """All factors by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Dynamics:
        """Factors by name; those left out are 1. Raises ValueError naming an unknown one and what there is."""
        valid = [field.name for field in fields(cls)]
        unknown = [key for key in values if key not in valid]
        if unknown:
            raise ValueError(f"unknown factor {unknown[0]!r}; valid are {', '.join(valid)}")
        return cls(**values)

    def to_dict(self) -> dict[str, float]:
        """The factors other than 1."""
        return {key: factor for key, factor in self.factors().items() if factor != 1}

    def applied(self, model: mujoco.MjModel) -> mujoco.MjModel:
        """A model that differs in these; simulated with the same data, because no size changes.

        Raises:
            ValueError: friction is to differ where nothing touches, or the gain of a muscle.
        """
        varied = copy.copy(model)
        if self == Dynamics():
            return varied
        touching = not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT
        if self.friction != 1 and not touching:
            raise ValueError("friction has no effect in a scene without contacts")
        if self.gain != 1 and (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_MUSCLE).any():
            raise ValueError("gain cannot be changed in a scene with muscles")
        varied.body_mass[:] *= self.mass
        varied.body_inertia[:] *= self.mass
        varied.geom_friction[:, 0] *= self.friction
        varied.pair_friction[:, :2] *= self.friction
        varied.opt.gravity[:] *= self.gravity
        varied.dof_damping[:] *= self.damping
        # A force is the gain times the control plus the bias, both affine in the actuator's length and velocity.
        varied.actuator_gainprm[:, :3] *= self.gain
        varied.actuator_biasprm[:, :3] *= self.gain
        # Masses of subtrees, inverse weights for contacts and the like follow from these.
        mujoco.mj_setConst(varied, mujoco.MjData(varied))
        return varied
