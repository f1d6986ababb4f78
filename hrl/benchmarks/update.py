"""Time of one update of agents with a world model, side by side, and what it is spent on."""

from __future__ import annotations

import bisect
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from envs import Suite, make_vec
from hrl.agents.model_based import ModelBasedLearner
from hrl.config import ConfigError, load
from hrl.optim.cuda_graph import WARM_UP
from hrl.run import hardware
from hrl.run.build import agent_spec, build_learner

METHODS = ("dreamer", "director")
PLAIN = ("agent.compile=none", "agent.cuda_graph=false")
PROFILED = 3  # updates
WHOLE, REST, BACKWARD = "an update", "rest", "autograd::engine::evaluate_function"
ONE_WAY = (WHOLE, REST, "replay", "optimiser")


def run(overrides: Sequence[str], updates: int = 20) -> dict[str, Any]:
    """Milliseconds of an update of each method, one of each in turn, on a replay of real steps.

    Args:
        overrides: of the configuration, for all methods alike, such as `size=12m`; `agent=NAME` for
            that method alone.
        updates: of each method that are timed, after two that are not, and those in which a graph
            is recorded.

    Returns:
        By method: `first_seconds` of the first update, `milliseconds` (median), `quartiles`,
        `replayed_steps_per_second`, `parameters`, `reward_weights` of the time by part; `ratio` of
        the methods' medians where there are both; where updates are compiled or recorded, each
        method without that as `ARM, plain`, and `of_plain`, the medians' ratio; elsewhere peak
        memory in MiB of the process and of the GPU.
    """
    hardware.configure(0)
    chosen = [
        override.removeprefix("agent=") for override in overrides if override.startswith("agent=")
    ]
    rest = [override for override in overrides if not override.startswith("agent=")]
    learners = {method: _filled(method, rest) for method in chosen or METHODS}
    configs = {method: learner.config for method, learner in learners.items()}
    prepared = [
        method
        for method, config in configs.items()
        if config.cuda_graph or config.compile != "none"
    ]
    learners |= {f"{method}, plain": _filled(method, [*rest, *PLAIN]) for method in prepared}
    times: dict[str, list[float]] = {method: [] for method in learners}
    parts = {method: _Parts(learner) for method, learner in learners.items()}
    graphed = any(learner.config.cuda_graph for learner in learners.values())
    untimed = 2 + (WARM_UP + 1) * graphed
    for _ in range(untimed + updates):
        for method, learner in learners.items():
            times[method].append(_seconds(learner.update))
    memory = {"peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}
    if torch.cuda.is_available():
        memory["peak_gpu_memory_mib"] = round(
            torch.cuda.max_memory_reserved() / 2**20
        )  # a graph's own counts as free
    medians = {method: statistics.median(seconds[untimed:]) for method, seconds in times.items()}
    result: dict[str, Any] = {
        method: {
            "first_seconds": round(seconds[0], 1),
            **_summary(learners[method], seconds[untimed:], parts[method]),
        }
        for method, seconds in times.items()
    }
    for method in prepared:
        result[method]["of_plain"] = round(medians[method] / medians[f"{method}, plain"], 2)
    if set(METHODS) <= set(learners):
        result["ratio"] = round(medians["director"] / medians["dreamer"], 2)
    return result if prepared else result | memory


class _Parts:
    """What an update is spent on: its parts, each with its own way back, by torch's profiler.

    An operation's way back is the part's that the operation was in, whichever loss it serves: where
    actions learn through the imagined steps, their way back is imagination's. Adding up the
    gradients of parameters is in the rest.
    """

    def __init__(self, learner: ModelBasedLearner) -> None:
        self.learner = learner
        agent: Any = learner.policy
        self.names: set[str] = set()
        self._mark(learner, "update", WHOLE)
        self._mark(learner.replay, "sample", "replay")
        self._mark(learner.replay, "update_latents", "replay")
        if learner.config.cuda_graph or learner.config.compile == "whole":  # one piece
            return
        self._mark(agent.world_model, "observe", "world model")
        self._mark(agent, "_imagine", "imagination")
        for level in ("actor_critic", "worker", "manager"):
            if hasattr(agent, level):
                self._mark(getattr(agent, level), "loss", "actors and critics")
        if getattr(agent, "goals", None) is not None:
            self._mark(agent.goals, "loss", "goal autoencoder")
        self._mark(learner.optimizer, "step", "optimiser")

    def reward_weights(self) -> dict[str, float]:
        """Of each part in the whole, forward and backward."""
        on_gpu = self.learner.spec.device.type == "cuda"
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
        with profile(activities=activities) as profiler:
            for _ in range(PROFILED):
                self.learner.update()
        events = [event for event in profiler.events() if event.device_type.name == "CPU"]
        parts = [event for event in events if event.name in self.names - {WHOLE}]
        spans = sorted((part.time_range.start, part.time_range.end, part.name) for part in parts)
        begins = [begin for begin, _, _ in spans]
        made_in: dict[
            int, str
        ] = {}  # the graph numbers its operations; the way back of one carries its number
        spent: dict[str, float] = {}

        def count(part: str, direction: str, seconds: float) -> None:
            name = part if part in ONE_WAY else f"{part}, {direction}"
            spent[name] = spent.get(name, 0.0) + seconds

        for event in events:
            seconds = event.device_time_total if on_gpu else event.cpu_time_total
            if event.name in self.names:
                count(event.name, "forward", seconds)
            elif event.name.startswith(BACKWARD):
                count(made_in.get(event.sequence_nr, REST), "backward", seconds)
            elif event.sequence_nr >= 0 and not (
                event.cpu_parent and event.cpu_parent.name.startswith(BACKWARD)
            ):
                found = bisect.bisect_right(begins, event.time_range.start) - 1
                inside = found >= 0 and event.time_range.start < spans[found][1]
                made_in[event.sequence_nr] = spans[found][2] if inside else REST
        spent.setdefault(REST, 0.0)
        whole = spent.pop(WHOLE)
        if on_gpu:  # the way back is made by another thread there, and is no part of the call
            whole += sum(
                seconds
                for name, seconds in spent.items()
                if name == REST or name.endswith("backward")
            )
        spent[REST] = whole - sum(seconds for name, seconds in spent.items() if name != REST)
        return {name: round(seconds / whole, 3) for name, seconds in spent.items()}

    def _mark(self, owner: Any, method: str, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, method)

        def marked(*args: Any, **kwargs: Any) -> Any:
            with record_function(name):
                return original(*args, **kwargs)

        object.__setattr__(owner, method, marked)
        self.names.add(name)


def _filled(method: str, overrides: list[str]) -> ModelBasedLearner:
    """A learner whose replay holds a few sequences of every environment."""
    if method not in METHODS:
        raise ConfigError(f"agent {method} has no world model; choose from {', '.join(METHODS)}")
    chosen = ["suite=point_mass", f"agent={method}", "agent.replay_capacity=20_000", *overrides]
    # Whole updates are timed, however long the model is to learn alone first.
    config, plain = load([*chosen, "agent.actor_critic_start=0"])
    suite = Suite.from_dict(plain["suite"])
    env = make_vec(
        suite,
        config.num_envs,
        frame_stack=config.frame_stack,
        image_size=config.image_size,
        random_initial_episode_step=True,
    )
    learner = build_learner(config, suite, env, agent_spec(config, suite))
    assert isinstance(learner, ModelBasedLearner)
    with torch.no_grad():
        learner.collector.collect(
            learner.policy, 2 * config.agent.sequence_length + config.agent.batch_size
        )
    return learner


def _summary(learner: ModelBasedLearner, times: list[float], parts: _Parts) -> dict[str, Any]:
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4)
    return {
        "milliseconds": round(1e3 * median, 1),
        "quartiles": [round(1e3 * low, 1), round(1e3 * high, 1)],
        "replayed_steps_per_second": round(
            learner.config.batch_size * learner.config.sequence_length / median
        ),
        "parameters": learner.parameter_counts()["total"],
        "reward_weights": parts.reward_weights(),
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
