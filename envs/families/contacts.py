"""Whether a state touches anything, for start states that must not."""

import mujoco


def contacts(model: mujoco.MjModel, data: mujoco.MjData) -> int:
    """Number of contacts at the joint positions of `data`, whose position-dependent fields are brought up to date."""
    mujoco.mj_fwdPosition(model, data)
    return int(data.ncon)
