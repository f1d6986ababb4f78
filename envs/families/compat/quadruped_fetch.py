"""Provide dm_control's quadruped-fetch."""

import mujoco
import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from typing_extensions import override

from envs.families import quadruped
from envs.families.compat.tasks import CompatTask, compat_description
from envs.families.constants import constant
from envs.families.contacts import lifted
from envs.families.description import LINEAR
from envs.families.family import TaskStart
from envs.families.scenery import SKY
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

_BALL = "ball"
_BALL_JOINT = "ball_root"
_TARGET = "target"
_SPAWN_SHARE = 0.9
_BALL_HEIGHT = 2.0
_BALL_SPEED = 5.0


def _build() -> mujoco.MjSpec:
    spec = quadruped.spec(floor_half_length=None, ball=True)
    site = spec.site(_TARGET)
    # The target is a MuJoCo site, which the ray tracer does not draw: this adds a shape of its size
    # without contacts.
    spec.worldbody.add_geom(
        name=_TARGET,
        type=site.type,
        size=site.size,
        pos=site.pos,
        material=site.material,
        contype=0,
        conaffinity=0,
    )
    return spec


class CompatQuadrupedFetch(CompatTask):
    """Provide dm_control's quadruped-fetch: bring a ball to the centre of a walled floor.

    Success: a reward of 0.8 for one second.
    """

    scene = Scene("compat quadruped fetch", _build, quadruped.SUBSTEPS, quadruped.CAMERA, SKY)
    hold_steps = quadruped.STEPS_PER_SECOND
    state_size = 90
    description = compat_description(
        quadruped.BODY,
        "Bring a ball to the red disc at the centre of a walled floor.",
        quadruped.IMAGE,
        {
            "quadruped-fetch": r"r = p \cdot L_D(b \le \beta) \cdot \tfrac{1 + L_D(f \le \rho)}{2}"
            rf", \qquad {quadruped.POSTURE}"
        },
        r"$b$ is the horizontal distance from the torso's workspace to the ball, which touch "
        r"within $\beta$; $f$ is that from the ball to the target of radius $\rho$; $D$ is half "
        f"the floor's diagonal. {quadruped.SYMBOLS} {LINEAR}",
        "Upright, anywhere on the floor and in any direction; the ball is thrown from 2 m up.",
        f"{quadruped.STATE} Ball and target as the torso sees them.",
    )

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return one unused number, because there is only one task."""
        return np.zeros(1)

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw an upright body anywhere, in any direction, and a ball that is thrown from 2 m up.

        Source: dm_control's `Fetch`.
        """
        model = self.scene.model
        half_turn = rng.uniform(0, 2 * np.pi) / 2
        reach = _SPAWN_SHARE * float(model.geom("floor").size[0])
        place = rng.uniform(-reach, reach, 2)
        orientation = np.array([np.cos(half_turn), 0.0, 0.0, np.sin(half_turn)])
        start = lifted(model, orientation, place)
        ball = model.joint(_BALL_JOINT)
        first = int(ball.qposadr[0])
        speed = int(ball.dofadr[0])
        start.joint_positions[first : first + 3] = [*rng.uniform(-reach, reach, 2), _BALL_HEIGHT]
        start.joint_velocities[speed : speed + 2] = _BALL_SPEED * rng.standard_normal(2)
        return start

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        """Return the quadruped's state, and ball and target from the torso.

        Source: `Fetch.get_observation` of dm_control's quadruped.
        """
        torso = physics.body_position("torso")
        rotation = physics.body_rotation("torso")
        velocity = physics.fields["qvel"]
        ball, root = (int(physics.model.joint(name).dofadr[0]) for name in (_BALL_JOINT, "root"))
        vectors = torch.stack(
            [
                physics.body_position(_BALL) - torso,
                velocity[:, ball : ball + 3] - velocity[:, root : root + 3],
                velocity[:, ball + 3 : ball + 6],
                constant(physics.model.site(_TARGET).pos.tolist(), torso) - torso,
            ],
            1,
        )
        return torch.cat([quadruped.state(physics), (vectors @ rotation).flatten(1)], -1)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Reward uprightness times nearness to the ball times nearness of ball and target.

        Source: dm_control's `Fetch.get_reward`.
        """
        model = physics.model
        ball = physics.body_position(_BALL)
        far = float(model.geom("floor").size[0]) * np.sqrt(2)
        workspace = model.site("workspace")
        place = physics.body_rotation("torso") @ constant(workspace.pos.tolist(), ball)
        reaching = _horizontal(physics.body_position("torso") + place - ball)
        touch = float(workspace.size[0] + model.geom(_BALL).size[0])
        reached = tolerance(reaching, (0.0, touch), far, sigmoid="linear", value_at_margin=0.0)
        target = model.site(_TARGET)
        fetching = _horizontal(ball - constant(target.pos.tolist(), ball))
        fetched = tolerance(
            fetching, (0.0, float(target.size[0])), far, sigmoid="linear", value_at_margin=0.0
        )
        return quadruped.posture(physics) * reached * (0.5 + 0.5 * fetched)


def _horizontal(vector: Float[Tensor, "world 3"]) -> Float[Tensor, " world"]:
    length: Tensor = torch.linalg.vector_norm(vector[:, :2], dim=-1)
    return length
