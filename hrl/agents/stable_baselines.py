"""Train independent flat baselines: stable-baselines3's PPO and SAC on the same environments.

The algorithms are the library's own, driven one `collect_rollouts` and one `train` at a time, so
that runs are logged, evaluated and continued like every other agent's. They have the same encoder
and task embedding as our own agents without a world model, and ignore the action mask.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from stable_baselines3.ppo import MultiInputPolicy as PPOPolicy
from stable_baselines3.sac import MultiInputPolicy as SACPolicy
from torch import Tensor, nn
from torch.distributions import Distribution

from envs import CHOICE_LIMIT, PixelVectorEnv
from envs.adapters.stable_baselines3 import Sb3VecEnv
from hrl.agents.base import AgentConfig, AgentSpec, MemoryUse, NonFiniteUpdate, RunShapes
from hrl.agents.on_policy import OnPolicyConfig
from hrl.agents.parts import trainable_parameters
from hrl.agents.registry import AgentEntry, SavedModule, register_entry
from hrl.config_field import config_field
from hrl.data.nonfinite import NonFiniteQuantity, check_rows, observed_numbers
from hrl.data.observation import Observation, PolicyState
from hrl.data.rollout_collector import with_task_means
from hrl.nets.action_bounds import bounded_choice
from hrl.optim.optimizer_state import load_optimizer_state, optimizer_state
from hrl.seeding import stream_seed


@dataclass(frozen=True, kw_only=True)
class SB3PPOConfig(OnPolicyConfig):
    """Hold the hyperparameters of our flat agent under the same names.

    The library has a Gaussian whose draws are clipped.
    """

    takes_state: ClassVar[bool] = True
    name: str = "sb3_ppo"
    reward_scale: float = config_field(
        0.01,
        "factor of the rewards that are learned from; the default is 1 - discount. Without it the "
        "library's loss of values near 100 would drown its policy's in the layers that they share. "
        "Our agents scale returns by running statistics instead",
        above=0,
    )
    value_coefficient: float = config_field(0.5, "weight of the value loss", at_least=0)

    def memory_uses(self, shapes: RunShapes) -> list[MemoryUse]:
        """Return the same as for our agents; the library keeps images in float32 always."""
        return super().memory_uses(shapes._replace(stored_image_bytes=4 * shapes.image_bytes))

    @property
    def rollout_place(self) -> str:
        """Return where the library keeps its rollouts: in the machine's memory always."""
        return "host"


@dataclass(frozen=True, kw_only=True)
class SB3SACConfig(AgentConfig):
    """Hold the hyperparameters of soft actor-critic."""

    takes_state: ClassVar[bool] = True
    name: str = "sb3_sac"
    n_steps: int = config_field(
        4, "agent steps that each environment takes between trainings", at_least=1
    )
    gradient_steps: int = config_field(16, "gradient steps of one training", at_least=1)
    batch_size: int = config_field(256, "transitions of a gradient step", at_least=1)
    buffer_size: int = config_field(
        30_000, "transitions in the replay, over all environments", at_least=1
    )
    learning_starts: int = config_field(5_000, "random agent steps at first", at_least=0)
    learning_rate: float = config_field(3e-4, "learning rate of Adam", above=0)
    discount: float = config_field(0.99, "discount per agent step", at_least=0, below=1)
    tau: float = config_field(
        0.005,
        "share of the critic in its target after an update; 1 copies it",
        above=0,
        at_most=1,
    )

    def memory_uses(self, shapes: RunShapes) -> list[MemoryUse]:
        """Return the replay, which is in the machine's memory always.

        It keeps transitions, each of two observations, an action, a reward and two flags, and
        rounds down to as many steps of every environment.
        """
        transitions = max(self.buffer_size // shapes.num_envs, 1) * shapes.num_envs
        observation = shapes.image_bytes + 4 * shapes.task_size + shapes.action_size
        size = transitions * (2 * observation + 4 * (shapes.action_size + 3))
        return [MemoryUse("replay (agent.buffer_size)", size, "host", in_checkpoint=True)]


class PixelsAndTask(BaseFeaturesExtractor):
    """Return our encoder's features of pixels and state, then our embedding of the task.

    Args:
        observation_space: as the library gives it.
        spec: sizes.
    """

    def __init__(self, observation_space: gym.spaces.Dict, spec: AgentSpec) -> None:
        encoder = spec.build_encoder()
        super().__init__(observation_space, encoder.features + spec.task_features)
        self.encoder = encoder
        self.task = spec.build_task_embedding()

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return the features.

        The library gives pixels [batch, channel, height, width] as floats in [0, 255].
        """
        seen = dict(observations)
        if "pixels" in seen:
            seen["pixels"] = seen["pixels"].permute(0, 2, 3, 1)
        images = seen.get("pixels", seen["task"][:, :0, None, None])
        columns = self.encoder.columns(images, seen.get("state", seen["task"][:, :0]))
        return torch.cat([self.encoder.encode_columns(columns), self.task(seen["task"])], -1)


class SB3Policy:
    """Give the library's policy our interface.

    Args:
        network: the library's policy.
        discrete_actions: whether the largest number of an action chooses among discrete ones.
    """

    def __init__(self, network: BasePolicy, discrete_actions: bool) -> None:
        self.network = network
        self.discrete_actions = discrete_actions

    def initial_state(self, num_envs: int) -> PolicyState:
        """Return an empty state."""
        del num_envs
        return {}

    def act(
        self, observation: Observation, state: PolicyState, generator: torch.Generator | None
    ) -> tuple[Tensor, PolicyState]:
        """Return the policy's mode, or a draw seeded by `generator`."""
        if generator is not None:
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        arrays = {
            name: values.cpu().numpy()
            for name, values in observation.parts().items()
            if name != "action_mask"
        }
        with _nonfinite_parameters():
            action, _ = self.network.predict(arrays, deterministic=generator is None)
        found = torch.from_numpy(action)
        return bounded_choice(found) if self.discrete_actions else found, state


class _CheckedEnv(VecEnvWrapper):
    """Refuse numbers that are not finite before the library learns from them, and scale rewards.

    Returns in the infos stay as they are.
    """

    def __init__(self, venv: VecEnv, scale: float = 1.0) -> None:
        super().__init__(venv)
        self.scale = scale
        self._fed: dict[str, np.ndarray] = {}

    def reset(self) -> VecEnvObs:
        """Return the first observations."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Begin a step.

        Raises:
            NonFiniteQuantity: an action is not finite.
        """
        self._fed = {"action": actions}
        check_rows(self._fed, {})
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Return the results of one step.

        Raises:
            NonFiniteQuantity: a reward, a task vector or a state is not finite, or the
                simulation failed.
        """
        try:
            observations, rewards, dones, infos = self.venv.step_wait()
        except FloatingPointError as error:
            raise NonFiniteQuantity(str(error), self._fed) from error
        assert isinstance(observations, dict)
        check_rows({"reward": rewards, **observed_numbers(observations)}, self._fed)
        return observations, rewards * self.scale, dones, infos


class _Episodes(BaseCallback):
    """Collect returns and successes of whole episodes that end, by metric name."""

    def __init__(self, task_names: list[str]) -> None:
        super().__init__()
        self.task_names = task_names
        self.by_metric: dict[str, list[float]] = {}

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            episode = info.get("episode")
            if episode is not None:
                task = self.task_names[info["task_index"]]
                self.by_metric.setdefault(f"train/return/{task}", []).append(float(episode["r"]))
                self.by_metric.setdefault(f"train/success/{task}", []).append(
                    float(info["is_success"])
                )
        return True


class _SB3Learner:
    """Share counters, random streams, metrics and saved state between both algorithms."""

    def __init__(
        self, model: Any, spec: AgentSpec, task_names: list[str], frames_per_step: int
    ) -> None:
        self.model = model
        self.spec = spec
        self.frames_per_step = frames_per_step
        self.policy = SB3Policy(model.policy, spec.discrete_actions)
        self.iterations = 0
        self._names = task_names
        model.set_logger(Logger(None, []))
        model._setup_learn(total_timesteps=2**62, callback=None)

    @property
    def steps(self) -> int:
        """Return the agent steps over all environments."""
        return int(self.model.num_timesteps)

    @property
    def frames(self) -> int:
        """Return the control steps over all environments."""
        return self.steps * self.frames_per_step

    def iterate(self) -> dict[str, float | int]:
        """Return the metrics of one collection and one training."""
        episodes = _Episodes(self._names)
        episodes.init_callback(self.model)
        self._seed("")
        self._collect_finite(episodes)
        logged = self._learn()
        self.iterations += 1
        means = {key: sum(values) / len(values) for key, values in episodes.by_metric.items()}
        counters = {
            "frames": self.frames,
            "steps": self.steps,
            "updates": int(self.model._n_updates),
        }
        return {**counters, **with_task_means(means, len(self._names)), **logged}

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser states, counters and the last observation."""
        model = self.model
        return {
            **self._learned(),
            "iterations": self.iterations,
            "num_timesteps": model.num_timesteps,
            "last_obs": dict(model._last_obs),
            "last_episode_starts": model._last_episode_starts,
            **self._more_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        model = self.model
        self._load_learned(state)
        self.iterations = state["iterations"]
        model.num_timesteps = state["num_timesteps"]
        model._last_obs = dict(state["last_obs"])
        model._last_episode_starts = state["last_episode_starts"]
        self._load_more(state)

    def parameter_counts(self) -> dict[str, int]:
        """Return the numbers of trainable parameters of the policy and its parts."""
        parts = {
            name: trainable_parameters(part) for name, part in self.model.policy.named_children()
        }
        return {
            "total": trainable_parameters(self.model.policy),
            **{name: size for name, size in parts.items() if size},
        }

    # Private methods.

    def _collect_finite(self, callback: BaseCallback) -> None:
        """Collect experience; an error about a step holds what the policy saw, too."""
        try:
            with _nonfinite_parameters():
                self._collect(callback)
        except NonFiniteQuantity as error:
            error.batch |= self.model._last_obs
            raise

    def _learn(self) -> dict[str, float]:
        """Train, and return the losses; where one is not finite, all is as it was before."""
        before = copy.deepcopy(self._learned())
        self._seed(" training")
        with _nonfinite_parameters():
            self._train()
        logged = self._losses()
        for name, value in logged.items():
            if not np.isfinite(value):
                self._load_learned(before)
                raise NonFiniteUpdate(name, int(self.model._n_updates), self._fed(), logged)
        return logged

    def _learned(self) -> dict[str, Any]:
        """Return all that training changes."""
        optimizers = self._optimizers().items()
        return {
            "policy": self.model.policy.state_dict(),
            "optimizer": {name: optimizer_state(optimizer) for name, optimizer in optimizers},
            "updates": self.model._n_updates,
        }

    def _load_learned(self, state: Mapping[str, Any]) -> None:
        self.model.policy.load_state_dict(state["policy"])
        for name, optimizer in self._optimizers().items():
            load_optimizer_state(optimizer, state["optimizer"][name])
        self.model._n_updates = state["updates"]

    def _losses(self) -> dict[str, float]:
        """Return the losses that the library logged.

        The explained variance, which may be undefined, is left out.
        """
        values = {
            key.removeprefix("train/"): float(v)
            for key, v in self.model.logger.name_to_value.items()
        }
        self.model.logger.name_to_value.clear()
        return {
            f"loss/{key}": value for key, value in values.items() if key != "explained_variance"
        }

    def _seed(self, phase: str) -> None:
        """Seed the global generators, which the library draws from, by the run's counter."""
        torch.manual_seed(stream_seed(self.spec.seed, f"sb3 torch{phase}", self.iterations))
        small = stream_seed(self.spec.seed, f"sb3 numpy{phase}", self.iterations) % 2**32
        np.random.seed(small)  # noqa: NPY002  what the library's buffers draw from
        self.model.action_space.seed(small)

    def _collect(self, callback: BaseCallback) -> None:
        model = self.model
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)

    def _train(self) -> None:
        self.model.train()

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"policy": self.model.policy.optimizer}

    def _fed(self) -> dict[str, np.ndarray]:
        """Return what a training learned from and `state_dict` does not have."""
        return {}

    def _more_state(self) -> dict[str, Any]:
        return {}

    def _load_more(self, state: Mapping[str, Any]) -> None:
        del state


@contextmanager
def _nonfinite_parameters() -> Iterator[None]:
    """Let distributions have parameters that are not finite.

    What comes of them is checked here, with an error that says what led to them.
    """
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _policy_arguments(spec: AgentSpec, net_arch: Any) -> dict[str, Any]:
    return {
        "features_extractor_class": PixelsAndTask,
        "features_extractor_kwargs": {"spec": spec},
        "net_arch": net_arch,
        "activation_fn": nn.Tanh,
        "normalize_images": False,  # the encoder does it
    }


def saved_ppo(config: SB3PPOConfig, spec: AgentSpec) -> SavedModule:
    """Return the policy of a saved `SB3PPOLearner`."""
    del config
    return _saved(PPOPolicy, spec, _layers(spec))


def saved_sac(config: SB3SACConfig, spec: AgentSpec) -> SavedModule:
    """Return the policy of a saved `SB3SACLearner`; the library saves its critics with it."""
    del config
    return _saved(SACPolicy, spec, list(spec.hidden))


def _saved(policy: type[BasePolicy], spec: AgentSpec, net_arch: Any) -> SavedModule:
    spaces = gym.spaces
    seen: dict[str, gym.Space[Any]] = {
        "task": spaces.Box(-np.inf, np.inf, (spec.task_size,), np.float32)
    }
    if spec.observation != "state":
        side = spec.image_size
        seen["pixels"] = spaces.Box(0, 255, (spec.channels, side, side), np.uint8)
    if spec.state_size:
        seen["state"] = spaces.Box(-np.inf, np.inf, (spec.state_size,), np.float32)
    limit = CHOICE_LIMIT if spec.discrete_actions else 1.0
    actions = spaces.Box(-limit, limit, (spec.action_size,), np.float32)
    arguments = _policy_arguments(spec, net_arch)
    network = policy(spaces.Dict(seen), actions, lambda _: 0.0, **arguments)
    network = network.to(spec.device)
    return SavedModule(SB3Policy(network, spec.discrete_actions), network)


def _layers(spec: AgentSpec) -> dict[str, list[int]]:
    hidden = list(spec.hidden)
    return {"pi": hidden, "vf": hidden}


class SB3PPOLearner(_SB3Learner):
    """Train by stable-baselines3's PPO; the arguments are those of every learner."""

    def __init__(
        self,
        config: SB3PPOConfig,
        spec: AgentSpec,
        env: PixelVectorEnv,
        task_names: list[str],
        frames_per_step: int,
    ) -> None:
        model = PPO(
            "MultiInputPolicy",
            _CheckedEnv(Sb3VecEnv(env), config.reward_scale),
            learning_rate=config.learning_rate,
            n_steps=config.n_steps,
            batch_size=config.n_steps * env.num_envs // config.n_minibatches,
            n_epochs=config.n_epochs,
            gamma=config.discount,
            gae_lambda=config.gae_lambda,
            clip_range=config.clip,
            ent_coef=config.entropy_coefficient,
            vf_coef=config.value_coefficient,
            max_grad_norm=config.max_gradient_norm,
            policy_kwargs=_policy_arguments(spec, _layers(spec)),
            device=spec.device,
        )
        super().__init__(model, spec, task_names, frames_per_step)

    def _fed(self) -> dict[str, np.ndarray]:
        """Return the rollout, with its steps and environments in one dimension."""
        buffer = self.model.rollout_buffer
        return {**buffer.observations, **{key: getattr(buffer, key) for key in _ROLLOUT_ARRAYS}}


class SB3SACLearner(_SB3Learner):
    """Train by stable-baselines3's soft actor-critic; the arguments are those of every learner.

    Each network has an encoder of its own, as the library has it.
    """

    def __init__(
        self,
        config: SB3SACConfig,
        spec: AgentSpec,
        env: PixelVectorEnv,
        task_names: list[str],
        frames_per_step: int,
    ) -> None:
        model = SAC(
            "MultiInputPolicy",
            _CheckedEnv(Sb3VecEnv(env)),
            learning_rate=config.learning_rate,
            buffer_size=config.buffer_size,
            learning_starts=config.learning_starts,
            batch_size=config.batch_size,
            tau=config.tau,
            gamma=config.discount,
            train_freq=config.n_steps,
            gradient_steps=config.gradient_steps,
            policy_kwargs=_policy_arguments(spec, list(spec.hidden)),
            device=spec.device,
        )
        super().__init__(model, spec, task_names, frames_per_step)

    def _collect(self, callback: BaseCallback) -> None:
        model = self.model
        model.collect_rollouts(
            model.env, callback, model.train_freq, model.replay_buffer, None, model.learning_starts
        )

    def _train(self) -> None:
        if self.model.num_timesteps > self.model.learning_starts:
            self.model.train(self.model.gradient_steps, self.model.batch_size)

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        model = self.model
        return {
            "actor": model.actor.optimizer,
            "critic": model.critic.optimizer,
            "alpha": model.ent_coef_optimizer,
        }

    def _learned(self) -> dict[str, Any]:
        return {**super()._learned(), "log_alpha": self.model.log_ent_coef.detach()}

    def _load_learned(self, state: Mapping[str, Any]) -> None:
        super()._load_learned(state)
        with torch.no_grad():
            self.model.log_ent_coef.copy_(state["log_alpha"])

    def _more_state(self) -> dict[str, Any]:
        buffer: DictReplayBuffer = self.model.replay_buffer
        filled = buffer.buffer_size if buffer.full else buffer.pos
        arrays = {key: getattr(buffer, key)[:filled] for key in _REPLAY_ARRAYS}
        images = {
            group: {k: v[:filled] for k, v in getattr(buffer, group).items()}
            for group in _REPLAY_GROUPS
        }
        return {"replay": {**arrays, **images, "position": buffer.pos, "full": buffer.full}}

    def _load_more(self, state: Mapping[str, Any]) -> None:
        buffer = self.model.replay_buffer
        saved = state["replay"]
        for key in _REPLAY_ARRAYS:
            getattr(buffer, key)[: len(saved[key])] = saved[key]
        for group in _REPLAY_GROUPS:
            for key, values in saved[group].items():
                getattr(buffer, group)[key][: len(values)] = values
        buffer.pos = saved["position"]
        buffer.full = saved["full"]


_ROLLOUT_ARRAYS = ("actions", "values", "log_probs", "advantages", "returns")
_REPLAY_ARRAYS = ("actions", "rewards", "dones", "timeouts")
_REPLAY_GROUPS = ("observations", "next_observations")

register_entry(AgentEntry("sb3_ppo", SB3PPOConfig, __name__, saved_ppo, SB3PPOLearner))
register_entry(AgentEntry("sb3_sac", SB3SACConfig, __name__, saved_sac, SB3SACLearner))
