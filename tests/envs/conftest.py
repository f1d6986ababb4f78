"""Comparisons with dm_control need its physics and rewards, not its OpenGL pictures."""

import os

os.environ.setdefault("MUJOCO_GL", "disabled")
