"""Comparisons with dm_control need its physics and rewards, not its OpenGL images."""

import os

os.environ.setdefault("MUJOCO_GL", "disabled")
