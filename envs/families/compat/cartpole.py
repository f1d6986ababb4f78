"""Provide dm_control's tasks of a cart with one, two and three poles."""

import mujoco
import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from typing_extensions import override

from envs.families.compat.tasks import SMALL, TASKS, CompatTask, compat_description, task_name
from envs.families.description import GAUSSIAN
from envs.families.family import TaskStart
from envs.families.scenery import SKY
from envs.families.suite_models import suite_model
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

_CART_RANGE = (-0.25, 0.25)
_ANGLE_COSINE_RANGE = (0.995, 1.0)
_START_SPEED = 0.01


def with_poles(count: int) -> mujoco.MjSpec:
    """Return a cart with a chain of poles and a camera that shows all of it.

    Source: `_make_model` of dm_control.
    """
    spec = suite_model("cartpole")
    pole = spec.body("pole_1")
    style = spec.find_default("pole")
    for number in range(2, count + 1):
        pole = pole.add_body(name=f"pole_{number}", pos=[0, 0, 1])
        pole.childclass = "pole"
        pole.add_joint(style, name=f"hinge_{number}")
        pole.add_geom(style, name=f"pole_{number}")
    if count > 1:
        spec.geom("floor").pos = [0, 0, 1 - count - 0.05]
        spec.camera("fixed").pos = [0, -1 - 2 * count, 1]
        spec.camera("lookatcart").pos = [0, -2 * count, 2]
    return spec


_SMOOTH = (
    r"r = \overline{\left(\tfrac{1 + \cos\theta_i}{2}\right)} \cdot \tfrac{4 + s}{5} \cdot "
    r"\tfrac{1 + \min_i G_5(\omega_i = 0)}{2} \cdot \tfrac{1 + G_2(x = 0)}{2}"
)
_SPARSE = (
    rf"r = \mathbb{{1}}[|x| \le {_CART_RANGE[1]:g}] \cdot \prod_i "
    rf"\mathbb{{1}}[\cos\theta_i \ge {_ANGLE_COSINE_RANGE[0]:g}]"
)


class CompatCartpole(CompatTask):
    """Provide dm_control's cartpole-balance, -swingup, -two_poles and -three_poles.

    Balancing and swinging up have a smooth and a sparse reward.

    Success: a reward of 0.8 for five seconds, because a pole that starts upright takes a second to
    fall by itself.

    Args:
        poles: number of poles.
    """

    hold_steps = 500

    def __init__(self, poles: int) -> None:
        name = "compat cartpole" if poles == 1 else f"compat cartpole with {poles} poles"
        self.scene = Scene(
            name, lambda: with_poles(poles), substeps=1, camera="fixed", background=SKY
        )
        self._poles = [f"pole_{number}" for number in range(1, poles + 1)]
        self.state_size = 2 + 3 * poles
        number = ("one pole", "two poles", "three poles")[poles - 1]
        self.description = compat_description(
            f"a cart with {number} and 1 motor",
            "Keep the poles upright, or swing them up first, with the cart near the centre.",
            "A fixed camera shows the whole rail.",
            {
                name: _SPARSE if name.endswith("_sparse") else _SMOOTH
                for name in TASKS
                if name.startswith("cartpole")
            },
            r"$\theta_i$ are the poles' angles from upright and $\omega_i$ their joints' speeds in "
            r"rad/s, $x$ is the cart's place in metres, $\mathbb{1}$ is 1 where its condition "
            f"holds, else 0. {SMALL} {GAUSSIAN}",
            "Nearly upright to balance; hanging down otherwise.",
            "The cart's place, cosine and sine of each pole's angle, and velocities.",
            "A reward of at least 0.8 in every control step of five seconds, as a pole that starts "
            "upright takes a second to fall.",
        )

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return 1 for the sparse reward, 0 for the smooth one."""
        return np.array([float(task_name(task).endswith("_sparse"))])

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw poles that hang near the centre or, for `balance`, that are nearly upright.

        Source: dm_control's `Balance`.
        """
        count = len(self._poles)
        if "balance" in task_name(task):
            positions = rng.uniform((-0.1, -0.034), (0.1, 0.034))
        else:
            spread = np.array([0.01, 0.01, *[0.1] * (count - 1)])
            positions = np.array([0.0, np.pi, *[0.0] * (count - 1)]) + spread * rng.standard_normal(
                1 + count
            )
        return TaskStart(positions, _START_SPEED * rng.standard_normal(1 + count), np.zeros((0, 3)))

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        """Return the cart's place, cosine and sine of each pole's angle, and velocities.

        Source: dm_control's `Balance.get_observation`.
        """
        rotations = torch.stack([physics.body_rotation(pole) for pole in self._poles], 1)
        angles = torch.stack([rotations[..., 2, 2], rotations[..., 0, 2]], -1).flatten(1)
        return torch.cat([physics.fields["qpos"][:, :1], angles, physics.fields["qvel"]], -1)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Return the smooth or sparse reward; source: dm_control's `Balance.get_reward`."""
        cosines = torch.stack([physics.body_rotation(pole)[:, 2, 2] for pole in self._poles], -1)
        return torch.where(goal[:, 0] == 1, _sparse(physics, cosines), _smooth(physics, cosines))


def _sparse(physics: Physics, cosines: Float[Tensor, "world pole"]) -> Tensor:
    return tolerance(_cart(physics), _CART_RANGE) * tolerance(cosines, _ANGLE_COSINE_RANGE).prod(
        dim=-1
    )


def _smooth(physics: Physics, cosines: Float[Tensor, "world pole"]) -> Tensor:
    upright = ((cosines + 1) / 2).mean(dim=-1)
    centred = (1 + tolerance(_cart(physics), margin=2.0)) / 2
    small = tolerance(physics.control[:, 0], margin=1.0, value_at_margin=0.0, sigmoid="quadratic")
    slow = (1 + tolerance(physics.fields["qvel"][:, 1:], margin=5.0).amin(dim=-1)) / 2
    return upright * (4 + small) / 5 * slow * centred


def _cart(physics: Physics) -> Tensor:
    return physics.body_position("cart")[:, 0]
