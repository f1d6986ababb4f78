"""Refuse simulator packages that do not belong together when `envs` is imported."""

import os
from importlib import metadata

# Every dm-control is built against one minor series of mujoco; mujoco-warp follows mujoco's
# numbers.
DM_CONTROL = "1.0.49"
MUJOCO_SERIES = "3.16"
# Values of MUJOCO_GL that mujoco takes on any system (mujoco.rendering.classic.gl_context).
_OFF = ("disable", "disabled", "off", "false", "0")
_ON = ("", "enable", "enabled", "on", "true", "1")
BACKENDS = (*_ON, "glfw", "glx", "egl", "osmesa", "wgl", "cgl", *_OFF)


def check_versions(mujoco: str, dm_control: str, mujoco_warp: str) -> None:
    """Refuse simulator packages that do not belong together.

    Args:
        mujoco: installed version of mujoco, such as "3.16.0".
        dm_control: installed version of dm-control.
        mujoco_warp: installed version of mujoco-warp.

    Raises:
        ImportError: names the installed and the required versions.
    """
    found = f"mujoco {mujoco}, dm-control {dm_control} and mujoco-warp {mujoco_warp}"
    fits = (
        _series(mujoco) == MUJOCO_SERIES
        and dm_control == DM_CONTROL
        and _series(mujoco_warp) == MUJOCO_SERIES
    )
    if not fits:
        raise ImportError(
            f"{found} are installed, but these environments need mujoco {MUJOCO_SERIES}.x with "
            f"dm-control {DM_CONTROL} and mujoco-warp {MUJOCO_SERIES}.x (each dm-control belongs "
            "to one mujoco series): install the versions that setup.cfg names"
        )


def check_installed_versions() -> None:
    """Call `check_versions` with the installed versions.

    Raises:
        ImportError: they do not belong together.
    """
    check_versions(*(metadata.version(name) for name in ("mujoco", "dm-control", "mujoco-warp")))


def check_backend() -> None:
    """Refuse an OpenGL backend that mujoco would refuse without naming the valid ones.

    The ray tracer's images need no such backend.

    Raises:
        ImportError: names the environment variable, its value and the valid ones.
    """
    value = os.environ.get("MUJOCO_GL", "")
    if value.lower().strip() not in BACKENDS:
        valid = ", ".join(filter(None, BACKENDS))
        raise ImportError(
            f"the environment variable MUJOCO_GL is {value!r}; "
            f"leave it unset or choose from {valid}"
        )


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])
