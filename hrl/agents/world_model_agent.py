"""What the methods with a world model share: seeing and remembering, where imagination begins, what
it looks out on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hrl.agents.action_noise import repeat_noise
from hrl.agents.base import AgentSpec
from hrl.agents.model_based import ModelBasedConfig
from hrl.data.observation import Observation, PolicyState
from hrl.data.replay_buffer import Column
from hrl.nets.bounded_normal import BoundedNormal
from hrl.nets.frozen import frozen
from hrl.nets.two_hot import TwoHot
from hrl.world_model.model import WorldModel, WorldModelOutput
from hrl.world_model.rssm import RSSMState


class ImaginationStart(NamedTuple):
    """Hold where imagination begins: states, their task and body, and 1 where the episode goes on.

    Attributes:
        states: of the replayed steps.
        task: task vectors.
        action_mask: False for numbers of an action that are padding.
        alive: 0 where an episode terminated.
    """

    states: RSSMState
    task: Float[Tensor, "batch task"]
    action_mask: Bool[Tensor, "batch action"]
    alive: Float[Tensor, " batch"]


class WorldModelAgent(nn.Module, ABC):
    """What agents with a world model have in common: seeing and remembering.

    The policy's state: `deter` and `stoch`, and the `action` that leads from there; `noise` of
    actions in force, and `steps_since_noise`, steps since it was drawn. Greedy acting takes the
    mode of the posterior.
    """

    def __init__(self, config: ModelBasedConfig, spec: AgentSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.world_model = WorldModel(
            spec.world_model,
            spec.image_size,
            spec.channels,
            spec.action_size,
            spec.task_size,
            spec.task_features,
            config.conditioning.of_world_model(),
        )

    def task_input_size(self, module: str) -> int:
        """Size of the task vector for this module: 0 where it is not told the task."""
        return self.spec.task_size * self.config.conditioning.is_task_conditioned(module)

    def initial_state(self, num_envs: int) -> PolicyState:
        """Nothing seen, no action taken."""
        state = self.world_model.rssm.initial(num_envs)
        still = torch.zeros(num_envs, self.spec.action_size, device=state.deter.device)
        steps_since_decision = torch.zeros(num_envs, dtype=torch.int64, device=state.deter.device)
        return {
            **state._asdict(),
            "action": still,
            "noise": still,
            "steps_since_noise": steps_since_decision,
        }

    def latent_columns(self) -> dict[str, Column]:
        """`deter` and `stoch` as `WorldModel.latents` gives them."""
        sizes = self.spec.world_model
        return {
            "deter": Column((sizes.deter,), torch.bfloat16),
            "stoch": Column((sizes.groups,), torch.uint8),
        }

    def see(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> RSSMState:
        """The posterior state at an observation."""
        with self.autocast():
            model, before = self.world_model, RSSMState(state["deter"], state["stoch"])
            moves = model.dynamics_input(state["action"], observation.task)
            embedding = model.embed(observation.pixels, observation.task)
            shape = (len(moves), self.spec.world_model.groups)
            return model.rssm.correct(
                before, moves, embedding, uniform(shape, moves.device, generator)
            )

    def draw_action(
        self, policy: BoundedNormal, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "env action"], PolicyState]:
        """An action in [-1, 1] under the noise in force, the mean where there is no generator; it
        joins the state.
        """
        if generator is None:
            return policy.mean, {**state, "action": policy.mean}
        noise, steps_since_decision = repeat_noise(
            state["noise"], state["steps_since_noise"], self.config.noise_repeat, generator
        )
        action = policy.sample(noise).clamp(-1, 1)
        return action, {
            **state,
            "action": action,
            "noise": noise,
            "steps_since_noise": steps_since_decision,
        }

    @abstractmethod
    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Actions in [-1, 1] and the state to carry on: what every method does in its own way."""

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        """Actions, and the latents to be kept in the replay."""
        action, state = self.act(observation, state, generator)
        return action, state, self.world_model.latents(RSSMState(state["deter"], state["stoch"]))

    def starts(self, batch: Mapping[str, Tensor], states: RSSMState) -> ImaginationStart:
        """Where imagination begins: the last `imag_last` states of every sequence of a batch."""
        last = slice(-self.config.imag_last, None)  # -0 is the first: all of them
        alive = (~batch["is_terminal"][:, 1:][:, last]).flatten().float()
        task, action_mask = (
            batch[name][:, 1:][:, last].flatten(0, 1) for name in ("task", "action_mask")
        )
        start = RSSMState(states.deter[:, last], states.stoch[:, last]).flatten()
        return ImaginationStart(start, task, action_mask, alive)

    def predict_rewards_and_continues(
        self, imagined: RSSMState, starts: ImaginationStart, differentiable: bool
    ) -> tuple[Float[Tensor, "time batch"], Float[Tensor, "states batch"]]:
        """Rewards on arriving at states 1 to T of a trajectory, and continuations at states 0 to T.

        Args:
            differentiable: whether gradient passes from the rewards to the states; never to the
                model.
        """
        features, task = imagined.features()[1:], starts.task.unsqueeze(0)
        with torch.no_grad():
            continues = torch.cat(
                [starts.alive.unsqueeze(0), self.world_model.predict_continue(features, task)]
            )
        with torch.set_grad_enabled(differentiable):
            rewards = TwoHot(frozen(self.world_model.reward_net)(features, task)).mean()
        return rewards, continues

    @torch.no_grad()
    def predict_images(
        self,
        state: PolicyState,
        actions: Float[Tensor, "time env action"],
        task: Float[Tensor, "env task"],
    ) -> Float[Tensor, "time env height width channel"]:
        """What the model expects to see after each of the actions, its likeliest latents
        throughout.
        """
        model, now, images = self.world_model, RSSMState(state["deter"], state["stoch"]), []
        with self.autocast():
            for action in actions:
                now = model.rssm(now, model.dynamics_input(action, task), None)
                images.append(model.decode_image(now).float())
        return torch.stack(images)

    def autocast(self) -> torch.autocast:
        """The precision of matrix products and convolutions."""
        dtype = self.spec.autocast
        return torch.autocast(self.spec.device.type, dtype=dtype, enabled=dtype != torch.float32)

    def noise(self, *shape: int, normal: bool = False) -> Tensor:
        """Random numbers of an update, from torch's default generator, which the learner seeds."""
        device = self.spec.device
        return torch.randn(shape, device=device) if normal else torch.rand(shape, device=device)


def uniform(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
) -> Tensor | None:
    """Uniform numbers, or none where there is no generator."""
    return None if generator is None else torch.rand(shape, device=device, generator=generator)


def model_loss(observed: WorldModelOutput) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum over losses of their means over the batch, and metrics."""
    means = {name: loss.mean() for name, loss in observed.losses.items()}
    metrics = {f"world_model/{name}": value.detach() for name, value in means.items()}
    metrics |= {
        f"world_model/{name}": value.detach().mean() for name, value in observed.metrics.items()
    }
    return torch.stack(list(means.values())).sum(), metrics
