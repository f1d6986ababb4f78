"""The recurrent state-space model: what the world model remembers, and how it moves under actions.

    deter(t-1), stoch(t-1), action(t-1) -> block GRU -> deter(t) -+-> prior      (imagining)      -> stoch(t)
                                      embedding(t) ---------------+-> posterior  (having seen it) -> stoch(t)

DreamerV3's (Hafner et al. 2023, arXiv 2301.04104, and its published code): a deterministic state
`deter` moved by a block-diagonal GRU, and a stochastic state `stoch` of `groups` categoricals with
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
        "are mostly noise, and what is small in an image takes long to be told apart from it",
        above=0,
    )

    def check_together(self) -> None:
        """Refuse blocks that do not divide the deterministic state."""
        if self.deter % self.blocks:
            rule = f"it must divide deter, which is {self.deter}"
            raise ConfigValueError("blocks", self.blocks, rule)

    @property
    def stoch(self) -> int:
        """Size of the flat stochastic state."""
        return self.groups * self.classes

    @property
    def features(self) -> int:
        """Size of both states together."""
        return self.deter + self.stoch


class RSSMState(NamedTuple):
    """What the model remembers. `stoch` holds one-hot vectors, flattened. Both in the dtype of
    matrix products.
    """

    deter: Float[Tensor, "*batch deter"]
    stoch: Float[Tensor, "*batch stoch"]

    def features(self) -> Float[Tensor, "*batch features"]:
        """Both parts side by side: what heads, actors and critics read."""
        return torch.cat([self.deter, self.stoch], -1)

    def detach(self) -> RSSMState:
        """The same state as a constant."""
        return RSSMState(self.deter.detach(), self.stoch.detach())

    def flatten(self) -> RSSMState:
        """Leading axes as one."""
        return RSSMState(self.deter.flatten(0, -2), self.stoch.flatten(0, -2))


class RSSM(nn.Module):
    """Moves the state under actions (`forward`), and corrects it by what is seen (`observe`).

    Args:
        config: sizes.
        embedding: size of the embedding of an observation.
        action: size of the action.
        task_input_size: size of what moves the state beside it, and is not forgotten at an
            episode's start: the task's features.
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
        # DreamerV3's block layer sees its own block and, in every block, all that enters. The
        # latter's weights make one dense layer, whose inputs need not be copied for every block.
        # The fan-in is that of the whole layer.
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
        """The state before anything was seen: zeros."""
        like = self.core_norm.scale
        return RSSMState(
            like.new_zeros(*batch, self.config.deter), like.new_zeros(*batch, self.config.stoch)
        )

    def prior(self, deter: Float[Tensor, "*batch deter"]) -> OneHot:
        """The stochastic state that is expected at `deter`."""
        return self._categorical(self.prior_net(deter))

    def posterior(
        self, deter: Float[Tensor, "*batch deter"], embedding: Float[Tensor, "*batch embedding"]
    ) -> OneHot:
        """The stochastic state at `deter` once the observation is known."""
        return self._categorical(self.posterior_net(torch.cat([deter, embedding], -1)))

    @compiled_part
    def forward(
        self,
        state: RSSMState,
        action: Float[Tensor, "batch action"],
        noise: Float[Tensor, "batch groups"] | None,
    ) -> RSSMState:
        """One imagined step.

        Args:
            noise: uniform in [0, 1) for the draw from the prior; None takes its mode.
        """
        deter = self.advance(state, self.from_action(bounded(action)))
        return RSSMState(deter, draw(self.prior(deter), noise).to(deter.dtype))

    def correct(
        self,
        state: RSSMState,
        action: Float[Tensor, "batch action"],
        embedding: Float[Tensor, "batch embedding"],
        noise: Float[Tensor, "batch groups"] | None,
    ) -> RSSMState:
        """One step in which the next observation is seen: what acting needs."""
        deter = self.advance(state, self.from_action(bounded(action)))
        return RSSMState(deter, draw(self.posterior(deter, embedding), noise).to(deter.dtype))

    def observe(
        self,
        initial: RSSMState,
        actions: Float[Tensor, "batch time action"],
        embeddings: Float[Tensor, "batch time embedding"],
        is_first: Bool[Tensor, "batch time"],
        noise: Float[Tensor, "batch time groups"],
    ) -> tuple[RSSMState, OneHot]:
        """States along sequences that were seen, and the posterior that they were drawn from.

        Args:
            initial: the state one step before the sequences begin.
            actions: at each time the action that led there.
            is_first: where an episode begins: the state and the action before count as zero.
        """
        going_on = (~is_first).to(initial.deter.dtype).unsqueeze(-1)
        # What is beside the action, such as the task, is known at an episode's start already, as it
        # is when acting.
        kept = going_on.expand_as(actions).clone()
        kept[..., actions.shape[-1] - self.task_input_size :] = 1
        moves = self.from_action(bounded(actions) * kept)
        state, deters, stochs, logits = initial, [], [], []
        for now in zip(
            *(rows.unbind(1) for rows in (going_on, moves, embeddings, noise)), strict=True
        ):
            state, posterior = self._see(state, *now)
            deters.append(state.deter)
            stochs.append(state.stoch)
            logits.append(posterior)
        return RSSMState(torch.stack(deters, 1), torch.stack(stochs, 1)), OneHot(
            torch.stack(logits, 1), self.config.unimix
        )

    def advance(
        self, state: RSSMState, move: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch deter"]:
        """The block GRU: the next deterministic state. `move` is the embedding of the action."""
        inputs = torch.cat([self.from_deter(state.deter), self.from_stoch(state.stoch), move], -1)
        core = F.silu(self.core_norm(self.core(state.deter) + self.core_inputs(inputs)))
        # Each block has its own three gates, so that a block's gates see their own block only.
        gates = self.gates(core).unflatten(-1, (self.config.blocks, 3, -1))
        reset, candidate, update = (gate.flatten(-2) for gate in gates.unbind(-2))
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(state.deter.to(candidate.dtype), candidate, torch.sigmoid(update - 1))

    # Private methods.

    @compiled_part
    def _see(
        self,
        state: RSSMState,
        going_on: Float[Tensor, "batch 1"],
        move: Float[Tensor, "batch hidden"],
        embedding: Float[Tensor, "batch embedding"],
        noise: Float[Tensor, "batch groups"],
    ) -> tuple[RSSMState, Float[Tensor, "batch groups classes"]]:
        """The next state along a sequence, and the logits that it was drawn by."""
        deter = self.advance(RSSMState(state.deter * going_on, state.stoch * going_on), move)
        posterior = self.posterior(deter, embedding)
        return RSSMState(deter, draw(posterior, noise).to(deter.dtype)), posterior.logits

    def _categorical(self, logits: Tensor) -> OneHot:
        return OneHot(
            logits.unflatten(-1, (self.config.groups, self.config.classes)), self.config.unimix
        )


def draw(
    distribution: OneHot, noise: Float[Tensor, "*batch groups"] | None
) -> Float[Tensor, "*batch stoch"]:
    """A flat one-hot draw, or the mode where there is no noise; gradients are straight-through."""
    chosen = distribution.mode() if noise is None else distribution.sample(noise)
    return chosen.flatten(-2)


def bounded(action: Float[Tensor, "*batch action"]) -> Float[Tensor, "*batch action"]:
    """Actions scaled down to at most 1 in size, each on its own: draws of a policy may lie
    beyond.
    """
    return action / action.detach().abs().clamp(min=1)
