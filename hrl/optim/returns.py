"""Estimate advantages and returns, also of decisions that last several steps.

Plain generalized advantage estimation is the case in which every step is a decision.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def generalized_advantages(
    rewards: Float[Tensor, "time env"],
    values: Float[Tensor, "time env"],
    is_decision: Bool[Tensor, "time env"],
    done: Bool[Tensor, "time env"],
    bootstrap: Float[Tensor, "time env"],
    last_value: Float[Tensor, " env"],
    discount: float,
    gae_lambda: float,
) -> Float[Tensor, "time env"]:
    """Return generalized advantage estimates of decisions that last a varying number of steps.

    A decision at step t that lasts d steps has the temporal-difference error of a semi-Markov
    decision process (Sutton, Precup and Singh 1999, section 3), `r_t + ... + discount^(d-1)
    r_(t+d-1) + discount^d V(s_(t+d)) - V(s_t)`, and errors are summed over decisions with weights
    `(discount * gae_lambda)^d` (Schulman et al. 2016, arXiv 1506.02438, equation 16). Both factors
    apply per step, whatever a decision's length, so that two levels of a hierarchy that decide at
    different rates look equally far ahead.

    Args:
        rewards: reward of each step.
        values: value of the decision taken at each step; read only where `is_decision`.
        is_decision: whether a decision was taken at the step.
        done: whether the episode ended with the step, by termination or by a time limit.
        bootstrap: value of the state that an ended episode ended in; 0 where it terminated. Read
            only where `done`.
        last_value: value of the state after the last step. Where a decision is due there, this is
            the value of that decision; elsewhere it is the value of the rest of the decision that
            is still under way.
        discount: per step, in [0, 1].
        gae_lambda: lambda per step, in [0, 1].

    Returns:
        Advantages where `is_decision`, zero elsewhere.
    """
    advantages = torch.zeros_like(rewards)
    next_value = last_value
    next_advantage = torch.zeros_like(last_value)
    for step in range(len(rewards) - 1, -1, -1):
        value = rewards[step] + discount * torch.where(done[step], bootstrap[step], next_value)
        trailing = discount * gae_lambda * torch.where(done[step], 0.0, next_advantage)
        advantages[step] = torch.where(is_decision[step], value - values[step] + trailing, 0.0)
        next_value = torch.where(is_decision[step], values[step], value)
        next_advantage = torch.where(is_decision[step], advantages[step], trailing)
    return advantages


def lambda_returns(
    rewards: Float[Tensor, "time ..."],
    values: Float[Tensor, "time+1 ..."],
    continues: Float[Tensor, "time ..."],
    discount: float,
    return_lambda: float,
) -> Float[Tensor, "time ..."]:
    """Return lambda-returns of imagined trajectories (arXiv 2301.04104, equation 7).

    `R_t = r_(t+1) + discount c_(t+1) ((1 - lambda) v_(t+1) + lambda R_(t+1))`, with `R_T = v_T`
    (Hafner et al. 2023).

    Args:
        rewards: received on arriving at states 1 to T.
        values: of states 0 to T; that of state 0 is not read.
        continues: probability that the episode goes on at states 1 to T.
        discount: per decision, in [0, 1].
        return_lambda: lambda per decision, in [0, 1].

    Returns:
        Returns from states 0 to T - 1.
    """
    discounts = discount * continues
    following = values[-1]
    returns = []
    for step in range(len(rewards) - 1, -1, -1):
        future = (1 - return_lambda) * values[step + 1] + return_lambda * following
        following = rewards[step] + discounts[step] * future
        returns.append(following)
    return torch.stack(returns[::-1])


def replayed_returns(
    rewards: Float[Tensor, "batch time"],
    bootstrap: Float[Tensor, "batch time"],
    is_last: Bool[Tensor, "batch time"],
    is_terminal: Bool[Tensor, "batch time"],
    discount: float,
    return_lambda: float,
) -> Float[Tensor, "batch time-1"]:
    """Return lambda-returns along replayed steps, which bootstrap from imagined returns.

    `R_t = r_(t+1) + discount c_(t+1) ((1 - lambda) b_(t+1) + lambda R_(t+1))`, with `R_T = b_T`,
    where an episode's last step bootstraps from its own `b` alone, and from nothing where it is
    terminal: the replay value loss of DreamerV3 (arXiv 2301.04104, "Critic learning", and its
    published code).

    Args:
        rewards: received on arriving at each state.
        bootstrap: `b`, the return that is imagined from each state.
        is_last: whether an episode ends at the state, by termination or by a time limit. What is
            returned for such a state belongs to no episode.
        is_terminal: whether it ends there by termination.
        discount: per step, in [0, 1].
        return_lambda: lambda per step, in [0, 1].

    Returns:
        Returns from all states but the last.
    """
    discounts = discount * (~is_terminal).to(rewards.dtype)
    lambdas = return_lambda * (~is_last).to(rewards.dtype)
    following = bootstrap[:, -1]
    returns = []
    for step in range(rewards.shape[1] - 1, 0, -1):
        future = (1 - lambdas[:, step]) * bootstrap[:, step] + lambdas[:, step] * following
        following = rewards[:, step] + discounts[:, step] * future
        returns.append(following)
    return torch.stack(returns[::-1], 1)
