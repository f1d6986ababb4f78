"""Make environments of the family `robotics_fetch`: Gymnasium-Robotics' Fetch arm.

Source: Plappert et al. 2018, "Multi-Goal Reinforcement Learning", and the package
gymnasium-robotics 1.4.2: 50 control steps of 40 ms; success within 5 cm of the goal, which is
drawn.
"""

from typing import Any

import gymnasium
from typing_extensions import override

from envs.external.camera import OrbitView
from envs.external.env import ExternalEnv
from envs.external.family import OWN_START, NamedTasks, require_package, text
from envs.external.fetch_shim import apply as apply_shim
from envs.external.render import OwnRenderer, RayTracedRenderer
from envs.families.description import FamilyDescription
from envs.tasks import Task

IDS = {
    "reach": "FetchReachDense-v4",
    "push": "FetchPushDense-v4",
    "slide": "FetchSlideDense-v4",
    "pick_and_place": "FetchPickAndPlaceDense-v4",
}
TASKS = tuple(IDS)
# The package's view from nearer and a little higher: at its own distance the object covers a pixel.
_VIEW = OrbitView((1.3, 0.75, 0.5), distance=1.5, azimuth=132.0, elevation=-25.0)


class RoboticsFetch(NamedTasks):
    """Play one Fetch task an environment.

    Its dense reward is minus the distance to the goal in metres.
    """

    description = FamilyDescription(
        body="a Fetch arm; an action moves the gripper in 3 directions and its fingers",
        goal="Bring the gripper, or the object, to the goal: reach, push, slide, pick and place.",
        image="A camera near the table. The goal is drawn as a red ball.",
        task_vector="One-hot over all tasks, held-out ones included.",
        rewards={"": r"r = -d"},
        symbols="$d$ is the distance of gripper or object to the goal in metres.",
        success="Within 5 cm of the goal.",
        start=OWN_START,
        source="Gymnasium-Robotics 1.4.2 (Plappert et al. 2018, arXiv 1802.09464).",
    )

    def __init__(self) -> None:
        super().__init__(TASKS)

    @override
    def action_size(self, task: Task) -> int:
        # The gripper's motion in three directions, and its fingers.
        return 4

    @override
    def check(self, task: Task) -> None:
        # The shim raises a ValueError where it was not tried on the installed mujoco.
        require_package("gymnasium_robotics")
        apply_shim()

    @override
    def make_env(self, task: Task) -> ExternalEnv:
        require_package("gymnasium_robotics")
        apply_shim()
        name = IDS[text(task, "task")]
        if text(task, "render") == "opengl":
            drawn = gymnasium.make(name, render_mode="rgb_array", width=256, height=256)
            return ExternalEnv(drawn, OwnRenderer(drawn))
        env: Any = gymnasium.make(name, disable_env_checker=True)
        own = env.unwrapped
        # The goal's mark is put in its place when an image is asked for.
        return ExternalEnv(
            env, RayTracedRenderer(lambda: (own.model, own.data), _VIEW, own._render_callback)
        )
