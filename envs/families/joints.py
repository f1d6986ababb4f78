"""Draw joint positions from the distribution of dm_control's initial states."""

import mujoco
import numpy as np
from jaxtyping import Float64

_HINGE, _SLIDE, _FREE = (
    int(kind)
    for kind in (
        mujoco.mjtJoint.mjJNT_HINGE,
        mujoco.mjtJoint.mjJNT_SLIDE,
        mujoco.mjtJoint.mjJNT_FREE,
    )
)


def random_joint_positions(
    model: mujoco.MjModel, rng: np.random.Generator
) -> Float64[np.ndarray, " nq"]:
    """Draw joint positions as dm_control's suite does.

    Limited joints are uniform within their range, unlimited hinges uniform on the circle, and
    other slides are as in the model. A free joint keeps its position and gets as orientation a
    normalised quaternion of four uniform numbers in [0, 1). This does not cover all orientations
    evenly, but the suite's published results start from it.

    Source: `randomize_limited_and_rotational_joints` of dm_control's suite.

    Returns:
        Joint positions [nq], radians and metres, and unit quaternions.

    Raises:
        ValueError: the model has ball joints, which no family here uses.
    """
    if not np.isin(model.jnt_type, (_HINGE, _SLIDE, _FREE)).all():
        raise ValueError(
            "initial states are drawn for hinge, slide and free joints only; "
            "this model has ball joints"
        )
    positions = np.array(model.qpos0, np.float64)
    limited = model.jnt_limited.astype(bool)
    unlimited = ~limited & (model.jnt_type == _HINGE)
    positions[model.jnt_qposadr[limited]] = rng.uniform(*model.jnt_range[limited].T)
    positions[model.jnt_qposadr[unlimited]] = rng.uniform(-np.pi, np.pi, unlimited.sum())
    for address in model.jnt_qposadr[model.jnt_type == _FREE]:
        quaternion = rng.random(4)
        positions[address + 3 : address + 7] = quaternion / np.linalg.norm(quaternion)
    return positions
