"""Time of one update of agents with a world model, side by side, and what it is spent on."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from envs import Suite, make_vec
from hrl import hardware
from hrl.agents.model_based import ModelBasedLearner
from hrl.config import ConfigError, load
from hrl.learners import build_learner, setting_for

ARMS = ("dreamer", "director")


def run(overrides: Sequence[str], updates: int = 20) -> dict[str, Any]:
    """Milliseconds of an update of each arm, one of each in turn, on a replay of real steps.

    Args:
        overrides: of the configuration, for all arms alike, such as `size=12m`; `agent=NAME` for that arm alone.
        updates: of each arm that are timed, after two that are not.

    Returns:
        By arm: `milliseconds` (median), `quartiles`, `replayed_steps_per_second`, `parameters`, `shares` of the time by
        part; `ratio` of the arms' medians where there are both; peak memory in MiB of the process and of the GPU.
    """
    hardware.configure(0)
    chosen = [override.removeprefix("agent=") for override in overrides if override.startswith("agent=")]
    rest = [override for override in overrides if not override.startswith("agent=")]
    learners = {arm: _filled(arm, rest) for arm in chosen or ARMS}
    times: dict[str, list[float]] = {arm: [] for arm in learners}
    parts = {arm: _Parts(learner) for arm, learner in learners.items()}
    for count in range(updates + 2):
        for arm, learner in learners.items():
            if count == 2:
                parts[arm].seconds.clear()
            seconds = _seconds(learner.update)
            times[arm] += [seconds] if count >= 2 else []
    result: dict[str, Any] = {arm: _summary(learners[arm], times[arm], parts[arm]) for arm in learners}
    if set(ARMS) <= set(learners):
        result["ratio"] = round(statistics.median(times["director"]) / statistics.median(times["dreamer"]), 2)
    result["peak_memory_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if torch.cuda.is_available():
        result["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return result


class _Parts:
    """Seconds by part of an update. What no part accounts for is the backward pass and small change."""

    def __init__(self, learner: ModelBasedLearner) -> None:
        self.seconds: dict[str, float] = {}
        agent: Any = learner.policy
        self._time(learner.replay, "sample", "replay")
        self._time(learner.replay, "write_back", "replay")
        if learner.config.cuda_graph or learner.config.compile:  # one piece, without parts
            return
        self._time(agent.world_model, "observe", "world model, forward")
        self._time(agent, "_imagine", "imagination")
        for level in ("level", "worker", "manager"):
            if hasattr(agent, level):
                self._time(getattr(agent, level), "loss", "actors and critics, forward")
        self._time(learner.optimizer, "step", "optimiser")

    def shares(self, total: float) -> dict[str, float]:
        """Of each part in the whole."""
        rest = total - sum(self.seconds.values())
        return {name: round(value / total, 3) for name, value in {**self.seconds, "backward and rest": rest}.items()}

    def _time(self, owner: Any, method: str, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            _synchronise()
            started = time.perf_counter()
            result = original(*args, **kwargs)
            _synchronise()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            return result

        object.__setattr__(owner, method, timed)


def _filled(arm: str, overrides: list[str]) -> ModelBasedLearner:
    """A learner whose replay holds a few sequences of every environment."""
    if arm not in ARMS:
        raise ConfigError(f"agent {arm} has no world model; choose from {', '.join(ARMS)}")
    chosen = ["suite=point_mass", f"agent={arm}", "agent.replay_capacity=20_000", *overrides]
    # Whole updates are timed, however long the model is to learn alone first.
    config, plain = load([*chosen, "agent.behaviour_from=0"])
    suite = Suite.from_dict(plain["suite"])
    env = make_vec(suite, config.num_envs, frame_stack=config.frame_stack, image_size=config.image_size, stagger=True)
    learner = build_learner(config, suite, env, setting_for(config, suite))
    assert isinstance(learner, ModelBasedLearner)
    with torch.no_grad():
        learner.writer.gather(learner.policy, 2 * config.agent.length + config.agent.batch)
    return learner


def _summary(learner: ModelBasedLearner, times: list[float], parts: _Parts) -> dict[str, Any]:
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4)
    return {
        "milliseconds": round(1e3 * median, 1),
        "quartiles": [round(1e3 * low, 1), round(1e3 * high, 1)],
        "replayed_steps_per_second": round(learner.config.batch * learner.config.length / median),
        "parameters": learner.parameter_counts()["total"],
        "shares": parts.shares(sum(times)),
    }


def _seconds(call: Callable[[], object]) -> float:
    _synchronise()
    started = time.perf_counter()
    call()
    _synchronise()
    return time.perf_counter() - started


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
