"""Provide tasks of dm_control's suite as published, for comparison with published curves.

Initial states and rewards are dm_control's (tested against it), and so are the models, except where
a family's own docstring names a difference. Images have no shadows, no reflections and a plain sky.
The task vector is one-hot over all tasks, so that agents trained on some of them fit the others.
These are all tasks of these bodies except humanoid-run_pure_state, which is humanoid-run with
observations other than pixels.
"""

from collections.abc import Mapping

from envs.families.compat.cartpole import CompatCartpole
from envs.families.compat.cheetah import CompatCheetah
from envs.families.compat.hopper import CompatHopper
from envs.families.compat.humanoid import CompatHumanoid
from envs.families.compat.point_mass import CompatPointMass
from envs.families.compat.quadruped import CompatQuadruped
from envs.families.compat.quadruped_escape import CompatQuadrupedEscape
from envs.families.compat.quadruped_fetch import CompatQuadrupedFetch
from envs.families.compat.reacher import CompatReacher
from envs.families.compat.tasks import TASKS
from envs.families.compat.walker import CompatWalker
from envs.families.family import Family

__all__ = [
    "TASKS",
    "CompatCartpole",
    "CompatCheetah",
    "CompatHopper",
    "CompatHumanoid",
    "CompatPointMass",
    "CompatQuadruped",
    "CompatQuadrupedEscape",
    "CompatQuadrupedFetch",
    "CompatReacher",
    "CompatWalker",
    "compat_families",
]


def compat_families() -> Mapping[str, Family]:
    """Return the family of each of `TASKS`; tasks that share a scene share a family."""
    bodies: dict[str, Family] = {
        "point_mass": CompatPointMass(),
        "walker": CompatWalker(),
        "cheetah": CompatCheetah(),
        "quadruped": CompatQuadruped(),
        "quadruped-fetch": CompatQuadrupedFetch(),
        "quadruped-escape": CompatQuadrupedEscape(),
        "reacher": CompatReacher(),
        "cartpole": CompatCartpole(1),
        "cartpole-two_poles": CompatCartpole(2),
        "cartpole-three_poles": CompatCartpole(3),
        "hopper": CompatHopper(),
        "humanoid": CompatHumanoid(),
    }
    return {name: bodies.get(name) or bodies[name.split("-")[0]] for name in TASKS}
