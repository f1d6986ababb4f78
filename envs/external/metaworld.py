"""Make environments of the family `metaworld`: Meta-World's tasks of a Sawyer arm at a table.

Source: Yu et al. 2019, "Meta-World", and the package metaworld 3.0.0: rewards in [0, 10] (version
2), 500 control steps of 12.5 ms, and success as the package reports it at any step.
"""

from typing import Any

import gymnasium
from typing_extensions import override

from envs.external.camera import NamedView
from envs.external.env import ExternalEnv
from envs.external.family import OWN_START, NamedTasks, require_package, text
from envs.external.render import OwnRenderer, RayTracedRenderer
from envs.families.description import FamilyDescription
from envs.tasks import Task

MT10 = (
    *("reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3", "drawer-close-v3"),
    *("button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "window-close-v3"),
)
# The tasks that the benchmark ML10 is tested on and MT10 is not trained on, and another button.
HELD_OUT = ("door-close-v3", "shelf-place-v3", "sweep-into-v3", "lever-pull-v3", "button-press-v3")
TASKS = MT10 + HELD_OUT

# "corner2" brought nearer, as TD-MPC2 records it (Hansen et al. 2024); the package's corner cameras
# are upside down.
_CAMERA = NamedView("corner2", position=(0.75, 0.075, 0.7), upside_down=True)
_RENDER_SIZE = 256


class MetaWorld(NamedTasks):
    """Play one task of Meta-World an environment.

    Its goal and objects are drawn anew for every episode; the goal is visible.
    """

    description = FamilyDescription(
        body="a Sawyer arm at a table; an action moves the hand in 3 directions and the gripper",
        goal="Do what the task's name says: reach, push, open, close, press.",
        image="A camera at the corner of the table, as TD-MPC2 places it. The goal is visible.",
        task_vector="One-hot over all tasks, held-out ones included.",
        rewards={"": r"r \in [0, 10]"},
        symbols="The reward is the package's own, version 2, which has stages of its own in every "
        "task.",
        success="The package reports it at any control step.",
        start=f"{OWN_START} Goal and objects are elsewhere in every episode.",
        source="Meta-World (Yu et al. 2019, arXiv 1910.10897), the package metaworld 3.0.0.",
    )
    # Measured over 8 more environments of MT10: 88 MiB each, most of it meshes.
    env_bytes = 96 * 2**20

    def __init__(self) -> None:
        super().__init__(TASKS)

    @override
    def action_size(self, task: Task) -> int:
        # The hand's motion in three directions, and the gripper.
        return 4

    @override
    def check(self, task: Task) -> None:
        require_package("metaworld")

    @override
    def make_env(self, task: Task) -> ExternalEnv:
        make = require_package("metaworld").env_dict.ALL_V3_ENVIRONMENTS[text(task, "task")]
        if text(task, "render") == "ray":
            own = make()
            return ExternalEnv(
                Seeded(own), RayTracedRenderer(lambda: (own.model, own.data), _CAMERA)
            )
        drawn = make(
            render_mode="rgb_array",
            camera_name=_CAMERA.name,
            width=_RENDER_SIZE,
            height=_RENDER_SIZE,
        )
        drawn.model.cam_pos[drawn.model.camera(_CAMERA.name).id] = _CAMERA.position
        seeded = Seeded(drawn)
        return ExternalEnv(seeded, OwnRenderer(seeded, _CAMERA.upside_down))


class Seeded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Let the start of Meta-World's environment follow from the seed given to `reset`.

    The package draws starts from a list of fifty that a benchmark object hands over, and ignores
    `reset`'s seed. Its own switches for drawing one from the environment's generator are used
    instead; nothing of the package is changed.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        own: Any = env
        own._set_task_called = True
        own._freeze_rand_vec = False
        own.seeded_rand_vec = True
        if own._partially_observable:
            # The goal is a part of the observation, for the scripted experts.
            own._partially_observable = False
            del own.sawyer_observation_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of the episode; None: the next one.
            options: ignored; there are none.
        """
        own: Any = self.unwrapped
        if seed is not None:
            own.seed(seed)
        observation, info = own.reset()
        return observation, info
