"""Other things that a body can do than move at a speed, as tasks beside its speed tasks.

A body has two families in the same scene. `walker_speed` (and so on) knows speeds only, with a task
vector of one
number: its runs stay comparable whatever is added here. `walker_behaviours` has the same speed
    tasks and the
behaviours, with a task vector that says which; an agent that is to be adapted to a behaviour it
never saw in training is trained on this one's speed tasks, so that its networks already have a
place for the behaviour's name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from envs.families.family import Choice, Number, Parameter, TaskStart, number
from envs.families.speed import SpeedFamily
from envs.simulation.physics import Physics, Scene
from envs.tasks import Task

AT_SPEED = "speed"


@dataclass(frozen=True)
class Behaviour:
    """One behaviour of a body.

    Attributes:
        reward: of a physics and the tasks' speeds [world] in m/s, in [0, 1].
        slowest, fastest: the speeds in m/s that it can be asked for; 0 and 0 where it has no speed.
        lasting: whether it can be kept up for a second. What cannot, a jump, is never a success.
    """

    reward: Callable[[Physics, Tensor], Tensor]
    slowest: float = 0.0
    fastest: float = 0.0
    lasting: bool = True


class BehaviourFamily:
    """One body's speed tasks and its other behaviours.

    Task vector: speed / the fastest of the speed tasks, then one-hot over the behaviours, "speed"
    first. Reward: the behaviour's own. Success: a reward of at least 0.8 in every control step of
    one second, never for a behaviour that does not last. Start: as in the speed tasks.

    Attributes, besides those of `Family`:
        at_speed: the body's speed tasks.
        behaviours: by name, moving at a speed first.
    """

    scene: Scene
    parameters: Mapping[str, Parameter]

    def __init__(self, at_speed: SpeedFamily, others: Mapping[str, Behaviour]) -> None:
        moving = Behaviour(
            lambda physics, speed: at_speed.reward(physics, speed[:, None]),
            -at_speed.fastest,
            at_speed.fastest,
        )
        self.at_speed, self.behaviours = at_speed, {AT_SPEED: moving, **others}
        self._rewards = [behaviour.reward for behaviour in self.behaviours.values()]
        self._lasting = torch.tensor([behaviour.lasting for behaviour in self.behaviours.values()])
        self.scene, self.hold_steps = at_speed.scene, at_speed.hold_steps
        self.parameters = MappingProxyType(
            {
                "behaviour": Choice(tuple(self.behaviours)),
                "speed": Number(-at_speed.fastest, at_speed.fastest),
            }
        )
        self.task_size = 1 + len(self.behaviours)

    def check(self, task: Task) -> None:
        """Raise ValueError when the behaviour cannot be done at the task's speed, both of which
        exist.
        """
        name, speed = str(task.parameters["behaviour"]), number(task, "speed")
        behaviour = self.behaviours[name]
        if not behaviour.slowest <= speed <= behaviour.fastest:
            where = f"task {task.name!r} of family {task.family!r}: parameter 'speed' of behaviour {name!r}"
            in_place = behaviour.slowest == behaviour.fastest == 0
            valid = (
                "0, it has no speed"
                if in_place
                else f"from {behaviour.slowest:g} to {behaviour.fastest:g}"
            )
            raise ValueError(f"{where} must be {valid}, got {speed:g}")

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """See `Family.task_vector`."""
        named = [task.parameters["behaviour"] == name for name in self.behaviours]
        return np.array([number(task, "speed") / self.at_speed.fastest, *named], np.float32)

    def goal(self, task: Task) -> Float64[np.ndarray, " goal"]:
        """Place of the behaviour among all, and speed in m/s."""
        return np.array(
            [list(self.behaviours).index(str(task.parameters["behaviour"])), number(task, "speed")]
        )

    def start(self, task: Task, rng: np.random.Generator) -> TaskStart:
        """See `Family.start`."""
        return self.at_speed.start(task, rng)

    def reward(
        self, physics: Physics, goal: Float[Tensor, "world goal"]
    ) -> Float[Tensor, " world"]:
        """See `Family.reward`."""
        asked, total = goal[:, 0].long(), torch.zeros_like(goal[:, 0])
        # A GPU waits for this list, once; working out what nobody asks for would cost dozens of
        # launches.
        for place in asked.unique().tolist():
            total = torch.where(asked == place, self._rewards[place](physics, goal[:, 1]), total)
        return total

    def holding(
        self, physics: Physics, goal: Float[Tensor, "world goal"], reward: Float[Tensor, " world"]
    ) -> Bool[Tensor, " world"]:
        """See `Family.holding`."""
        lasting = self._lasting.to(goal.device)[goal[:, 0].long()]
        return self.at_speed.holding(physics, goal[:, 1:], reward) & lasting
