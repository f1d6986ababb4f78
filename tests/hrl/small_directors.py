"""The hierarchical agent with few units, replayed sequences for it, and an imagined trajectory
with labels."""

from __future__ import annotations

import torch

from hrl.agents.actor_critic import ActorCriticConfig
from hrl.agents.director import Director, DirectorConfig
from hrl.agents.goal_segments import ImaginedTrajectory
from hrl.world_model.rssm import RSSMState
from tests.fakes import model_setting, randomise, replayed

BATCH, LENGTH, COUNT = 2, 3, 4


def director(moved: bool = True, units: int = 16, **changes: object) -> Director:
    """A small one; where `moved`, no head starts at zero."""
    level = ActorCriticConfig(layers=1)
    sizes = {
        "batch_size": BATCH,
        "sequence_length": LENGTH,
        "horizon": 6,
        "skill_duration": 2,
        "manager": level,
        "worker": level,
    }
    torch.manual_seed(0)
    agent = Director(DirectorConfig(**(sizes | changes)), model_setting(units=units))
    return randomise(agent) if moved else agent


def rows(seed: int = 0) -> dict[str, torch.Tensor]:
    return replayed(model_setting(), BATCH, LENGTH, seed)


def labelled(skill_duration: int, decisions: int) -> ImaginedTrajectory:
    """A trajectory whose every part says when and of which start it is: entry 0 the time, entry 1
    the start."""
    steps, generator = skill_duration * decisions, torch.Generator().manual_seed(0)

    def label(count: int, size: int, offset: float = 0.0) -> torch.Tensor:
        values = torch.rand(count, COUNT, size, generator=generator)
        values[..., 0] = offset + torch.arange(count)[:, None]
        values[..., 1] = torch.arange(COUNT)
        return values

    return ImaginedTrajectory(
        states=RSSMState(label(steps + 1, 32), label(steps + 1, 16, 1000.0)),
        actions=label(steps, 2),
        codes=label(decisions + 1, 64).unflatten(-1, (8, 8)),
        goals=label(decisions + 1, 32, 100.0),
        rewards=label(steps, 2, 1.0)[..., 0] + 0.01 * torch.arange(COUNT),
        continues=0.5 + 0.5 * torch.rand(steps + 1, COUNT, generator=generator),
        task=torch.arange(2.0 * COUNT).reshape(1, COUNT, 2),
        action_mask=torch.ones(1, COUNT, 2, dtype=torch.bool),
    )


def states(agent: Director, batch: dict[str, torch.Tensor]) -> RSSMState:
    torch.manual_seed(1)
    noise = torch.rand(BATCH, LENGTH, 4)
    return agent.world_model.observe(batch, noise, agent.config.world_model_loss).states
