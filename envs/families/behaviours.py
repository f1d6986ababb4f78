"""Define behaviours of a body other than moving at a speed, as tasks beside its speed tasks.

A body has two families in the same scene. `walker_speed` (and its likes) has speeds only, with a
task vector of one number, so that its runs stay comparable whatever is added here.
`walker_behaviours` has the same speed tasks and the behaviours, with a task vector that names the
behaviour. An agent that is to be fine-tuned on an unseen behaviour is trained on the speed tasks of
this family, so that its networks already have an input for the behaviour's name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor
from typing_extensions import override

from envs.families.constants import constant
from envs.families.family import Choice, Family, Number, Parameter, TaskStart, number
from envs.families.speed import SpeedFamily
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

AT_SPEED = "speed"


@dataclass(frozen=True)
class Behaviour:
    """Describe one behaviour of a body.

    Attributes:
        reward: returns the reward in [0, 1], given the physics and the tasks' speeds [world], m/s.
        formula: the same as LaTeX, for pages of suites.
        slowest: the lowest speed of a task, m/s; 0 where the behaviour has no speed.
        fastest: the highest speed of a task, m/s; 0 where the behaviour has no speed.
        lasting: whether it can be held for a second. A jump cannot, and is never a success.
    """

    reward: Callable[[Physics, Tensor], Tensor]
    formula: str
    slowest: float = 0.0
    fastest: float = 0.0
    lasting: bool = True


class BehaviourFamily(Family):
    """Combine one body's speed tasks with its other behaviours.

    Task vector: the speed divided by the fastest of the speed tasks, then one-hot over the
    behaviours, "speed" first. Reward: the behaviour's own. Success: a reward of at least 0.8 in
    every control step of one second, never for a behaviour that cannot be held. Initial state: as
    in the speed tasks.

    Args:
        at_speed: the body's speed tasks.
        others: its other behaviours by name.
        symbols: what the letters of their formulas stand for.
        source: where they are from.

    Attributes:
        at_speed: the body's speed tasks.
        behaviours: all behaviours by name, moving at a speed first.
    """

    scene: Scene
    parameters: Mapping[str, Parameter]

    def __init__(
        self, at_speed: SpeedFamily, others: Mapping[str, Behaviour], symbols: str, source: str
    ) -> None:
        moving = Behaviour(
            lambda physics, speed: at_speed.reward(physics, speed[:, None]),
            at_speed.description.rewards[""],
            -at_speed.fastest,
            at_speed.fastest,
        )
        self.at_speed = at_speed
        self.behaviours = {AT_SPEED: moving, **others}
        self._rewards = [behaviour.reward for behaviour in self.behaviours.values()]
        self._lasting = [behaviour.lasting for behaviour in self.behaviours.values()]
        self.scene = at_speed.scene
        self.hold_steps = at_speed.hold_steps
        self.state_size = at_speed.state_size
        self.parameters = MappingProxyType(
            {
                "behaviour": Choice(tuple(self.behaviours)),
                "speed": Number(-at_speed.fastest, at_speed.fastest),
            }
        )
        self.task_size = 1 + len(self.behaviours)
        self.description = replace(
            at_speed.description,
            goal="Move at the task's speed, or show the behaviour that the task names: "
            f"{', '.join(name.replace('_', ' ') for name in others)}.",
            task_vector=f"The speed over {at_speed.fastest:g} m/s, then one-hot over the "
            f"behaviours ({', '.join(self.behaviours)}).",
            rewards={name: behaviour.formula for name, behaviour in self.behaviours.items()},
            symbols=f"{at_speed.description.symbols} {symbols}",
            success=f"{at_speed.description.success} A jump cannot be held and is never one.",
            reward_parameter="behaviour",
            source=source,
        )

    def check(self, task: Task) -> None:
        """Check that the behaviour, which is known to exist, is possible at the task's speed.

        Raises:
            ValueError: it is not; the message names the valid speeds.
        """
        name = str(task.parameters["behaviour"])
        speed = number(task, "speed")
        behaviour = self.behaviours[name]
        if not behaviour.slowest <= speed <= behaviour.fastest:
            where = (
                f"task {task.name!r} of family {task.family!r}: "
                f"parameter 'speed' of behaviour {name!r}"
            )
            in_place = behaviour.slowest == behaviour.fastest == 0
            valid = (
                "0, it has no speed"
                if in_place
                else f"from {behaviour.slowest:g} to {behaviour.fastest:g}"
            )
            raise ValueError(f"{where} must be {valid}, got {speed:g}")

    @override
    def state(self, physics: Physics) -> Float[Tensor, "world state"]:
        return self.at_speed.state(physics)

    @override
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        named = [task.parameters["behaviour"] == name for name in self.behaviours]
        return np.array([number(task, "speed") / self.at_speed.fastest, *named], np.float32)

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Return the index of the behaviour and the speed in m/s."""
        return np.array(
            [list(self.behaviours).index(str(task.parameters["behaviour"])), number(task, "speed")]
        )

    @override
    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        return self.at_speed.start(task, rng)

    @override
    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        chosen = goal[:, 0].long()
        total = torch.zeros_like(goal[:, 0])
        # A GPU waits for this list once; computing all behaviours would take dozens of launches.
        for index in chosen.unique().tolist():
            total = torch.where(chosen == index, self._rewards[index](physics, goal[:, 1]), total)
        return total

    @override
    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        lasting = constant(self._lasting, goal)[goal[:, 0].long()] > 0
        return self.at_speed.holding(physics, goal[:, 1:], reward) & lasting
