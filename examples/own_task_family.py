"""Train on a task family of your own: a MuJoCo scene, its tasks, and a reward for all of them.

    export PYTHONPATH=examples
    pixel-hrl train --import=own_task_family --config-dir=examples/own_suite \
        agent=skills suite=pointer folder=runs/pointer
    pixel-hrl evaluate runs/pointer --import=own_task_family

The tasks are in examples/own_suite/suite/pointer.yaml. Many worlds are simulated together, with
different tasks in one batch: rewards are torch functions of the state of all of them.
"""

from types import MappingProxyType

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from envs.families import register_family
from envs.families.description import FamilyDescription
from envs.families.family import Family, Number, TaskStart, number
from envs.rewards import tolerance
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

# The camera sees the pointer from above.
MODEL = """
<mujoco model="pointer">
  <option timestep="0.01" gravity="0 0 0"/>
  <visual><headlight ambient=".5 .5 .5" diffuse=".5 .5 .5" specular="0 0 0"/></visual>
  <worldbody>
    <camera name="above" pos="0 0 1"/>
    <body name="pointer">
      <joint name="hinge" type="hinge" axis="0 0 1" damping=".02"/>
      <geom type="capsule" fromto="0 0 0 .3 0 0" size=".03" mass=".1" rgba="1 .9 .3 1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" gear=".05" ctrlrange="-1 1" ctrllimited="true"/></actuator>
</mujoco>
"""


def build() -> mujoco.MjSpec:
    """Return the model's description; it is compiled when the first world is made."""
    return mujoco.MjSpec.from_string(MODEL)


class Pointer(Family):
    """Turn a pointer to the task's angle and hold it there."""

    scene = Scene("pointer", build, substeps=2, camera="above", textures=False)
    # What a task gives under `parameters` in the suite's file, and in which range.
    parameters = MappingProxyType({"angle": Number(-180.0, 180.0)})
    task_size = 2
    # A success is a second within 10 degrees: 50 control steps in succession.
    hold_steps = 50
    # What the suite's page says, which `pixel-hrl suites pointer` writes.
    description = FamilyDescription(
        body="a pointer with 1 motor, seen from above",
        goal="Turn the pointer to the task's angle and hold it there.",
        image="A camera above the pointer shows all of it.",
        task_vector="Cosine and sine of the task's angle.",
        rewards={"": r"r = \operatorname{clip}\left(1 - \frac{e - 10}{170},\; 0,\; 1\right)"},
        symbols="$e$ is the angle between pointer and task in degrees.",
        success="Within 10 degrees for one second.",
        start="Any angle, at rest.",
        units={"angle": "degrees"},
    )

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """Return what agents are told: the direction to point in."""
        angle = np.deg2rad(number(task, "angle"))
        return np.array([np.cos(angle), np.sin(angle)], np.float32)

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the numbers that the reward needs; worlds of one batch may differ in them."""
        return np.array([np.deg2rad(number(task, "angle"))])

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """Draw the angle at which an episode begins; there are no bodies to be placed."""
        return TaskStart(rng.uniform(-np.pi, np.pi, 1), np.zeros(1), np.zeros((0, 3)))

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """Return 1 within 10 degrees of the task's angle, falling linearly to 0 opposite it."""
        ten_degrees = torch.pi / 18
        return tolerance(
            _error(physics, goal),
            (0.0, ten_degrees),
            margin=torch.pi - ten_degrees,
            sigmoid="linear",
            value_at_margin=0.0,
        )

    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        """Return where the present state counts towards a success."""
        return reward == 1


def _error(physics: Physics, goal: Tensor) -> Tensor:
    """Return the angle between pointer and goal, in [0, pi]."""
    difference = physics.fields["qpos"][:, 0] - goal[:, 0]
    return torch.atan2(torch.sin(difference), torch.cos(difference)).abs()


register_family("pointer", Pointer())
