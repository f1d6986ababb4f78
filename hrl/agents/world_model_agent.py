"""Provide the parts that all agents with a world model share.

That is the posterior state of an observation, the action noise, where imagination begins, and the
rewards and continuations that the world model predicts for imagined states.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hrl.agents.base import AgentSpec
from hrl.agents.model_based import ModelBasedConfig
from hrl.agents.parts import Parts
from hrl.data.observation import Observation, PolicyState
from hrl.data.replay_buffer import Column
from hrl.nets.action_bounds import bounded_choice
from hrl.nets.bounded_normal import BoundedNormal
from hrl.nets.frozen import frozen
from hrl.nets.gaussian import repeat_noise
from hrl.nets.two_hot import TwoHot
from hrl.world_model.goal_autoencoder import GoalAutoencoder
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

    def chosen(self, rows: Int[Tensor, " row"]) -> ImaginationStart:
        """Return some of them, by number."""
        states = RSSMState(self.states.deter[rows], self.states.stoch[rows])
        return ImaginationStart(states, self.task[rows], self.action_mask[rows], self.alive[rows])


class WorldModelAgent(nn.Module, ABC):
    """Act and imagine in the states of a world model; each agent adds its own actors.

    The policy's state holds `deter` and `stoch`, the `action` that leads from there, `noise`, the
    action noise in use, and `steps_since_noise`, steps since it was drawn. Greedy acting takes the
    mode of the posterior.

    Args:
        config: hyperparameters.
        spec: shapes and sizes.
    """

    def __init__(self, config: ModelBasedConfig, spec: AgentSpec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.world_model = WorldModel(
            spec.world_model,
            spec.image_size,
            spec.channels,
            spec.action_size,
            spec.task_size,
            spec.task_features,
            config.conditioning.of_world_model(),
            spec.discrete_actions,
        )

    def task_input_size(self, module: str) -> int:
        """Return the size of this module's task input: 0 where it gets no task."""
        return self.spec.task_size * self.config.conditioning.is_task_conditioned(module)

    def model_parts(self, goals: GoalAutoencoder | None) -> Parts:
        """Return the parts that all agents with a world model have.

        Args:
            goals: the goal autoencoder, which learns what the world model's states look like; None
                for an agent without one.
        """
        autoencoder: dict[str, nn.Module] = {} if goals is None else {"goal_autoencoder": goals}
        return {
            "world_model": {"world_model": self.world_model.representation(), **autoencoder},
            "rewards": {"rewards": self.world_model.prediction_heads()},
        }

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return a state without observation or action."""
        state = self.world_model.rssm.initial(num_envs)
        device = state.deter.device
        zero_action = torch.zeros(num_envs, self.spec.action_size, device=device)
        return {
            **state._asdict(),
            "action": zero_action,
            "noise": zero_action,
            "steps_since_noise": torch.zeros(num_envs, dtype=torch.int64, device=device),
        }

    def latent_columns(self) -> dict[str, Column]:
        """Return the replay columns of `deter` and `stoch`, as `WorldModel.latents` gives them."""
        sizes = self.spec.world_model
        return {
            "deter": Column((sizes.deter,), torch.bfloat16),
            "stoch": Column((sizes.groups,), torch.uint8),
        }

    def observe(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> RSSMState:
        """Return the posterior state at an observation."""
        with self.autocast():
            model = self.world_model
            before = RSSMState(state["deter"], state["stoch"])
            dynamics_input = model.dynamics_input(state["action"], observation.task)
            embedding = model.embed(observation.pixels, observation.task)
            shape = (len(dynamics_input), self.spec.world_model.groups)
            noise = uniform(shape, dynamics_input.device, generator)
            return model.rssm.correct(before, dynamics_input, embedding, noise)

    def draw_action(
        self, policy: BoundedNormal, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "env action"], PolicyState]:
        """Return an action in [-1, 1] under the noise in use, and the state with both.

        Without a generator the action is the mean.
        """
        if generator is None:
            return policy.mean, {**state, "action": policy.mean}
        noise, steps_since_noise = repeat_noise(
            state["noise"], state["steps_since_noise"], self.config.noise_repeat, generator
        )
        draw = policy.sample(noise)
        action = bounded_choice(draw) if self.spec.discrete_actions else draw.clamp(-1, 1)
        drawn = {"action": action, "noise": noise, "steps_since_noise": steps_since_noise}
        return action, {**state, **drawn}

    @abstractmethod
    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return actions in [-1, 1] and the state for the next step."""

    def explore(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState, dict[str, Tensor]]:
        """Return actions, the state for the next step, and the latents to keep in the replay."""
        action, state = self.act(observation, state, generator)
        return action, state, self.world_model.latents(RSSMState(state["deter"], state["stoch"]))

    def burn_in(
        self, batch: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Tensor], dict[str, Tensor]]:
        """Return sequences that begin at states of the current model, and latents of the burn-in.

        A stored state was computed by the policy, or by the last update that replayed its step,
        with the weights of that time. Here the current model sees the steps before the sequence,
        without learning from them, as in R2D2 (Kapturowski et al. 2019, "Recurrent Experience
        Replay in Distributed Reinforcement Learning").

        Call it outside of autocast: torch keeps the weights that it has cast, and not every version
        casts those again that were first used without gradient.

        Args:
            batch: columns [batch, 1 + burn_in + time, ...].

        Returns:
            Columns [batch, 1 + time, ...], and new latents [batch, burn_in, ...] by column; none
            where there is no burn-in.
        """
        steps = self.config.burn_in
        if not steps:
            return batch, {}
        noise = self.noise(self.config.batch_size, steps, self.spec.world_model.groups)
        with torch.no_grad(), self.autocast():
            head = {name: rows[:, : 1 + steps] for name, rows in batch.items()}
            states, _ = self.world_model.replay(head, noise)
        latents = self.world_model.latents(states)
        sequences = {name: rows[:, steps:] for name, rows in batch.items()}
        for name, rows in latents.items():
            sequences[name] = torch.cat([rows[:, -1:], sequences[name][:, 1:]], 1)
        return sequences, latents

    def latents(
        self, burn_in: Mapping[str, Tensor], states: RSSMState
    ) -> dict[str, Float[Tensor, "batch steps ..."]]:
        """Return what the replay keeps: the latents of the burn-in, then those of `states`."""
        learned = self.world_model.latents(states)
        if not burn_in:
            return learned
        return {name: torch.cat([burn_in[name], rows], 1) for name, rows in learned.items()}

    def starts(self, batch: Mapping[str, Tensor], states: RSSMState) -> ImaginationStart:
        """Return where imagination begins: the last `imag_last` states of every sequence."""
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
        """Return rewards on arriving at states 1 to T, and continuations at states 0 to T.

        Args:
            imagined: states 0 to T of a trajectory.
            starts: where it begins.
            differentiable: whether gradient passes from the rewards to the states; never to the
                model.
        """
        features = imagined.features()[1:]
        task = starts.task.unsqueeze(0)
        with torch.no_grad():
            predicted = self.world_model.predict_continue(features, task)
            continues = torch.cat([starts.alive.unsqueeze(0), predicted])
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
        """Return the images that are expected after each action, with the likeliest latents."""
        model = self.world_model
        now = RSSMState(state["deter"], state["stoch"])
        images = []
        with self.autocast():
            for action in actions:
                now = model.rssm(now, model.dynamics_input(action, task), None)
                images.append(model.decode_image(now).float())
        return torch.stack(images)

    def autocast(self) -> torch.autocast:
        """Return the context in which matrix products and convolutions have their dtype."""
        dtype = self.spec.autocast
        return torch.autocast(self.spec.device.type, dtype=dtype, enabled=dtype != torch.float32)

    def noise(self, *shape: int, normal: bool = False) -> Tensor:
        """Return an update's random numbers, from torch's default generator.

        The learner seeds that generator before every update.
        """
        device = self.spec.device
        return torch.randn(shape, device=device) if normal else torch.rand(shape, device=device)


def uniform(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
) -> Tensor | None:
    """Return uniform numbers, or None where there is no generator."""
    return None if generator is None else torch.rand(shape, device=device, generator=generator)


def model_loss(output: WorldModelOutput) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the sum over losses of their means over the batch, and metrics."""
    means = {name: loss.mean() for name, loss in output.losses.items()}
    metrics = {f"world_model/{name}": value.detach() for name, value in means.items()}
    metrics |= {
        f"world_model/{name}": value.detach().mean() for name, value in output.metrics.items()
    }
    return torch.stack(list(means.values())).sum(), metrics
