"""What an agent is told in a suite of several bodies: which one it is, then what that body's own
family says.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from envs.families.family import Checkable, TaskFamily
from envs.tasks import Task


class MixedFamily:
    """Families of several bodies as one.

    Task vector: 1 at the body's place and 0 at the others', then the vector of the body's own
    family, with zeros behind it where another one's is longer. Rewards and successes are the
    bodies' own.

    Args:
        families: of the bodies, in the order of their places.
        family_of: of a task.
    """

    def __init__(
        self, families: Sequence[TaskFamily], family_of: Callable[[Task], TaskFamily]
    ) -> None:
        self.families, self._family_of = list(families), family_of

    @property
    def parameters(self) -> Mapping[str, Checkable]:
        """Those that the tasks of every body have."""
        first, *others = (family.parameters for family in self.families)
        return {key: value for key, value in first.items() if all(key in other for other in others)}

    @property
    def task_size(self) -> int:
        """See `TaskFamily.task_size`."""
        return len(self.families) + max(family.task_size for family in self.families)

    def task_vector(self, task: Task) -> Float32[np.ndarray, " task_size"]:
        """See the class."""
        family = self._family_of(task)
        own, vector = family.task_vector(task), np.zeros(self.task_size, np.float32)
        vector[[other is family for other in self.families].index(True)] = 1
        vector[len(self.families) : len(self.families) + len(own)] = own
        return vector
