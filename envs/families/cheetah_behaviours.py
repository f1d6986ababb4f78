"""Reward the cheetah's behaviours of TD-MPC2's additional tasks.

Hansen et al. 2024, arXiv 2310.16828. Source: `CustomCheetah` of github.com/nicklashansen/tdmpc2,
tdmpc2/envs/tasks/cheetah.py. Heights are those of the frames of MuJoCo's bodies, in metres: a
foot's is the ankle. A behaviour "on the front leg" has the back foot in the air.
"""

from collections.abc import Mapping
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from envs.families import cheetah
from envs.families.behaviours import Behaviour
from envs.families.description import GAUSSIAN, LINEAR
from envs.rewards import tolerance
from envs.simulation.physics import Physics

_RAISED = 1.2
_LYING = 0.25
_IN_PLACE = 0.5
_FRONT_FOOT = "ffoot"
_BACK_FOOT = "bfoot"
# Published: 60 % of dm_control's running speed of 10 m/s.
_SLOWEST_RUN = 1.0
_FASTEST_RUN = 10.0


def stand_front(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward standing on the front leg."""
    return _stand(physics, _BACK_FOOT)


def stand_back(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward standing on the back leg."""
    return _stand(physics, _FRONT_FOOT)


def jump(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward both feet in the air without moving forwards or backwards."""
    return (_stand(physics, _FRONT_FOOT) + _stand(physics, _BACK_FOOT)) / 2


def run_front(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward running on the front leg, at `speed` or faster."""
    return _run(physics, _BACK_FOOT, speed)


def run_back(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward running on the back leg, at `speed` or faster."""
    return _run(physics, _FRONT_FOOT, speed)


def lie_down(physics: Physics, speed: Float[Tensor, " world"]) -> Float[Tensor, " world"]:
    """Reward torso and feet near the floor."""
    feet = (_height(physics, _FRONT_FOOT) + _height(physics, _BACK_FOOT)) / 2
    return (3 * _low(_height(physics, "torso")) + _low(feet)) / 4


_RAISED_FORMULA = rf"G_{{{_RAISED / 2:g}}}"
_STAND = (
    r"\tfrac16\left(5\," + _RAISED_FORMULA + r"\left(\tfrac{z_t + z_%s}{2} \ge "
    rf"{_RAISED:g}\right) + L_{{{_IN_PLACE:g}}}(|v| \le {_IN_PLACE:g})\right)"
)
_RUN = (
    r"r = \tfrac15\left(3\," + _RAISED_FORMULA + rf"(z_%s \ge {_RAISED:g}) + 2\,"
    rf"{_RAISED_FORMULA}(z_t \ge {_RAISED:g})\right) \cdot "
    r"\tfrac16\left(5\, L_w(v \ge w) + 1\right)"
)
_LIE = (
    rf"r = \tfrac14\left(3\, L_{{{_LYING:g}}}(z_t \le {_LYING:g}) + "
    rf"L_{{{_LYING:g}}}\left(\tfrac{{z_f + z_b}}{{2}} \le {_LYING:g}\right)\right)"
)
SYMBOLS = (
    "$z_t$, $z_f$ and $z_b$ are the heights of the torso, the front foot and the back foot in "
    f"metres. {GAUSSIAN} {LINEAR}"
)
SOURCE = "TD-MPC2's additional tasks (Hansen et al. 2024, arXiv 2310.16828)."

BEHAVIOURS: Mapping[str, Behaviour] = MappingProxyType(
    {
        "jump": Behaviour(
            jump, rf"r = \tfrac12\left[{_STAND % 'f'} + {_STAND % 'b'}\right]", lasting=False
        ),
        "run_front": Behaviour(run_front, _RUN % "b", _SLOWEST_RUN, _FASTEST_RUN),
        "run_back": Behaviour(run_back, _RUN % "f", _SLOWEST_RUN, _FASTEST_RUN),
        "stand_front": Behaviour(stand_front, "r = " + _STAND % "b"),
        "stand_back": Behaviour(stand_back, "r = " + _STAND % "f"),
        "lie_down": Behaviour(lie_down, _LIE),
    }
)


def _stand(physics: Physics, raised_foot: str) -> Tensor:
    """Weight torso and foot in the air with 5/6, and staying in place with 1/6."""
    raised = _raised((_height(physics, "torso") + _height(physics, raised_foot)) / 2)
    bounds = (-_IN_PLACE, _IN_PLACE)
    staying = tolerance(
        cheetah.speed(physics), bounds, margin=_IN_PLACE, sigmoid="linear", value_at_margin=0.0
    )
    return (5 * raised + staying) / 6


def _run(physics: Physics, raised_foot: str, target: Tensor) -> Tensor:
    raised = (
        3 * _raised(_height(physics, raised_foot)) + 2 * _raised(_height(physics, "torso"))
    ) / 5
    bounds = (target, float("inf"))
    moving = tolerance(
        cheetah.speed(physics), bounds, margin=target, sigmoid="linear", value_at_margin=0.0
    )
    return raised * (5 * moving + 1) / 6


def _height(physics: Physics, body: str) -> Tensor:
    return physics.body_position(body)[:, 2]


def _raised(height: Tensor) -> Tensor:
    return tolerance(height, (_RAISED, float("inf")), margin=_RAISED / 2)


def _low(height: Tensor) -> Tensor:
    return tolerance(
        height, (-float("inf"), _LYING), margin=_LYING, sigmoid="linear", value_at_margin=0.0
    )
