"""Update the world model's state by actions and observations: the recurrent state-space model.

    deter(t-1), stoch(t-1), action(t-1) -> block GRU -> deter(t) -+-> prior     -> stoch(t)
                                      embedding(t) ---------------+-> posterior -> stoch(t)

The prior is used when imagining, the posterior when the observation is known. As in DreamerV3
(Hafner et al. 2023, arXiv 2301.04104, and its published code), a block-diagonal GRU updates the
deterministic state `deter`, and the stochastic state `stoch` consists of `groups` categoricals with
`classes` classes each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from hrl.config_field import MAX_SIZE, CheckedConfig, ConfigValueError, config_field
from hrl.nets.action_bounds import bounded
from hrl.nets.block_linear import BlockLinear
from hrl.nets.dense import Dense, RMSNorm, truncated_normal_
from hrl.nets.one_hot import OneHot
from hrl.optim.compile import compiled_part


@dataclass(frozen=True, kw_only=True)
class RSSMConfig(CheckedConfig):
    """Hold the sizes of the recurrent state-space model."""

    deter: int = config_field(512, "units of the deterministic state", at_least=1, at_most=MAX_SIZE)
    hidden: int = config_field(
        128, "units of every layer between the states", at_least=1, at_most=MAX_SIZE
    )
    groups: int = config_field(
        16, "categoricals of the stochastic state", at_least=1, at_most=MAX_SIZE
    )
    classes: int = config_field(16, "classes of each categorical", at_least=2, at_most=256)
    blocks: int = config_field(
        8, "blocks of the block-diagonal GRU; divides deter", at_least=1, at_most=MAX_SIZE
    )
    unimix: float = config_field(
        0.01, "share of the uniform distribution in prior and posterior", at_least=0, below=1
    )
    posterior_scale: float = config_field(
        1.0,
        "scale of the first weights of the posterior's logits. At 1 (DreamerV3's) the first draws "
        "are mostly noise, and small details of an image are learned late",
        above=0,
    )

    def check_together(self) -> None:
        """Refuse blocks that do not divide the deterministic state."""
        if self.deter % self.blocks:
            rule = f"it must divide deter, which is {self.deter}"
            raise ConfigValueError("blocks", self.blocks, rule)

    @property
    def stoch(self) -> int:
        """Return the size of the flat stochastic state."""
        return self.groups * self.classes

    @property
    def features(self) -> int:
        """Return the size of both states together."""
        return self.deter + self.stoch


class RSSMState(NamedTuple):
    """Hold the model's state; both parts have the dtype of matrix products.

    Attributes:
        deter: deterministic state.
        stoch: stochastic state, flattened one-hot vectors.
    """

    deter: Float[Tensor, "*batch deter"]
    stoch: Float[Tensor, "*batch stoch"]

    def features(self) -> Float[Tensor, "*batch features"]:
        """Return both parts concatenated, the input of heads, actors and critics."""
        return torch.cat([self.deter, self.stoch], -1)

    def detach(self) -> RSSMState:
        """Return the same state as a constant."""
        return RSSMState(self.deter.detach(), self.stoch.detach())

    def flatten(self) -> RSSMState:
        """Return the state with all leading axes flattened into one."""
        return RSSMState(self.deter.flatten(0, -2), self.stoch.flatten(0, -2))


class RSSM(nn.Module):
    """Predict the next state from an action, or infer it from an action and an observation.

    `forward` predicts one step, `correct` infers one step, `observe` infers whole sequences.

    Args:
        config: sizes.
        embedding: size of the embedding of an observation.
        action: size of the action.
        task_input_size: size of the task embedding that is concatenated to actions; 0 for none. In
            contrast to actions, it is not set to zero at the start of an episode.
    """

    def __init__(
        self, config: RSSMConfig, embedding: int, action: int, task_input_size: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        hidden = (config.hidden,)
        self.from_deter = Dense(config.deter, hidden, None)
        self.from_stoch = Dense(config.stoch, hidden, None)
        self.from_action = Dense(action + task_input_size, hidden, None)
        self.task_input_size = task_input_size
        # In DreamerV3, each block's inputs are its own part of `deter` and all embedded inputs. The
        # weights of the latter are one dense layer here, so that its inputs need not be copied for
        # every block. The fan-in is that of the whole layer.
        self.core = BlockLinear(config.deter, config.deter, config.blocks)
        self.core_inputs = nn.Linear(3 * config.hidden, config.deter, bias=False)
        for layer in (self.core, self.core_inputs):
            truncated_normal_(layer.weight, config.deter + 3 * config.hidden * config.blocks)
        self.core_norm = RMSNorm(config.deter)
        self.gates = BlockLinear(config.deter, 3 * config.deter, config.blocks)
        self.prior_net = Dense(config.deter, hidden * 2, config.stoch)
        self.posterior_net = Dense(
            config.deter + embedding, hidden, config.stoch, config.posterior_scale
        )

    def initial(self, *batch: int) -> RSSMState:
        """Return the state before any observation: zeros."""
        like = self.core_norm.scale
        deter = like.new_zeros(*batch, self.config.deter)
        stoch = like.new_zeros(*batch, self.config.stoch)
        return RSSMState(deter, stoch)

    def prior(self, deter: Float[Tensor, "*batch deter"]) -> OneHot:
        """Return the distribution of the stochastic state at `deter` without an observation."""
        return self._categorical(self.prior_net(deter))

    def posterior(
        self, deter: Float[Tensor, "*batch deter"], embedding: Float[Tensor, "*batch embedding"]
    ) -> OneHot:
        """Return the distribution of the stochastic state at `deter` given the observation."""
        return self._categorical(self.posterior_net(torch.cat([deter, embedding], -1)))

    @compiled_part
    def forward(
        self,
        state: RSSMState,
        action: Float[Tensor, "batch action"],
        noise: Float[Tensor, "batch groups"] | None,
    ) -> RSSMState:
        """Imagine one step.

        Args:
            state: before the step.
            action: dynamics input, the action with the task embedding, if any.
            noise: uniform in [0, 1) for the draw from the prior; None takes its mode.
        """
        deter = self.advance(state, self.from_action(bounded(action)))
        return RSSMState(deter, sample_or_mode(self.prior(deter), noise).to(deter.dtype))

    def correct(
        self,
        state: RSSMState,
        action: Float[Tensor, "batch action"],
        embedding: Float[Tensor, "batch embedding"],
        noise: Float[Tensor, "batch groups"] | None,
    ) -> RSSMState:
        """Make one step to a known observation, as acting needs it.

        Args:
            state: before the step.
            action: dynamics input, the action with the task embedding, if any.
            embedding: of the observation after the step.
            noise: uniform in [0, 1) for the draw from the posterior; None takes its mode.
        """
        deter = self.advance(state, self.from_action(bounded(action)))
        posterior = self.posterior(deter, embedding)
        return RSSMState(deter, sample_or_mode(posterior, noise).to(deter.dtype))

    def observe(
        self,
        initial: RSSMState,
        actions: Float[Tensor, "batch time action"],
        embeddings: Float[Tensor, "batch time embedding"],
        is_first: Bool[Tensor, "batch time"],
        noise: Float[Tensor, "batch time groups"],
    ) -> tuple[RSSMState, OneHot]:
        """Return states along observed sequences, and the posterior that they were drawn from.

        Args:
            initial: the state one step before the sequences begin.
            actions: at each time the dynamics input of the step that led there.
            embeddings: of the observations.
            is_first: where an episode begins. The state and the action before count as zero there.
            noise: uniform in [0, 1), for the posterior's draws.
        """
        is_same_episode = (~is_first).to(initial.deter.dtype).unsqueeze(-1)
        # The task is known at the start of an episode already, as it is when acting.
        mask = is_same_episode.expand_as(actions).clone()
        mask[..., actions.shape[-1] - self.task_input_size :] = 1
        embedded_actions = self.from_action(bounded(actions) * mask)
        inputs = (is_same_episode, embedded_actions, embeddings, noise)
        state = initial
        deters = []
        stochs = []
        logits = []
        for step_inputs in zip(*(rows.unbind(1) for rows in inputs), strict=True):
            state, step_logits = self._observe_step(state, *step_inputs)
            deters.append(state.deter)
            stochs.append(state.stoch)
            logits.append(step_logits)
        states = RSSMState(torch.stack(deters, 1), torch.stack(stochs, 1))
        return states, OneHot(torch.stack(logits, 1), self.config.unimix)

    def advance(
        self, state: RSSMState, embedded_action: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch deter"]:
        """Return the next deterministic state, by the block GRU."""
        deter = self.from_deter(state.deter)
        stoch = self.from_stoch(state.stoch)
        inputs = torch.cat([deter, stoch, embedded_action], -1)
        core = F.silu(self.core_norm(self.core(state.deter) + self.core_inputs(inputs)))
        # Each block has its own three gates, whose inputs are that block alone.
        gates = self.gates(core).unflatten(-1, (self.config.blocks, 3, -1))
        reset, candidate, update = (gate.flatten(-2) for gate in gates.unbind(-2))
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(state.deter.to(candidate.dtype), candidate, torch.sigmoid(update - 1))

    # Private methods.

    @compiled_part
    def _observe_step(
        self,
        state: RSSMState,
        is_same_episode: Float[Tensor, "batch 1"],
        embedded_action: Float[Tensor, "batch hidden"],
        embedding: Float[Tensor, "batch embedding"],
        noise: Float[Tensor, "batch groups"],
    ) -> tuple[RSSMState, Float[Tensor, "batch groups classes"]]:
        """Return the next state along a sequence, and the logits that it was drawn from."""
        before = RSSMState(state.deter * is_same_episode, state.stoch * is_same_episode)
        deter = self.advance(before, embedded_action)
        posterior = self.posterior(deter, embedding)
        stoch = sample_or_mode(posterior, noise).to(deter.dtype)
        return RSSMState(deter, stoch), posterior.logits

    def _categorical(self, logits: Tensor) -> OneHot:
        groups = logits.unflatten(-1, (self.config.groups, self.config.classes))
        return OneHot(groups, self.config.unimix)


def sample_or_mode(
    distribution: OneHot, noise: Float[Tensor, "*batch groups"] | None
) -> Float[Tensor, "*batch stoch"]:
    """Return a flat one-hot draw, or the mode without noise; gradients are straight-through."""
    onehot = distribution.mode() if noise is None else distribution.sample(noise)
    return onehot.flatten(-2)
