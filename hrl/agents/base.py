"""Define the interfaces of agents that training, evaluation and videos use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hrl.config_field import CheckedConfig, ConfigValueError, config_field
from hrl.data.nonfinite import Fed, NonFiniteQuantity
from hrl.data.observation import Observation, PolicyState
from hrl.nets.encoder import EncoderConfig, ObservationEncoder, find_encoder
from hrl.nets.mlp import TaskEmbedding
from hrl.nets.state_encoder import PixelsAndStateEncoder, StateEncoder
from hrl.ranks import ONE_RANK, Ranks


@dataclass(frozen=True)
class AgentSpec:
    """Store the shapes of an agent's observations, the sizes of its networks, and its device.

    Attributes:
        image_size: side of an image in pixels.
        channels: channels of a stack of images.
        task_size: size of the task vector.
        action_size: size of the action.
        encoder: kind and sizes of the encoder; like the sizes below equal for all methods of a
            comparison.
        task_features: size of the embedding of the task.
        hidden: hidden layers of every perceptron.
        seed: seed of the run.
        device: where the agent computes.
        autocast: dtype of matrix products and convolutions.
        world_model: sizes of agents with a world model, a `hrl.world_model.model.WorldModelConfig`.
        discrete_actions: whether the largest number of an action chooses among discrete ones.
        observation: what is observed: "pixels", "state" or "both".
        state_size: numbers of a state that is observed; 0 where there is none.
        ranks: processes that train the agent together.
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
    world_model: Any
    discrete_actions: bool = False
    observation: str = "pixels"
    state_size: int = 0
    ranks: Ranks = ONE_RANK

    def build_encoder(self) -> ObservationEncoder:
        """Return a new encoder of what is observed, of these sizes."""
        if self.observation == "state":
            return StateEncoder(self.state_size, self.hidden, self.encoder.features)
        kind = find_encoder(self.encoder.kind)
        pixels = kind(self.image_size, self.channels, self.encoder, self.autocast)
        if self.observation == "pixels":
            return pixels
        state = StateEncoder(self.state_size, self.hidden, self.encoder.features)
        return PixelsAndStateEncoder(pixels, state)

    def build_task_embedding(self) -> TaskEmbedding:
        """Return a new embedding of the task vector."""
        return TaskEmbedding(self.task_size, self.task_features)


class RunShapes(NamedTuple):
    """Hold what an agent's memory, and whether it can be trained, depend on in a run.

    Attributes:
        num_envs: environments stepped side by side.
        image_bytes: size of one observation's stack of images and of its state.
        stored_image_bytes: size of what a rollout of an on-policy agent keeps of them.
        map_bytes: size of the maps that the encoder of such an agent makes of it.
        task_size: size of the task vector.
        action_size: size of the action.
        longest_episode: agent steps of the longest training episode.
        world_model: sizes of agents with a world model, a `hrl.world_model.model.WorldModelConfig`.
        on_gpu: whether the agent computes on a GPU.
    """

    num_envs: int
    image_bytes: int
    stored_image_bytes: int
    map_bytes: int
    task_size: int
    action_size: int
    longest_episode: int
    world_model: Any
    on_gpu: bool = False


class MemoryUse(NamedTuple):
    """Name a part of the memory that training takes.

    Attributes:
        name: what it is, with the keys that decide on its size.
        size: bytes.
        place: "learner", where the agent computes, or "host", the machine's own memory.
        in_checkpoint: whether every checkpoint holds a copy.
    """

    name: str
    size: int
    place: str = "learner"
    in_checkpoint: bool = False


@dataclass(frozen=True, kw_only=True)
class AgentConfig(CheckedConfig):
    """Hold an agent's hyperparameters; every agent's own class derives from this one.

    Attributes:
        takes_state: whether the agent can observe a body's state: it encodes what it observes by
            `AgentSpec.build_encoder`, `columns` and `encode_columns`.
        trains_on_several: whether several processes can train the agent: its learner is a
            `RankLearner`.
    """

    takes_state: ClassVar[bool] = False
    trains_on_several: ClassVar[bool] = False
    name: str = config_field("", "the agent's name; chosen by agent=NAME, not by this key")

    def memory_uses(self, shapes: RunShapes) -> list[MemoryUse]:
        """Return the memory of training beyond the weights and other tensors of their size."""
        del shapes
        return []

    def check_run(self, shapes: RunShapes) -> None:
        """Refuse values that do not fit the run.

        Raises:
            ConfigValueError: names the key without its path.
        """

    def of_rank(self, count: int) -> AgentConfig:
        """Return the hyperparameters of one of `count` processes that train the agent together.

        Raises:
            ConfigValueError: something cannot be divided among them; names the key without its
                path.
        """
        del count
        return self

    def check_parts(self, states: Mapping[str, str]) -> None:
        """Refuse to fine-tune parts with which nothing would be learned.

        Args:
            states: of each part, as `hrl.agents.parts` has them.

        Raises:
            ConfigValueError: names the key without its path.
        """
        del states

    @property
    def encoder_key(self) -> str:
        """Return the key of the configuration by which the agent encodes images."""
        return "network.encoder"

    @property
    def startup_notice(self) -> str:
        """Return what a user should know before training starts; empty for nothing."""
        return ""


@dataclass(frozen=True, kw_only=True)
class GraphedConfig(AgentConfig):
    """Hold the setting of agents whose update can be replayed as one CUDA graph."""

    cuda_graph: bool = config_field(False, "replay the update as one CUDA graph; needs a GPU")

    def check_run(self, shapes: RunShapes) -> None:
        """Refuse a graph where there is no GPU."""
        self.check_graph(shapes.on_gpu)

    def check_graph(self, on_gpu: bool) -> None:
        """Raise ConfigValueError for a graph where there is no GPU."""
        if self.cuda_graph and not on_gpu:
            raise ConfigValueError("cuda_graph", self.cuda_graph, "it needs a GPU (device=cuda)")

    def of_rank(self, count: int) -> AgentConfig:
        """Refuse a graph, which would have the exchange between processes within it."""
        if self.cuda_graph:
            rule = "several processes train by plain updates; choose false"
            raise ConfigValueError("cuda_graph", self.cuda_graph, rule)
        return super().of_rank(count)


@runtime_checkable
class Policy(Protocol):
    """Act in a batch of environments."""

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return the state in which every episode starts."""

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "env action"], PolicyState]:
        """Return actions in [-1, 1] and the state for the next step.

        Args:
            observation: of every environment.
            state: of every environment.
            generator: source of random numbers; None acts greedily at every level.
        """


@runtime_checkable
class HierarchicalPolicy(Policy, Protocol):
    """Act by a manager whose high-level actions a lower level carries out.

    Acting greedily, `act` is `decide`, then `act_low_level`; with a generator it may draw one
    posterior for both.
    """

    def decide(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> PolicyState:
        """Return the state with new high-level actions where `is_decision_step(state)`."""

    def is_decision_step(self, state: PolicyState) -> Bool[Tensor, " env"]:
        """Return where the manager decides at this step."""

    def act_low_level(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "env action"], PolicyState]:
        """Return actions under the high-level actions in `state`, and the next state."""

    def high_level_action(self, state: PolicyState) -> Float[Tensor, "env high_level_action"]:
        """Return the high-level actions in force."""

    def with_high_level_action(
        self, state: PolicyState, high_level_action: Float[Tensor, "env high_level_action"]
    ) -> PolicyState:
        """Return the state with other high-level actions in force."""


@runtime_checkable
class Counting(Protocol):
    """Count something while being trained, such as a manager's decisions."""

    def count(self, steps: Mapping[str, Tensor]) -> dict[str, int]:
        """Add the steps of a rollout [time, env, ...] and return the counters by metric name.

        The learner calls it once for every rollout. The counters belong to the policy's saved
        state.
        """


@runtime_checkable
class DecodableHighLevelAction(Protocol):
    """Show high-level actions as images."""

    def decode_high_level_action(
        self, state: PolicyState
    ) -> Float[Tensor, "env height width channel"]:
        """Return an image in [0, 1] of each high-level action in force."""


@runtime_checkable
class Predictor(Policy, Protocol):
    """Predict images by a model of the world."""

    def predict_images(
        self,
        state: PolicyState,
        actions: Float[Tensor, "time env action"],
        task: Float[Tensor, "env task"],
    ) -> Float[Tensor, "time env height width channel"]:
        """Return the images in [0, 1] that are expected after each of the actions.

        The prediction starts at a state and gets no further observation.
        """


@runtime_checkable
class GoalReacher(HierarchicalPolicy, Protocol):
    """Move towards any goal in imagination; goals are values of a state's `deter`."""

    def reach(
        self,
        state: PolicyState,
        steps: Sequence[int],
        task: Float[Tensor, "env task"],
        action_mask: Bool[Tensor, "env action"],
    ) -> Float[Tensor, "time env high_level_action"]:
        """Return `deter` after these numbers of greedy steps towards the goals in force.

        The goals stay the same.

        Args:
            state: of every environment, with its goal.
            steps: numbers of steps, at least one, ascending.
            task: of every environment.
            action_mask: of every environment's body.
        """

    def reach_images(
        self,
        state: PolicyState,
        steps: int,
        task: Float[Tensor, "env task"],
        action_mask: Bool[Tensor, "env action"],
    ) -> Float[Tensor, "time env height width channel"]:
        """Return images in [0, 1] of the states that `reach` passes, step by step."""


@runtime_checkable
class Learner(Protocol):
    """Train a policy: one `iterate` gathers experience and learns from it."""

    @property
    def policy(self) -> Policy:
        """Return the policy that is being trained."""

    @property
    def frames(self) -> int:
        """Return the control steps seen so far, over all environments."""

    def iterate(self) -> dict[str, float | int]:
        """Return the metrics of one iteration.

        They always hold `frames`, `steps` and `updates`, and the returns of episodes that ended.

        Raises:
            NonFiniteUpdate: where a loss or a gradient is not finite; parameters are as they were
                before that update.
            NonFiniteQuantity: where an action, a reward or a task vector is not finite.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return all that a continued run needs to continue to the last bit.

        The key "policy" has all that acting depends on, as a mapping: it is saved as a file of its
        own, which users share.
        """

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave."""

    def parameter_counts(self) -> dict[str, int]:
        """Return the numbers of trainable parameters by part, and their `total`."""


@runtime_checkable
class RankLearner(Learner, Protocol):
    """Train a policy in several processes, whose weights stay the same (`AgentSpec.ranks`).

    `iterate` and `frames` tell of all ranks together.
    """

    @property
    def own_keys(self) -> tuple[str, ...]:
        """Return the keys of `state_dict` whose values differ from rank to rank."""


@runtime_checkable
class ExperienceSampler(Protocol):
    """Show remembered experience in videos, without influence on training."""

    def sample_for_video(self, count: int) -> dict[str, Tensor]:
        """Return rows [row, ...] of remembered steps by column; empty while there are too few."""


@runtime_checkable
class SavedPolicy(Protocol):
    """Read a policy back without its learner, and so without environment, rollout or replay."""

    @property
    def policy(self) -> Policy:
        """Return the policy, which can act once `load` has been called."""

    def load(self, weights: Mapping[str, Any]) -> None:
        """Take the weights, which `Learner.state_dict` has under the key "policy".

        Raises:
            KeyError: they are of another kind of agent.
            RuntimeError: they are of an agent of other sizes.
        """


class NonFiniteUpdate(NonFiniteQuantity):
    """Report a loss or gradient that is not finite, with what is needed to run the update again.

    Args:
        name: of the loss or gradient.
        updates: number of updates before.
        batch: what the update learned from.
        metrics: of the update.
    """

    def __init__(self, name: str, updates: int, batch: Fed, metrics: Mapping[str, float]) -> None:
        super().__init__(f"{name} is not finite", batch, metrics, {"updates": updates})
