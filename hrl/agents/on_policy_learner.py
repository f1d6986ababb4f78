"""Train on-policy agents: gather a rollout, estimate advantages, make clipped updates.

The flat and the hierarchical agent share this learner. Several processes can train one agent
(`hrl.ranks`): each shuffles its own rollout, and an update learns from a minibatch of every rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from hrl.agents.base import AgentSpec, Counting, NonFiniteUpdate
from hrl.agents.on_policy import OnPolicyAgent, OnPolicyAgentConfig
from hrl.agents.parts import VALUES, Parts, parameter_counts
from hrl.agents.registry import register_learner
from hrl.data.rollout import Rollout
from hrl.data.rollout_collector import RolloutCollector, with_task_means
from hrl.optim.normalizers import RewardScale
from hrl.optim.optimizer_state import load_optimizer_state, optimizer_state
from hrl.ranks import join
from hrl.seeding import torch_generator


@register_learner(OnPolicyAgentConfig)
class OnPolicyLearner:
    """Train any `OnPolicyAgent` by PPO (Schulman et al. 2017, arXiv 1707.06347).

    Args:
        agent: the agent, an `nn.Module`.
        config: its hyperparameters.
        spec: what it was built for.
        env: a vector env with same-step autoreset.
        task_names: names of the env's tasks, for metrics.
        frames_per_step: control steps of an agent step, the suite's action repeat.

    Raises:
        ConfigValueError: n_minibatches does not divide num_envs * n_steps.
    """

    def __init__(
        self,
        agent: OnPolicyAgent,
        config: OnPolicyAgentConfig,
        spec: AgentSpec,
        env: gym.vector.VectorEnv,
        task_names: list[str],
        frames_per_step: int,
    ) -> None:
        config.check_minibatches(env.num_envs)
        assert isinstance(agent, nn.Module)
        self.policy: OnPolicyAgent = agent
        self.module: nn.Module = agent.to(spec.device)
        self.config = config
        self.spec = spec
        self.frames_per_step = frames_per_step
        self.ranks = spec.ranks
        self.collector = RolloutCollector(env, task_names, spec.seed, spec.device, self.ranks)
        self.optimizer = torch.optim.Adam(
            self.module.parameters(), config.learning_rate, eps=1e-5, fused=True
        )
        self.reward_scale = RewardScale(env.num_envs, config.discount).to(spec.device)
        self.updates = 0
        for part in (self.module, self.reward_scale):
            join(part, self.ranks)

    @property
    def steps(self) -> int:
        """Return the agent steps over all environments."""
        return self.collector.steps * self.collector.env.num_envs * self.ranks.count

    @property
    def frames(self) -> int:
        """Return the control steps over all environments."""
        return self.steps * self.frames_per_step

    def iterate(self) -> dict[str, float | int]:
        """Return the metrics of one rollout and `n_epochs` passes over it."""
        with torch.no_grad():
            rollout = self.collector.collect(self.policy, self.config.n_steps)
            critic_metrics = self.estimate_advantages(rollout)
        losses = self.learn(rollout)
        ended = self.ranks.merge(rollout.episodes)
        episodes = {key: sum(values) / len(values) for key, values in ended.items()}
        counters = {"frames": self.frames, "steps": self.steps, "updates": self.updates}
        counters |= self.policy.count(rollout.steps) if isinstance(self.policy, Counting) else {}
        reward = float(rollout.steps["reward"].mean()) / self.frames_per_step
        of_rollout = {key: float(value) for key, value in critic_metrics.items()}
        return {
            **counters,
            **with_task_means(episodes, len(self.collector.task_names)),
            **losses,
            **self.ranks.average({"train/reward_per_frame": reward, **of_rollout}),
        }

    def estimate_advantages(self, rollout: Rollout) -> dict[str, Tensor]:
        """Scale a rollout's rewards, and add the agent's columns; return metrics of the critics."""
        steps = rollout.steps
        self.reward_scale.update(steps["reward"])
        scale = self.reward_scale.scale()
        steps["scaled_reward"] = steps["reward"] / scale
        columns, metrics = self.policy.advantages(rollout)
        steps.update(columns)
        return {**metrics, "value/reward_scale": scale}

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Make clipped updates over minibatches, and return the means of their metrics."""
        sums: dict[str, Tensor] = {}
        count = 0
        size = rollout.steps["reward"].numel() // self.config.n_minibatches
        for _ in range(self.config.n_epochs):
            stream = self.ranks.stream("minibatches")
            generator = torch_generator(self.spec.seed, stream, self.updates, self.spec.device)
            for batch in rollout.minibatches(size, generator):
                for key, value in self._update(batch).items():
                    sums[key] = sums.get(key, 0) + value.detach().float()
                count += 1
        return {key: float(value) / count for key, value in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser state, counters and the collector's state."""
        return {
            "policy": self.module.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "collector": self.collector.state_dict(),
            "reward_scale": self.reward_scale.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.module.load_state_dict(state["policy"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.collector.load_state_dict(state["collector"])
        self.reward_scale.load_state_dict(state["reward_scale"])
        self.updates = state["updates"]

    @property
    def own_keys(self) -> tuple[str, ...]:
        """Return the keys of `state_dict` that belong to this rank's environments."""
        return ("collector", "reward_scale")

    def parameter_counts(self) -> dict[str, int]:
        """Return the numbers of trainable parameters by module."""
        return parameter_counts(self.policy.parts())

    def parts(self) -> Parts:
        """Return the modules by part and name.

        Critics value scaled rewards, so that the spread of returns belongs to the values.
        """
        parts = self.policy.parts()
        return {
            **parts,
            VALUES: {**parts.get(VALUES, {}), "reward_spread": self.reward_scale.spread},
        }

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the agent and the scale of rewards by their keys in `state_dict`."""
        return {"policy": self.module, "reward_scale": self.reward_scale}

    # Private methods.

    def _update(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        loss, metrics = self.policy.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.average_gradients(self.module.parameters())
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.config.max_gradient_norm)
        metrics = self.ranks.average_metrics({"loss/total": loss, **metrics, "gradient_norm": norm})
        for name, value in metrics.items():
            if not torch.isfinite(value.detach()):
                values = {key: float(value.detach()) for key, value in metrics.items()}
                raise NonFiniteUpdate(name, self.updates, batch, values)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.step()
        self.updates += 1
        return metrics

    def _learning_rate(self) -> float:
        """Return the learning rate of the next update."""
        start = self.config.lr_decay_start
        update = self.updates + 1
        falling = math.sqrt(start / update) if 0 < start < update else 1.0
        return self.config.learning_rate * falling
