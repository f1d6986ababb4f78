"""Learn a world model: encode images, and predict images, rewards and continuation.

The flat and the hierarchical agent share it. It is DreamerV3's (Hafner et al. 2023, arXiv
2301.04104), with one difference: the continuation head predicts only whether the episode continues.
The discount is applied where returns are computed, so that it is never applied twice and each level
of a hierarchy can have its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from hrl.config_field import MAX_SIZE, CheckedConfig, ConfigValueError, config_field
from hrl.nets.action_bounds import bounded_choice
from hrl.nets.frozen import frozen
from hrl.nets.image import ImageDecoder, ImageEncoder
from hrl.nets.mlp import TaskEmbedding
from hrl.nets.one_hot import OneHot, kl
from hrl.nets.task_dense import TaskDense
from hrl.nets.two_hot import BINS, TwoHot
from hrl.optim.compile import compiled_part
from hrl.world_model.rssm import RSSM, RSSMConfig, RSSMState


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig(RSSMConfig):
    """Hold the sizes of the world model and of the actors and critics beside it."""

    units: int = config_field(
        128,
        "units of every hidden layer of heads, actors and critics",
        at_least=1,
        at_most=MAX_SIZE,
    )
    depth: int = config_field(
        8,
        "channels of the image's encoder and decoder, which have 2, 3, 4 and 4 times as many",
        at_least=1,
        at_most=MAX_SIZE,
    )
    kernel: int = config_field(
        3, "side of their convolutions in pixels, odd", at_least=1, at_most=31
    )
    strided: bool = config_field(
        True,
        "convolutions that shrink the image themselves, several times as fast on a CPU, in place "
        "of DreamerV3's convolutions at full resolution followed by pooling",
    )

    def check_together(self) -> None:
        """Refuse an even kernel, and a depth that the blocks do not divide."""
        super().check_together()
        if self.kernel % 2 == 0:
            raise ConfigValueError("kernel", self.kernel, "it must be odd")
        if 4 * self.depth % self.blocks:
            rule = f"blocks, which is {self.blocks}, must divide 4 times it"
            raise ConfigValueError("depth", self.depth, rule)


@dataclass(frozen=True, kw_only=True)
class TaskConditioning:
    """Say which parts of the world model get the task vector as an input.

    Attributes:
        encoder: the embedding of an observation.
        dynamics: the transition of the deterministic state.
        heads: the predictions of reward and continuation.
    """

    encoder: bool = False
    dynamics: bool = False
    heads: bool = False


@dataclass(frozen=True, kw_only=True)
class WorldModelLossConfig(CheckedConfig):
    """Weigh the world model's losses (DreamerV3)."""

    free_nats: float = config_field(
        1.0, "nats of each divergence below which it is not reduced further", at_least=0
    )
    dynamics: float = config_field(
        1.0, "weight of the divergence that trains the prior", at_least=0
    )
    representation: float = config_field(
        0.1, "weight of the divergence that trains the posterior", at_least=0
    )


class WorldModelOutput(NamedTuple):
    """Hold the world model's outputs for a batch.

    Attributes:
        losses: [batch, time] by name.
        states: posterior states [batch, time, ...], without gradient.
        differentiable_states: the same with gradient to the world model.
        metrics: [batch, time] by name.
    """

    losses: dict[str, Tensor]
    states: RSSMState
    differentiable_states: RSSMState
    metrics: dict[str, Tensor]


class WorldModel(nn.Module):
    """Combine encoder, recurrent state-space model, decoder, reward head and continuation head.

    Args:
        config: sizes.
        image_size: side of the square image in pixels.
        channels: of an image, 3 times the frame stack.
        action_size: size of the action vector.
        task_size: size of the task vector.
        task_features: size of the task's embeddings.
        conditioning: the parts that get the task vector as an input.
        discrete_actions: whether the largest number of an action chooses among discrete ones.
    """

    def __init__(
        self,
        config: WorldModelConfig,
        image_size: int,
        channels: int,
        action_size: int,
        task_size: int,
        task_features: int,
        conditioning: TaskConditioning,
        discrete_actions: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.discrete_actions = discrete_actions
        self.encoder = ImageEncoder(
            image_size, channels, config.depth, config.kernel, strided=config.strided
        )
        self.encoder_task = (
            TaskEmbedding(task_size, task_features) if conditioning.encoder else None
        )
        self.dynamics_task = (
            TaskEmbedding(task_size, task_features) if conditioning.dynamics else None
        )
        embedding = self.encoder.outputs + task_features * conditioning.encoder
        self.rssm = RSSM(config, embedding, action_size, task_features * conditioning.dynamics)
        self.decoder = ImageDecoder(
            image_size,
            channels,
            config.deter,
            config.stoch,
            config.units,
            config.depth,
            config.blocks,
            config.kernel,
            strided=config.strided,
        )
        task_input_size = task_size * conditioning.heads
        self.reward_net = TaskDense(
            config.features, task_input_size, task_features, [config.units], BINS, output_scale=0.0
        )
        self.continue_net = TaskDense(
            config.features, task_input_size, task_features, [config.units], 1
        )

    def prediction_heads(self) -> nn.ModuleList:
        """Return the modules that predict what the task decides: rewards and continuation."""
        return nn.ModuleList([self.reward_net, self.continue_net])

    def representation(self) -> nn.ModuleList:
        """Return all modules but `prediction_heads`."""
        heads = list(self.prediction_heads())
        return nn.ModuleList([module for module in self.children() if module not in heads])

    @compiled_part
    def embed(
        self,
        pixels: UInt8[Tensor, "*batch height width channel"],
        task: Float[Tensor, "*#batch task"],
    ) -> Float[Tensor, "*batch embedding"]:
        """Return the embedding of an observation, which is the posterior's input.

        It is the encoded image, concatenated with the task embedding if the encoder is
        task-conditioned.
        """
        image: Tensor = self.encoder(pixels)
        if self.encoder_task is None:
            return image
        return torch.cat([image, self.encoder_task(task)], -1)

    def dynamics_input(
        self,
        action: Float[Tensor, "*batch action"],
        task: Float[Tensor, "*#batch task"],
        constant: bool = False,
    ) -> Float[Tensor, "*batch move"]:
        """Return the dynamics input of an action.

        It is the action, concatenated with the task embedding if the dynamics are task-conditioned.
        `constant` keeps gradients from the embedding's parameters.
        """
        if self.discrete_actions:
            action = bounded_choice(action)
        if self.dynamics_task is None:
            return action
        embed = frozen(self.dynamics_task) if constant else self.dynamics_task
        return torch.cat([action, embed(task)], -1)

    def predict_reward(
        self, features: Float[Tensor, "*batch features"], task: Float[Tensor, "*#batch task"]
    ) -> TwoHot:
        """Return the distribution of the reward on arriving at a state of these features."""
        return TwoHot(self.reward_net(features, task))

    def predict_continue(
        self, features: Float[Tensor, "*batch features"], task: Float[Tensor, "*#batch task"]
    ) -> Float[Tensor, "*batch"]:
        """Return the probability that the episode continues at a state of these features."""
        return torch.sigmoid(self._continue_logit(features, task))

    def decode_image(self, state: RSSMState) -> Float[Tensor, "*batch height width channel"]:
        """Return the predicted image in [0, 1] at `state`."""
        pixels: Tensor = self.decoder(state.deter, state.stoch)
        return pixels

    def goal_state(self, deter: Float[Tensor, "*batch deter"]) -> RSSMState:
        """Return the state of a goal, which consists of `deter` only.

        `stoch` is the most likely one under the prior.
        """
        return RSSMState(deter, self.rssm.prior(deter).mode().flatten(-2))

    def observe(
        self,
        batch: Mapping[str, Tensor],
        noise: Float[Tensor, "batch time groups"],
        weights: WorldModelLossConfig,
    ) -> WorldModelOutput:
        """Return posterior states and losses of replayed sequences.

        Args:
            batch: columns [batch, 1 + time, ...]. The first row is context: the sequence begins at
                its latents `deter` and `stoch`.
            noise: uniform in [0, 1), for the posterior's draws.
            weights: of the losses.
        """
        states, posterior = self.replay(batch, noise)
        following = {name: rows[:, 1:] for name, rows in batch.items()}
        losses, metrics = self._losses(
            states,
            posterior,
            following["pixels"],
            following["task"],
            following["reward"],
            following["is_terminal"],
            weights,
        )
        return WorldModelOutput(losses, states.detach(), states, metrics)

    def replay(
        self, batch: Mapping[str, Tensor], noise: Float[Tensor, "batch time groups"]
    ) -> tuple[RSSMState, OneHot]:
        """Return states along replayed sequences, and the posterior that they were drawn from.

        Args:
            batch: as in `observe`.
            noise: uniform in [0, 1), for the posterior's draws.
        """
        task = batch["task"][:, 1:]
        embeddings = self.embed(batch["pixels"][:, 1:], task)
        context = RSSMState(batch["deter"][:, 0], self._one_hot(batch["stoch"][:, 0]))
        initial = RSSMState(*(part.to(embeddings.dtype) for part in context))
        inputs = self.dynamics_input(batch["action"][:, :-1], task)
        return self.rssm.observe(initial, inputs, embeddings, batch["is_first"][:, 1:], noise)

    def imagine(
        self,
        start: RSSMState,
        task: Float[Tensor, "batch task"],
        act: Callable[[int, RSSMState], Float[Tensor, "batch action"]],
        noise: Float[Tensor, "time batch groups"],
        differentiable: bool,
        detach_every: int | None = None,
    ) -> tuple[RSSMState, Float[Tensor, "time batch action"]]:
        """Imagine a trajectory of as many steps as there is noise.

        Args:
            start: the first state of the trajectory.
            task: the task vector, which stays the same.
            act: returns the action at a time and a state.
            noise: uniform in [0, 1), for the prior's draws.
            differentiable: whether actions get gradients through the steps. The parameters of this
                model never do.
            detach_every: a multiple of so many steps is a state through which later steps give
                actions before it no gradient; None for no such state.

        Returns:
            States 0 to T, actions 0 to T - 1.
        """
        states = [start.detach()]
        actions = []
        with torch.set_grad_enabled(differentiable):
            step = frozen(self.rssm) if differentiable else self.rssm
            for time in range(len(noise)):
                is_cut = detach_every is not None and time % detach_every == 0
                state = states[-1].detach() if is_cut else states[-1]
                action = act(time, state)
                inputs = self.dynamics_input(action, task, differentiable)
                actions.append(action)
                states.append(RSSMState(*step(state, inputs, noise[time])))
        deter, stoch = (torch.stack(parts) for parts in zip(*states, strict=True))
        return RSSMState(deter, stoch), torch.stack(actions)

    def latents(self, states: RSSMState) -> dict[str, Tensor]:
        """Return states as the replay buffer stores them: bfloat16 and class indices."""
        index = states.stoch.unflatten(-1, (self.config.groups, self.config.classes)).argmax(-1)
        return {"deter": states.deter.to(torch.bfloat16), "stoch": index.to(torch.uint8)}

    # Private methods.

    def _one_hot(self, index: Tensor) -> Tensor:
        classes = torch.arange(self.config.classes, device=index.device)
        return (index.unsqueeze(-1) == classes).float().flatten(-2)

    def _continue_logit(self, features: Tensor, task: Tensor) -> Tensor:
        logit: Tensor = self.continue_net(features, task)
        return logit.squeeze(-1).float()

    @compiled_part
    def _losses(
        self,
        states: RSSMState,
        posterior: OneHot,
        pixels: UInt8[Tensor, "batch time height width channel"],
        task: Float[Tensor, "batch time task"],
        reward: Float[Tensor, "batch time"],
        terminal: Bool[Tensor, "batch time"],
        weights: WorldModelLossConfig,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return all losses of states [batch, time], and metrics."""
        losses, metrics = self._divergences(posterior, self.rssm.prior(states.deter), weights)
        losses["image"] = self.decoder.loss(states.deter, states.stoch, pixels)
        features = states.features()
        losses["reward"] = self.predict_reward(features, task).loss(reward)
        logit = self._continue_logit(features, task)
        losses["continue"] = F.binary_cross_entropy_with_logits(
            logit, (~terminal).float(), reduction="none"
        )
        return losses, metrics

    def _divergences(
        self, posterior: OneHot, prior: OneHot, weights: WorldModelLossConfig
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the two balanced divergences with free bits, and metrics.

        Divergences are summed over groups before the free bits are applied (arXiv 2301.04104,
        equation 5).
        """
        dynamics = kl(posterior.detach(), prior)
        representation = kl(posterior, prior.detach())
        free = weights.free_nats
        losses = {
            "dynamics": weights.dynamics * dynamics.clamp(min=free),
            "representation": weights.representation * representation.clamp(min=free),
        }
        entropies = {
            "posterior_entropy": posterior.entropy().sum(-1),
            "prior_entropy": prior.entropy().sum(-1),
        }
        return losses, {"divergence": dynamics, **entropies}
