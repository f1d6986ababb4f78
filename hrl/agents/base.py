"""What the training loop, the evaluator and the video writer know of an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hrl.data.observation import Observation, PolicyState
from hrl.nets import ActionMask, Encoder, EncoderConfig, TaskEmbedding
from hrl.world_model.model import WorldModelConfig


@dataclass(frozen=True)
class AgentSpec:
    """What an agent is built for: shapes of its world, sizes of its networks, where it runs.

    encoder, task_features, hidden: sizes of the encoder, of the task's embedding and of every
        perceptron's hidden layers; equal for all methods of a comparison.
    world_model: sizes of agents with a world model; equal for all of them.
    padding: task vectors and masks of actions, where bodies use different numbers of them
        (`Suite.padding`).
    """

    image_size: int
    channels: int
    task_size: int
    action_size: int
    encoder: EncoderConfig
    task_features: int
    hidden: tuple[int, ...]
    seed: int
    device: torch.device
    autocast: torch.dtype
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    padding: tuple[Tensor, Tensor] | None = None

    def build_encoder(self) -> Encoder:
        """A new encoder of these sizes."""
        return Encoder(self.image_size, self.channels, self.encoder, self.autocast)

    def build_action_mask(self) -> ActionMask | None:
        """Which numbers of an action are padding to a task's body; None where every body uses
        all.
        """
        return None if self.padding is None else ActionMask(*self.padding)

    def build_task_embedding(self) -> TaskEmbedding:
        """A new embedding of the task vector."""
        return TaskEmbedding(self.task_size, self.task_features)


@runtime_checkable
class Policy(Protocol):
    """Acts in a batch of environments."""

    def initial_state(self, num_envs: int) -> PolicyState:
        """The state in which every episode starts."""

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "env action"], PolicyState]:
        """Actions in [-1, 1] and the state to carry on; greedy at every level where `generator` is
        None.
        """


@runtime_checkable
class HierarchicalPolicy(Policy, Protocol):
    """A policy whose manager gives commands that lower levels carry out: `act` is `decide`, then
    `act_low_level`.
    """

    def decide(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> PolicyState:
        """The state with new commands where one is due (where `is_decision_step(state)`), else
        unchanged.
        """

    def is_decision_step(self, state: PolicyState) -> Bool[Tensor, " env"]:
        """Where the manager decides at this step."""

    def act_low_level(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "env action"], PolicyState]:
        """Actions under the commands in `state`, and the state to carry on."""

    def high_level_action(self, state: PolicyState) -> Float[Tensor, "env command"]:
        """The commands in force."""

    def with_high_level_action(
        self, state: PolicyState, high_level_action: Float[Tensor, "env command"]
    ) -> PolicyState:
        """The state with other commands in force."""


@runtime_checkable
class Counting(Protocol):
    """A policy that counts something of its own while it is trained, such as a manager's
    decisions.
    """

    def count(self, steps: Mapping[str, Tensor]) -> dict[str, int]:
        """Adds what the steps of a rollout [time, env, ...] hold; the counters so far, by metric
        name.

        The learner calls it once for every rollout. The counters belong to the policy's saved
        state.
        """


@runtime_checkable
class DecodableHighLevelAction(Protocol):
    """A hierarchical policy whose commands can be looked at."""

    def decode_high_level_action(
        self, state: PolicyState
    ) -> Float[Tensor, "env height width channel"]:
        """An image in [0, 1] of each command in force."""


@runtime_checkable
class Predictor(Policy, Protocol):
    """A policy with a model of the world that can be looked at."""

    def predict_images(
        self,
        state: PolicyState,
        actions: Float[Tensor, "time env action"],
        task: Float[Tensor, "env task"],
    ) -> Float[Tensor, "time env height width channel"]:
        """Images in [0, 1] that are expected after each of the actions, from a state and without
        seeing any.
        """


@runtime_checkable
class GoalReacher(HierarchicalPolicy, Protocol):
    """A hierarchical policy whose lower level can be sent to any goal, in imagination; goals are
    states' `deter`.
    """

    def reach(
        self, state: PolicyState, steps: Sequence[int], task: Float[Tensor, "env task"]
    ) -> Float[Tensor, "time env command"]:
        """What so many greedy steps (at least one, ascending) towards the commands in force, which
        stay, lead to.
        """

    def reach_images(
        self, state: PolicyState, steps: int, task: Float[Tensor, "env task"]
    ) -> Float[Tensor, "time env height width channel"]:
        """Images in [0, 1] of the way that `reach` goes, step by step."""


@runtime_checkable
class Learner(Protocol):
    """Trains a policy: one `iterate` gathers experience and learns from it."""

    @property
    def policy(self) -> Policy:
        """What is being trained."""

    @property
    def frames(self) -> int:
        """Control steps seen so far, over all environments."""

    def iterate(self) -> dict[str, float | int]:
        """Metrics of one iteration: always `frames`, `steps` and `updates`; returns of the episodes
        that ended in it.

        Raises:
            NonFiniteUpdate: where a loss or a gradient is not finite; parameters are as they were
                before that update.
        """

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs to go on to the last bit."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave."""

    def parameter_counts(self) -> dict[str, int]:
        """Trainable parameters by part, and their `total`."""


@runtime_checkable
class SavedPolicy(Protocol):
    """What acting needs of a saved run: its policy without the learner, so without environment,
    rollout or replay.
    """

    @property
    def policy(self) -> Policy:
        """What acts, once `load` has been called."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of `Learner.state_dict` that acting depends on; only these are read from a
        checkpoint.
        """

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes a state that has at least the keys of `needs`.

        Raises:
            KeyError, RuntimeError: it is the state of another kind of agent, or of other sizes.
        """


class NonFiniteUpdate(ArithmeticError):  # noqa: N818  an update is what it names
    """A loss or gradient that is not finite, with what is needed to run it again."""

    def __init__(
        self, name: str, updates: int, batch: Mapping[str, Tensor], metrics: Mapping[str, float]
    ) -> None:
        super().__init__(f"{name} is not finite after {updates} updates")
        self.name, self.updates, self.batch, self.metrics = (
            name,
            updates,
            dict(batch),
            dict(metrics),
        )
