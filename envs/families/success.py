"""Define success for tasks without a goal state: a reward near its maximum, held for a while."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SUCCESS_REWARD = 0.8


def close_to_best(reward: Float[Tensor, " world"]) -> Bool[Tensor, " world"]:
    """Return whether the reward of a control step, at most 1, is at least `SUCCESS_REWARD`."""
    return torch.ge(reward, SUCCESS_REWARD)
