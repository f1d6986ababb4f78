"""Reward the walker's behaviours ("yoga") of TD-MPC2's additional tasks.

Hansen et al. 2024, arXiv 2310.16828. Source: `YogaPlanarWalker` of
github.com/nicklashansen/tdmpc2, tdmpc2/envs/tasks/walker.py. Heights are those of the frames of
MuJoCo's bodies, in metres: a thigh's is the hip, a foot's the middle of the foot. Their lie_down is
left out, because a walker that does nothing earns 800 of 1000 for it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from envs.families import walker
from envs.families.behaviours import Behaviour
from envs.rewards import tolerance
from envs.simulation.physics import Physics

_STANDING = 1.0
_LYING = 0.08
_RAISED = 1.1


def legs_up(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward lying on the back with both feet in the air."""
    lying = (
        3 * _below(_height(physics, "torso"))
        + _below(_mean_height(physics, "thigh"))
        + _upside_down(physics)
    )
    return (lying + 2 * _above(_mean_height(physics, "foot"), _RAISED)) / 7


def arabesque(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward standing on the left foot with the right one in the air.

    The last part rewards an upside-down torso, as published.
    """
    standing = _above(_height(physics, "torso"), _STANDING)
    # The margin is as wide as for parts that are raised to standing height.
    left_down = tolerance(
        _height(physics, "left_foot"), (-float("inf"), _LYING), margin=_STANDING / 2
    )
    right_up = _above(_height(physics, "right_foot"), _STANDING)
    return (3 * standing + left_down + right_up + _upside_down(physics)) / 6


def headstand(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward hips and feet in the air."""
    feet = _mean_height(physics, "foot")
    hips = _mean_height(physics, "thigh")
    return (3 * _above(feet, _RAISED) + 2 * _above(hips, _STANDING)) / 5


_UP = rf"G_{{{_RAISED / 2:g}}}"
_STAND = rf"G_{{{_STANDING / 2:g}}}"
_LOW = rf"G_{{{_LYING / 2:g}}}"
_LEGS_UP = (
    rf"r = \tfrac17\left(3\,{_LOW}(z_t \le {_LYING:g}) + {_LOW}(z_h \le {_LYING:g}) + "
    rf"2\,{_UP}(z_f \ge {_RAISED:g}) + \tfrac{{1 - \cos\theta}}{{2}}\right)"
)
_ARABESQUE = (
    rf"r = \tfrac16\left(3\,{_STAND}(z_t \ge {_STANDING:g}) + {_STAND}(z_l \le {_LYING:g}) + "
    rf"{_STAND}(z_r \ge {_STANDING:g}) + \tfrac{{1 - \cos\theta}}{{2}}\right)"
)
_HEADSTAND = (
    rf"r = \tfrac15\left(3\,{_UP}(z_f \ge {_RAISED:g}) + 2\,{_STAND}(z_h \ge {_STANDING:g})\right)"
)
SYMBOLS = (
    "$z_t$, $z_h$ and $z_f$ are the heights of the torso, and the means of hips and of feet; $z_l$ "
    "and $z_r$ those of the left and the right foot, in metres."
)
SOURCE = "TD-MPC2's additional tasks (Hansen et al. 2024, arXiv 2310.16828)."

BEHAVIOURS: Mapping[str, Behaviour] = MappingProxyType(
    {
        "legs_up": Behaviour(legs_up, _LEGS_UP),
        "arabesque": Behaviour(arabesque, _ARABESQUE),
        "headstand": Behaviour(headstand, _HEADSTAND),
    }
)


def _height(physics: Physics, body: str) -> Tensor:
    return physics.body_position(body)[:, 2]


def _mean_height(physics: Physics, part: str) -> Tensor:
    return (_height(physics, f"left_{part}") + _height(physics, f"right_{part}")) / 2


def _above(height: Tensor, least: float) -> Tensor:
    return tolerance(height, (least, float("inf")), margin=least / 2)


def _below(height: Tensor) -> Tensor:
    return tolerance(height, (-float("inf"), _LYING), margin=_LYING / 2)


def _upside_down(physics: Physics) -> Tensor:
    return (1 - walker.upright(physics)) / 2
