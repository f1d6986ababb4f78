"""Say how the evaluation episodes of a run are played."""

from __future__ import annotations

import torch

from hrl.config import RunConfig
from hrl.evaluation.episodes import EvalConfig


def eval_config_for(config: RunConfig, device: torch.device, episodes: int) -> EvalConfig:
    """Return how the evaluation episodes of a run are played.

    Args:
        config: of the run.
        device: where the policy computes.
        episodes: per task.
    """
    return EvalConfig(
        episodes=episodes,
        seed=config.evaluation.seed,
        frame_stack=config.frame_stack,
        image_size=config.image_size,
        observation=config.observation,
        device=device,
        threads=config.threads or None,
        physics=config.physics,
    )
