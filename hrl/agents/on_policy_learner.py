"""Train on-policy agents: gather a rollout, estimate advantages, make clipped updates.

The flat and the hierarchical agent share this learner. Several processes can train one agent
(`hrl.ranks`): each shuffles its own rollout, and an update learns from a minibatch of every rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from hrl.agents.base import AgentSpec, Counting, NonFiniteUpdate
from hrl.agents.on_policy import OnPolicyAgent, OnPolicyAgentConfig
from hrl.agents.parts import VALUES, Parts, modules_by_name, parameter_counts
from hrl.agents.registry import register_learner
from hrl.data.rollout import Rollout
from hrl.data.rollout_collector import RolloutCollector, with_task_means
from hrl.optim.compile import Update
from hrl.optim.cuda_graph import GraphedUpdate
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
        ConfigValueError: n_minibatches does not divide num_envs * n_steps, or `cuda_graph` without
            a GPU.
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
        config.check_graph(spec.device.type == "cuda")
        assert isinstance(agent, nn.Module)
        self.policy: OnPolicyAgent = agent
        self.module: nn.Module = agent.to(spec.device)
        self.config = config
        self.spec = spec
        self.frames_per_step = frames_per_step
        self.ranks = spec.ranks
        self.collector = RolloutCollector(env, task_names, spec.seed, spec.device, self.ranks)
        self.optimizer = _optimizer(self.module, agent.parts(), config, spec.device)
        self.reward_scale = RewardScale(env.num_envs, config.discount).to(spec.device)
        self.updates = 0
        self._memory: dict[str, Tensor] = {}
        self._update = self._prepare()
        self._stopped = torch.zeros((), dtype=torch.bool, device=spec.device)
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
            rollout = self.collector.collect(self.policy, self.config.n_steps, self._memory)
            critic_metrics = self.estimate_advantages(rollout)
        losses = self.learn(rollout)
        self._memory = rollout.steps
        ended = self.ranks.merge(self.collector.take_episodes())
        episodes = {key: sum(values) / len(values) for key, values in ended.items()}
        counters = {"frames": self.frames, "steps": self.steps, "updates": self.updates}
        counters |= self.policy.count(rollout.steps) if isinstance(self.policy, Counting) else {}
        reward = float(rollout.steps["reward"].mean()) / self.frames_per_step
        of_rollout = _without_nan(critic_metrics)
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
        """Make clipped updates over minibatches, and return the means of their metrics.

        The host waits for the device once, after the last update. One whose numbers are not finite
        and those after it leave the weights as they are.

        Raises:
            NonFiniteUpdate: a loss, a gradient or a metric is not finite.
        """
        before = self.updates
        self._stopped.zero_()
        measured: list[dict[str, Tensor]] = []
        for batch in self._minibatches(rollout, before):
            self.updates += 1
            self._set_learning_rate()
            measured.append(self._update(batch)[0])
        names = list(measured[0])
        table = torch.stack([torch.stack(list(metrics.values())) for metrics in measured])
        of_updates = table.double().cpu()  # [update, metric]
        finite = torch.isfinite(of_updates).all(1)
        if not finite.all():
            failed = int(finite.int().argmin())
            values = dict(zip(names, of_updates[failed].tolist(), strict=True))
            name = next(name for name, value in values.items() if not math.isfinite(value))
            self.updates = before + failed
            batch = next(islice(self._minibatches(rollout, before), failed, None))
            raise NonFiniteUpdate(name, self.updates, batch, values)
        return dict(zip(names, of_updates.mean(0).tolist(), strict=True))

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
        self._update = self._prepare()  # a recorded graph has the optimiser state that is replaced
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

    def _prepare(self) -> Update:
        """Return the update, recorded where the configuration asks for it."""
        return GraphedUpdate(self._plain_update) if self.config.cuda_graph else self._plain_update

    def _minibatches(self, rollout: Rollout, updates: int) -> Iterator[dict[str, Tensor]]:
        """Yield the minibatches of all epochs, of a rollout before which were so many updates."""
        size = rollout.steps["reward"].numel() // self.config.n_minibatches
        stream = self.ranks.stream("minibatches")
        for epoch in range(self.config.n_epochs):
            counter = updates + epoch * self.config.n_minibatches
            generator = torch_generator(self.spec.seed, stream, counter, self.spec.device)
            yield from rollout.minibatches(size, generator)

    def _plain_update(
        self, batch: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Make one update unless one has failed; return its metrics, and latents, of which none.

        Metrics are float32 on the device.
        """
        loss, metrics = self.policy.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.average_gradients(self.module.parameters())
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.config.max_gradient_norm)
        metrics = {"loss/total": loss, **metrics, "gradient_norm": norm}
        detached = {name: value.detach().float() for name, value in metrics.items()}
        measured = self.ranks.average_metrics(detached)
        self._stopped |= ~torch.isfinite(torch.stack(list(measured.values()))).all()
        # Fused Adam reads it on the device, as it does for torch's gradient scaler.
        self.optimizer.found_inf = self._stopped.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        return measured, {}

    def _set_learning_rate(self) -> None:
        """Set the learning rate of the update that `updates` counts last."""
        start = self.config.lr_decay_start
        falling = math.sqrt(start / self.updates) if 0 < start < self.updates else 1.0
        rate = self.config.learning_rate * falling
        for group in self.optimizer.param_groups:
            if self.config.cuda_graph:
                group["lr"].fill_(rate * group["share"])
            else:
                group["lr"] = rate * group["share"]


def _optimizer(
    module: nn.Module, parts: Parts, config: OnPolicyAgentConfig, device: torch.device
) -> torch.optim.Adam:
    """Return the optimizer; a recorded update reads learning rates on the device.

    Neighbours with the same share of the learning rate are a group, so that parameters keep their
    positions, by which checkpoints name them.
    """
    modules = modules_by_name(parts)
    shares = {
        parameter: share
        for name, share in config.learning_rate_shares.items()
        for parameter in modules[name].parameters()
    }
    groups = [
        {"params": list(parameters), "share": share, "lr": config.learning_rate * share}
        for share, parameters in groupby(module.parameters(), lambda one: shares.get(one, 1.0))
    ]
    if config.cuda_graph:
        for group in groups:
            group["lr"] = torch.tensor(group["lr"], device=device)
    return torch.optim.Adam(groups, eps=1e-5, fused=True, capturable=config.cuda_graph)


def _without_nan(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Return metrics of critics as numbers, without those of a level that decided nothing.

    A critic's values that are not finite are found before, as a loss that is not.
    """
    values = torch.stack([value.detach().double() for value in metrics.values()]).tolist()
    pairs = zip(metrics, values, strict=True)
    return {name: value for name, value in pairs if not math.isnan(value)}
