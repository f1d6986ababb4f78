"""Describe families in words and formulas for the pages of suites."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

_MAY_BE_EMPTY = ("state", "source", "reward_parameter", "units")

GAUSSIAN = (
    r"$G_m(x \in A)$ is 1 where $x$ lies in $A$, and $0.1^{(e/m)^2}$ at a distance $e$ from it."
)
"""What `envs.rewards.tolerance` is with its default sigmoid."""

LINEAR = (
    r"$L_m(x \in A)$ is 1 where $x$ lies in $A$, and $\max(0, 1 - e/m)$ at a distance $e$ from it."
)
"""What `envs.rewards.tolerance` is with a linear sigmoid that ends at 0."""

HALF_LINEAR = (
    r"$H_m(x \in A)$ is 1 where $x$ lies in $A$, and $\max(0, 1 - e/(2m))$ at a distance $e$ from "
    "it."
)
"""What `envs.rewards.tolerance` is with a linear sigmoid that is 0.5 at the margin."""


@dataclass(frozen=True)
class FamilyDescription:
    """Say for readers what the tasks of a family are.

    Formulas are LaTeX, between dollars where they stand in a sentence.

    Attributes:
        body: what moves, with its actuators: "a planar walker with 6 motors".
        goal: what it must do.
        image: what the image shows.
        task_vector: what the task vector says.
        rewards: the reward r of a control step, a formula without dollars, by the value of
            `reward_parameter`; under "" where all tasks have one formula.
        symbols: what the letters of the formulas stand for.
        success: when an episode is a success.
        start: how an episode begins.
        reward_parameter: the parameter of tasks on which the formula depends; empty for none.
        state: what `observation=state` observes; empty where it is not possible.
        source: paper or package that the tasks are from; empty for our own.
        units: units of the tasks' parameters, by their names.

    Raises:
        ValueError: a text is missing or is no whole sentence; the message names the field.
    """

    body: str
    goal: str
    image: str
    task_vector: str
    rewards: Mapping[str, str]
    symbols: str
    success: str
    start: str
    reward_parameter: str = ""
    state: str = ""
    source: str = ""
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if not value and part.name not in _MAY_BE_EMPTY:
                raise ValueError(f"a family's description needs {part.name!r}")
            if part.name != "body" and isinstance(value, str) and " " in value:
                _check_sentences(part.name, value)


def _check_sentences(name: str, text: str) -> None:
    if not text.endswith(".") or not (text[0].isupper() or text[0] in "$`"):
        raise ValueError(f"{name!r} of a family's description must be whole sentences: {text!r}")
