"""Divide an agent into parts that fine-tuning trains further, freezes, or makes anew.

An agent declares its parts by its method `parts`. Their names are

    encoder or world_model   the representation of observations, with the world model's dynamics
    rewards                  the world model's predictions of reward and continuation
    policy                   what a flat agent acts by
    manager, low_level       what the two levels of a hierarchical agent act by
    values                   the critics of all levels

and those that an agent lacks are absent. A part has the running statistics that belong to it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

from hrl.config_field import CheckedConfig, ConfigValueError, config_field

TRAINABLE = "trainable"
FROZEN = "frozen"
REINITIALISED = "reinitialised"
STATES = (TRAINABLE, FROZEN, REINITIALISED)

REPRESENTATIONS = ("encoder", "world_model")
VALUES = "values"
ALIASES = {"full": "all"}
"""Presets by another name, which runs record under the first one."""

Parts: TypeAlias = Mapping[str, Mapping[str, nn.Module]]
"""Modules by part and name; every parameter and running statistic is in exactly one of them."""

_HEADS: dict[str, tuple[str, ...]] = {
    "policy": ("policy",),
    "manager": ("manager",),
    "manager_value": ("manager", VALUES),
    "low_level": ("low_level",),
    "low_level_value": ("low_level", VALUES),
}
"""What each preset trains beside the predictions of rewards; all other parts are frozen."""


@runtime_checkable
class HasParts(Protocol):
    """Declare the parts of an agent, or of a learner with its agent."""

    def parts(self) -> Parts:
        """Return the modules by part and name; every parameter is in exactly one."""


@runtime_checkable
class FineTunable(HasParts, Protocol):
    """Learn on from the parts of another learner of the same agent."""

    def saved_modules(self) -> Mapping[str, nn.Module]:
        """Return the modules whose `state_dict` is an entry of the learner's, by its key."""


@dataclass(frozen=True)
class FinetuneConfig(CheckedConfig):
    """Record what a fine-tuning run started from, and what it does to each part."""

    source: str = config_field("", "folder of the run whose checkpoint fine-tuning starts from")
    source_sha256: str = config_field("", "SHA-256 of that checkpoint's policy file")
    source_frames: int = config_field(0, "control steps of that checkpoint", at_least=0)
    source_method: str = config_field("", "method of that run")
    source_suite: str = config_field("", "suite of that run")
    source_reference_return: float = config_field(0.0, "return that counts as a score of 1 there")
    target: str = config_field("", "task or split that is learned")
    preset: str = config_field("all", "preset of the parts")
    parts: dict[str, str] = config_field(
        default_factory=dict, help="what is done to each part: trainable, frozen or reinitialised"
    )

    def check_together(self) -> None:
        """Refuse unknown states of parts."""
        for name, state in self.parts.items():
            if state not in STATES:
                rule = f"choose from {', '.join(STATES)}"
                raise ConfigValueError(f"parts.{name}", state, rule)


def presets(parts: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return what each preset does to each part of an agent, by the preset's name.

    `all` trains every part further; `scratch` makes every part anew; `heads` freezes the
    representation; the others train what they are named after, and freeze the rest. The world
    model's predictions of rewards are trained with every preset: they are all that an imagining
    agent learns of a new task.

    Args:
        parts: by name; the values do not matter.
    """
    found = {"all": dict.fromkeys(parts, TRAINABLE)}
    heads = {"heads": tuple(name for name in parts if name not in REPRESENTATIONS)} | _HEADS
    for preset, trained in heads.items():
        if all(name in parts for name in trained):
            kept = {*trained, "rewards"}
            found[preset] = {name: TRAINABLE if name in kept else FROZEN for name in parts}
    return {**found, "scratch": dict.fromkeys(parts, REINITIALISED)}


def modules_by_name(parts: Parts) -> dict[str, nn.Module]:
    """Return the modules of all parts by their own names."""
    return {name: module for modules in parts.values() for name, module in modules.items()}


def trainable_parameters(module: nn.Module) -> int:
    """Return the number of parameters that learn: neither slow copies nor frozen ones."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def parameter_counts(parts: Parts) -> dict[str, int]:
    """Return the numbers of trainable parameters by module, and their `total`."""
    counts = {name: trainable_parameters(module) for name, module in modules_by_name(parts).items()}
    return {"total": sum(counts.values()), **counts}


def freeze(parts: Parts, states: Mapping[str, str]) -> None:
    """Freeze the parts that are to be frozen.

    Their parameters get no gradients. Their running statistics and slow copies stay as they are,
    because modules in evaluation mode do not update them.
    """
    for name, modules in parts.items():
        if states[name] == FROZEN:
            for module in modules.values():
                module.requires_grad_(False).eval()


def take_parts(
    learner: FineTunable, source: Mapping[str, Mapping[str, Tensor]], states: Mapping[str, str]
) -> None:
    """Load the parts that are not made anew from another learner's state.

    What belongs to no part, such as counters, stays as it is in a new learner.

    Args:
        learner: takes the parts.
        source: the state by the keys of `saved_modules`.
        states: of the parts.

    Raises:
        KeyError: the state is of another kind of agent.
        RuntimeError: it is of an agent of other sizes.
    """
    taken = {
        id(tensor)
        for name, modules in learner.parts().items()
        if states[name] != REINITIALISED
        for module in modules.values()
        for tensor in module.state_dict(keep_vars=True).values()
    }
    for key, module in learner.saved_modules().items():
        own = module.state_dict(keep_vars=True)
        module.load_state_dict(
            {
                name: source[key][name] if id(tensor) in taken else tensor.detach()
                for name, tensor in own.items()
            }
        )
