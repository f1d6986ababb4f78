"""Reward the quadruped's tasks of the unsupervised RL benchmark.

Laskin et al. 2021, arXiv 2110.15191. Source: `Stand`, `Jump` and `Roll` of
github.com/rll-research/url_benchmark, custom_dmc_tasks/quadruped.py.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from envs.families import quadruped
from envs.families.behaviours import Behaviour
from envs.families.description import HALF_LINEAR
from envs.rewards import tolerance
from envs.simulation.physics import Physics

_JUMP_HEIGHT = 1.0
# Published: 0.5 m/s for rolling, 5 m/s for rolling fast.
_SLOWEST_ROLL = 0.5
_FASTEST_ROLL = 5.0


def stand(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward an upright torso, at any speed."""
    return quadruped.posture(physics)


def jump(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward an upright torso with the centre of mass one metre above the floor."""
    height = physics.sensor("center_of_mass")[:, 2]
    bounds = (_JUMP_HEIGHT, float("inf"))
    high = tolerance(height, bounds, margin=_JUMP_HEIGHT, sigmoid="linear", value_at_margin=0.5)
    return quadruped.posture(physics) * high


def roll(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward an upright torso that moves in any direction at `speed` or faster.

    The name is the published one.
    """
    moved = torch.linalg.vector_norm(physics.sensor("velocimeter"), dim=-1)
    fast = tolerance(
        moved, (speed, float("inf")), margin=speed, sigmoid="linear", value_at_margin=0.5
    )
    return quadruped.posture(physics) * fast


SYMBOLS = (
    rf"$z$ is the height of the centre of mass in metres, $\vec v$ the torso's velocity in m/s. "
    f"{HALF_LINEAR}"
)
SOURCE = "The unsupervised RL benchmark (Laskin et al. 2021, arXiv 2110.15191)."
_P = quadruped.POSTURE

BEHAVIOURS: Mapping[str, Behaviour] = MappingProxyType(
    {
        "stand": Behaviour(stand, rf"r = p, \qquad {_P}"),
        "jump": Behaviour(
            jump,
            rf"r = p\, H_{{{_JUMP_HEIGHT:g}}}(z \ge {_JUMP_HEIGHT:g}), \qquad {_P}",
            lasting=False,
        ),
        "roll": Behaviour(
            roll, rf"r = p\, H_w(|\vec v| \ge w), \qquad {_P}", _SLOWEST_ROLL, _FASTEST_ROLL
        ),
    }
)
