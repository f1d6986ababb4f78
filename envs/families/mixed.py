"""Combine the families of several bodies, with a task vector that also names the body."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32
from typing_extensions import override

from envs.families.description import FamilyDescription
from envs.families.family import Checkable, TaskFamily
from envs.tasks import Task


class MixedFamily(TaskFamily):
    """Combine the families of several bodies.

    Task vector: one-hot over the bodies, then the vector of the body's own family, padded with
    zeros to the longest one. Rewards and successes are the bodies' own.

    Args:
        families: families of the bodies, in the order of the one-hot vector.
        family_of: returns the family of a task.
    """

    def __init__(
        self, families: Sequence[TaskFamily], family_of: Callable[[Task], TaskFamily]
    ) -> None:
        self.families = list(families)
        self._family_of = family_of

    @property
    @override
    def description(self) -> FamilyDescription | None:
        """Return None: pages describe the bodies' own families."""
        return None

    @property
    def parameters(self) -> Mapping[str, Checkable]:
        """Return the parameters that the tasks of all bodies have."""
        first, *others = (family.parameters for family in self.families)
        return {key: value for key, value in first.items() if all(key in other for other in others)}

    @property
    @override
    def task_size(self) -> int:
        return len(self.families) + max(family.task_size for family in self.families)

    @override
    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        return self.with_body(task, self._family_of(task).task_vector(task))

    def with_body(
        self, task: Task, own: Float32[np.ndarray, " own_size"]
    ) -> Float32[np.ndarray, " task_size"]:
        """Return the task vector whose part from the body's own family is given."""
        family = self._family_of(task)
        vector = np.zeros(self.task_size, np.float32)
        vector[[other is family for other in self.families].index(True)] = 1
        vector[len(self.families) : len(self.families) + len(own)] = own
        return vector
