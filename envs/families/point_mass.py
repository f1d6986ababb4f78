"""Move a point mass, seen from above, to a drawn target.

Training takes minutes on a CPU, which suits demonstrations and tests.
"""

from collections.abc import Mapping
from types import MappingProxyType

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor
from typing_extensions import override

from envs.families.description import FamilyDescription
from envs.families.family import Family, Number, Parameter, TaskStart, numbers
from envs.families.joints import random_joint_positions
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

ARENA = 0.3
TARGET_RADIUS = 0.03
REWARD_MARGIN = 0.3
NEAREST_START = 0.25

# Timestep, damping, gear, mass and joint ranges are those of dm_control's point mass. The drawn
# shapes are larger, so that mass and target each cover dozens of pixels at 64x64. The ground is the
# background, because a plane would double an image's time.
_MJCF = """
<mujoco model="point mass with a drawn target">
  <option timestep="0.02"><flag contact="disable"/></option>
  <visual>
    <headlight ambient=".55 .55 .55" diffuse=".45 .45 .45" specular="0 0 0"/>
    <map znear=".01"/>
  </visual>
  <default>
    <joint type="slide" limited="true" range="-.29 .29" damping="1"/>
    <motor gear=".1" ctrlrange="-1 1" ctrllimited="true"/>
    <geom contype="0" conaffinity="0"/>
  </default>
  <worldbody>
    <camera name="fixed" pos="0 0 .75"/>
    <body name="target" mocap="true">
      <geom name="target" type="cylinder" size=".045 .001" rgba=".9 .25 .2 1"/>
    </body>
    <body name="pointmass" pos="0 0 .01">
      <joint name="root_x" axis="1 0 0"/>
      <joint name="root_y" axis="0 1 0"/>
      <geom name="pointmass" type="sphere" size=".03" mass=".3" rgba="1 .9 .3 1"/>
    </body>
  </worldbody>
  <actuator>
    <motor name="x" joint="root_x"/>
    <motor name="y" joint="root_y"/>
  </actuator>
</mujoco>
"""


def _build() -> mujoco.MjSpec:
    return mujoco.MjSpec.from_string(_MJCF)


class PointMass(Family):
    """Reach the target and stay there.

    Task vector: target x, y over the arena's half-width. Reward per control step: 1 within 3 cm
    (`TARGET_RADIUS`) of the target in the plane, falling linearly to 0 at 30 cm (`REWARD_MARGIN`)
    beyond. Success: ever within these 3 cm; at the mass's top speed of 0.1 m/s crossing the target
    takes 30 control steps, so that this does not happen in passing. Initial state: at rest, uniform
    over the joint range, but at least 25 cm (`NEAREST_START`) from the target.
    """

    scene = Scene(
        "point_mass",
        _build,
        substeps=1,
        camera="fixed",
        background=(0.12, 0.2, 0.3),
        textures=False,
    )
    parameters: Mapping[str, Parameter] = MappingProxyType({"target": Number(-0.29, 0.29, size=2)})
    task_size = 2
    hold_steps = 1
    state_size = 4
    description = FamilyDescription(
        body="a point mass with 2 motors, seen from above",
        goal="Move the yellow ball onto the red disc and keep it there.",
        image="A camera above the arena shows all of it: ball and disc.",
        task_vector=f"The target's place east and north, over {ARENA:g} m.",
        rewards={
            "": rf"r = \max\left(0,\; 1 - \frac{{\max(0,\, d - {TARGET_RADIUS:g})}}"
            rf"{{{REWARD_MARGIN:g}}}\right)"
        },
        symbols="$d$ is the distance from the ball to the target in metres.",
        success=f"The ball is within {TARGET_RADIUS:g} m of the target at any control step.",
        start=f"At rest, anywhere in the arena but at least {NEAREST_START:g} m from the target.",
        state="The ball's place and velocity; the target is in the task vector.",
        units={"target": "m"},
    )

    @override
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        return np.asarray(numbers(task, "target"), np.float32) / np.float32(ARENA)

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the target's x and y in metres."""
        return np.asarray(numbers(task, "target"), np.float64)

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw an initial state by rejection sampling.

        At least two thirds of the draws are accepted, even in the worst case.
        """
        target = self.goal(task)
        positions = random_joint_positions(self.scene.model, rng)
        while np.linalg.norm(positions - target) < NEAREST_START:
            positions = random_joint_positions(self.scene.model, rng)
        return TaskStart(positions, np.zeros(2), np.array([[*target, 0.0]]))

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        """Return place and velocity in metres; the target is in the task vector."""
        return torch.cat([physics.fields["qpos"], physics.fields["qvel"]], -1)

    @override
    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        bounds = (0.0, TARGET_RADIUS)
        return tolerance(
            _distance(physics, goal), bounds, REWARD_MARGIN, sigmoid="linear", value_at_margin=0.0
        )

    @override
    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        return _distance(physics, goal) <= TARGET_RADIUS


def _distance(physics: Physics, goal: Tensor) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(
        physics.geom_position("pointmass")[:, :2] - goal, dim=-1
    )
    return distance
