"""Random joint positions, drawn from the distribution dm_control's suite starts its episodes from."""

import mujoco
import numpy as np
from jaxtyping import Float64

_HINGE, _SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)


def random_joint_positions(model: mujoco.MjModel, rng: np.random.Generator) -> Float64[np.ndarray, " nq"]:
    """Limited joints uniform within their range, unlimited hinges uniform on the circle, other slides as modelled.

    Source: `randomize_limited_and_rotational_joints` of dm_control's suite.

    Returns:
        Joint positions [nq], radians and metres.

    Raises:
        ValueError: the model has ball or free joints, which no family here uses.
    """
    if not np.isin(model.jnt_type, (_HINGE, _SLIDE)).all():
        raise ValueError("start states are drawn for hinge and slide joints only; this model has ball or free joints")
    positions = np.array(model.qpos0, np.float64)
    limited = model.jnt_limited.astype(bool)
    turning = ~limited & (model.jnt_type == _HINGE)
    positions[limited] = rng.uniform(*model.jnt_range[limited].T)
    positions[turning] = rng.uniform(-np.pi, np.pi, turning.sum())
    return positions
