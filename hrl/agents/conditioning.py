"""Choose which modules of an agent with a world model get the task vector as an input."""

from __future__ import annotations

from dataclasses import dataclass

from hrl.config_field import CheckedConfig, config_field
from hrl.world_model.model import TaskConditioning

CONDITIONABLE_MODULES = ("encoder", "dynamics", "heads", "manager", "worker", "goal_autoencoder")
PRESETS: dict[str, tuple[str, ...]] = {
    "heads": ("heads", "manager"),
    "world_model": ("encoder",),
    "none": (),
    "everywhere": CONDITIONABLE_MODULES,
}
"""The modules that each preset conditions on the task."""


@dataclass(frozen=True, kw_only=True)
class ConditioningConfig(CheckedConfig):
    """Choose the modules that get the task vector: a preset, and modules that differ from it.

    The preset `heads` conditions reward, continuation, critics and whoever decides what to do, so
    that encoder, dynamics and worker can be reused on another task. With `world_model` (as
    published in arXiv 2407.19142) the task is a part of the observation, so that everything
    inherits it from the model's state.
    """

    preset: str = config_field(
        "heads",
        "modules that get the task vector unless a key below differs",
        choices=tuple(PRESETS),
    )
    encoder: bool | None = config_field(
        None, "whether the embedding of an observation gets the task; null for the preset's choice"
    )
    dynamics: bool | None = config_field(
        None, "whether the transition of the deterministic state gets the task; null as above"
    )
    heads: bool | None = config_field(
        None, "whether the predictions of reward and continuation get the task; null as above"
    )
    manager: bool | None = config_field(
        None, "whether the manager (or the flat policy) and its critics get the task; null as above"
    )
    worker: bool | None = config_field(
        None, "whether the worker and its critics get the task; null as above"
    )
    goal_autoencoder: bool | None = config_field(
        None, "whether the goals' encoder and decoder get the task; null as above"
    )

    def is_task_conditioned(self, module: str) -> bool:
        """Return whether this module gets the task vector."""
        own: bool | None = getattr(self, module)
        return module in PRESETS[self.preset] if own is None else own

    def of_world_model(self) -> TaskConditioning:
        """Return the part that concerns the world model."""
        return TaskConditioning(
            encoder=self.is_task_conditioned("encoder"),
            dynamics=self.is_task_conditioned("dynamics"),
            heads=self.is_task_conditioned("heads"),
        )
