"""Find contacts, for initial states that must have none."""

from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float

from envs.families.family import TaskStart

_LIFT = 0.01
_HIGHEST = 100.0


def contacts(model: mujoco.MjModel, data: mujoco.MjData) -> int:
    """Return the number of contacts at the joint positions of `data`.

    This updates the position-dependent fields of `data`.
    """
    mujoco.mj_fwdPosition(model, data)
    return int(data.ncon)


def lifted(
    model: mujoco.MjModel,
    orientation: Float[np.ndarray, " 4"],
    place: Sequence[float] | np.ndarray = (0.0, 0.0),
) -> TaskStart:
    """Return a free body's initial pose, at rest, at the lowest height without a contact.

    The height is a multiple of 1 cm.

    Source: `_find_non_contacting_height` of dm_control's quadruped.

    Args:
        model: a model whose first joint is free.
        orientation: a unit quaternion.
        place: x and y of the body's frame, metres.

    Raises:
        RuntimeError: there are contacts at every height up to 100 m.
    """
    data = mujoco.MjData(model)
    data.qpos[:2] = place
    data.qpos[2] = 0.0
    data.qpos[3:7] = orientation
    while contacts(model, data):
        data.qpos[2] += _LIFT
        if data.qpos[2] > _HIGHEST:
            raise RuntimeError(
                f"the body in orientation {orientation} touches itself or something at any height"
            )
    return TaskStart(data.qpos.copy(), np.zeros(model.nv), np.zeros((0, 3)))
