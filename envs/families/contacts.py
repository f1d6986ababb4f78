"""Whether a state touches anything, for start states that must not."""

from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float

from envs.families.family import TaskStart

_LIFT = 0.01
_HIGHEST = 100.0


def contacts(model: mujoco.MjModel, data: mujoco.MjData) -> int:
    """Number of contacts at the joint positions of `data`, whose position-dependent fields are
    brought up to date.
    """
    mujoco.mj_fwdPosition(model, data)
    return int(data.ncon)


def lifted(
    model: mujoco.MjModel,
    orientation: Float[np.ndarray, " 4"],
    place: Sequence[float] | np.ndarray = (0.0, 0.0),
) -> TaskStart:
    """The initial pose of a free body in this orientation, at the lowest multiple of 1 cm without a
    contact, at rest.

    Source: `_find_non_contacting_height` of dm_control's quadruped.

    Args:
        model: whose first joint is free.
        orientation: a unit quaternion.
        place: of its frame, x and y in metres.

    Raises:
        RuntimeError: there are contacts at every height up to 100 m.
    """
    data = mujoco.MjData(model)
    data.qpos[:2], data.qpos[2], data.qpos[3:7] = place, 0.0, orientation
    while contacts(model, data):
        data.qpos[2] += _LIFT
        if data.qpos[2] > _HIGHEST:
            raise RuntimeError(
                f"the body in orientation {orientation} touches itself or something at any height"
            )
    return TaskStart(data.qpos.copy(), np.zeros(model.nv), np.zeros((0, 3)))
