"""Actor-critics of few units on made-up trajectories, and their returns by the definition."""

from __future__ import annotations

import torch

from hrl.agents.actor_critic import (
    ActorCritic,
    ActorCriticConfig,
    ContinuousActor,
    Critic,
    Trajectory,
)
from tests.fakes import randomise

INPUTS, TASK, UNITS, TIME, BATCH, ACTION = 5, 2, 8, 4, 3, 2
PLAIN = ActorCriticConfig(layers=1, normalise_advantage=False)


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def critic(config: ActorCriticConfig = PLAIN, seed: int = 0) -> Critic:
    """One whose slow copy says something else than it does."""
    torch.manual_seed(0)
    built = Critic(INPUTS, TASK, 4, UNITS, config)
    randomise(built.net, 0.2, seed)
    randomise(built.slow, 0.2, seed + 100)
    return built


def actor_critic(
    config: ActorCriticConfig = PLAIN,
    gradient: str = "reinforce",
    reward_weights: dict[str, float] | None = None,
) -> ActorCritic:
    torch.manual_seed(0)
    reward_weights = reward_weights or {"task": 1.0}
    actor = randomise(ContinuousActor(INPUTS, TASK, 4, UNITS, ACTION, config))
    critics = {name: critic(config, index) for index, name in enumerate(reward_weights)}
    return ActorCritic(actor, critics, reward_weights, config, gradient)


def trajectory(
    reward_types: tuple[str, ...] = ("task",), actions: torch.Tensor | None = None
) -> Trajectory:
    return Trajectory(
        draws(TIME + 1, BATCH, INPUTS),
        draws(1, BATCH, TASK, seed=1),
        draws(TIME, BATCH, ACTION, seed=2) if actions is None else actions,
        {name: draws(TIME, BATCH, seed=3 + index) for index, name in enumerate(reward_types)},
        uniform(TIME + 1, BATCH, seed=9),
        0.9,
    )


def slow_lambda_return(rewards, values, continues, discount, gae_lambda, start):
    """The mixture of returns that bootstrap after n steps, by (1 - l) l^(n-1) for lambda l; the
    last has the rest."""
    horizon = len(rewards)
    total = 0.0
    for steps in range(1, horizon - start + 1):
        bootstrapped, reach = 0.0, 1.0
        for time in range(start, start + steps):
            bootstrapped = bootstrapped + reach * rewards[time]
            reach = reach * discount * continues[time]
        bootstrapped = bootstrapped + reach * values[start + steps]
        last = steps == horizon - start
        total = (
            total
            + (gae_lambda ** (steps - 1) if last else (1 - gae_lambda) * gae_lambda ** (steps - 1))
            * bootstrapped
        )
    return total
