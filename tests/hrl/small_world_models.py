"""World models of few units, and replayed sequences for them."""

from __future__ import annotations

import torch

from hrl.world_model.model import (
    TaskConditioning,
    WorldModel,
    WorldModelLossConfig,
    WorldModelOutput,
)
from tests.fakes import model_setting, randomise, replayed

BATCH, TIME = 3, 6
ALL_BITS = WorldModelLossConfig(free_nats=0.0)
OWN = ("encoder", "dynamics", "heads")  # modules of the world model that can get the task


def world_model(
    moved: bool = True, conditioning: TaskConditioning | None = None, **sizes: object
) -> WorldModel:
    """A small one; where `moved`, no head starts at zero."""
    torch.manual_seed(0)
    spec = model_setting(**sizes)
    model = WorldModel(spec.world_model, 16, 3, 2, 2, 4, conditioning or TaskConditioning())
    return randomise(model) if moved else model


def rows(batch: int = BATCH, time: int = TIME, seed: int = 0) -> dict[str, torch.Tensor]:
    """Replayed sequences, in float32 throughout."""
    columns = replayed(model_setting(), batch, time, seed)
    return {**columns, "deter": columns["deter"].float()}


def noise(batch: int = BATCH, time: int = TIME, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, time, 4, generator=torch.Generator().manual_seed(seed))


def observe(
    model: WorldModel, batch: dict[str, torch.Tensor], weights: WorldModelLossConfig = ALL_BITS
) -> WorldModelOutput:
    return model.observe(batch, noise(*batch["action"].shape[:2])[:, 1:], weights)


def only(*modules: str) -> TaskConditioning:
    """Exactly these modules get the task."""
    return TaskConditioning(**dict.fromkeys(modules, True))
