"""Measure the time of one update of agents with a world model, and of the update's parts."""

from __future__ import annotations

import bisect
import resource
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from envs import Suite, make_vec
from hrl.agents.model_based import ModelBasedLearner
from hrl.benchmarks.peer_update import PeerProcess, PeerSettings, check_checkout
from hrl.benchmarks.timing import check_at_least, timed
from hrl.config import ConfigError, load
from hrl.optim.cuda_graph import WARM_UP
from hrl.run import hardware
from hrl.run.build import agent_spec, build_learner
from hrl.run.memory_estimate import memory_estimates

METHODS = ("dreamer", "director")
PLAIN = ("agent.compile=none", "agent.cuda_graph=false")
# What makes `dreamer` do the same work as r2dreamer, which knows no tasks.
LIKE_PEER = (
    "agent.conditioning.preset=none",
    "agent.imag_last=0",
    "agent.replay_value_scale=0.3",
)
PROFILED_UPDATES = 3
WHOLE = "an update"
REST = "rest"
# Parts without a backward pass, or which contain one.
UNDIRECTED = (WHOLE, REST, "replay", "optimizer")
BACKWARD_EVENT = "autograd::engine::evaluate_function"


def run(overrides: Sequence[str], updates: int = 20, peer: str | None = None) -> dict[str, Any]:
    """Return milliseconds of an update of each method, measured in turn on replayed real steps.

    Args:
        overrides: of the configuration, for all methods alike, such as `size=12m`; `agent=NAME`
            measures that method alone.
        updates: number of timed updates of each method, at least 2. Before them are two updates
            that are not timed, and those in which a graph is recorded.
        peer: path of a checkout of r2dreamer; `dreamer` is then measured in turn with it, see
            `_run_beside`.

    Returns:
        By method: `first_seconds` of the first update, `milliseconds` (median), `quartiles`,
        `replayed_steps_per_second`, `parameters`, and `shares` of the time by part. `ratio` of the
        methods' medians if both are measured. If updates are compiled or recorded, each method
        without that as `METHOD, plain`, and `of_plain`, the medians' ratio; otherwise peak memory
        in MiB of the process and of the GPU.

    Raises:
        ConfigError: fewer than 2 updates, an agent without a world model, or a bad override.
        MemoryEstimateError: an agent does not fit into memory.
    """
    check_at_least(2, updates=updates)
    hardware.configure(0)
    if peer is not None:
        return _run_beside(peer, overrides, updates)
    agents = [text.removeprefix("agent=") for text in overrides if text.startswith("agent=")]
    rest = [text for text in overrides if not text.startswith("agent=")]
    learners = {method: _filled_learner(method, rest) for method in agents or METHODS}
    accelerated = [method for method, learner in learners.items() if _is_accelerated(learner)]
    for method in accelerated:
        learners[f"{method}, plain"] = _filled_learner(method, [*rest, *PLAIN])
    profilers = {method: _PartProfiler(learner) for method, learner in learners.items()}
    any_graph = any(learner.config.cuda_graph for learner in learners.values())
    times, untimed = _time_updates(
        {method: _timed_update(learner) for method, learner in learners.items()}, any_graph, updates
    )
    memory = _peak_memory()
    medians = {method: statistics.median(seconds[untimed:]) for method, seconds in times.items()}
    result: dict[str, Any] = {
        method: {
            "first_seconds": round(seconds[0], 1),
            **_summary(learners[method], seconds[untimed:], profilers[method]),
        }
        for method, seconds in times.items()
    }
    for method in accelerated:
        result[method]["of_plain"] = round(medians[method] / medians[f"{method}, plain"], 2)
    if set(METHODS) <= set(learners):
        result["ratio"] = round(medians["director"] / medians["dreamer"], 2)
    return result if accelerated else result | memory


class _PartProfiler:
    """Measure how the time of an update is divided among its parts, by torch's profiler.

    The backward pass of an operation counts for the part in which the operation was called,
    whichever loss the gradient serves: if actions learn through the imagined steps, that backward
    pass counts for imagination. Accumulating the gradients of parameters counts for the rest.
    """

    def __init__(self, learner: ModelBasedLearner) -> None:
        self.learner = learner
        self.names: set[str] = set()
        agent: Any = learner.policy
        self._mark(learner, "update", WHOLE)
        self._mark(learner.replay, "sample", "replay")
        self._mark(learner.replay, "update_latents", "replay")
        if learner.config.cuda_graph or learner.config.compile == "whole":
            return  # these updates cannot be divided
        self._mark(agent.world_model, "observe", "world model")
        self._mark(agent, "_imagine", "imagination")
        for name in ("actor_critic", "worker", "manager"):
            if hasattr(agent, name):
                self._mark(getattr(agent, name), "loss", "actors and critics")
        if getattr(agent, "goals", None) is not None:
            self._mark(agent.goals, "loss", "goal autoencoder")
        self._mark(learner.optimizer, "step", "optimizer")

    def shares(self) -> dict[str, float]:
        """Make some updates and return the share of each part in their time."""
        on_gpu = self.learner.spec.device.type == "cuda"
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
        with profile(activities=activities) as profiler:
            for _ in range(PROFILED_UPDATES):
                self.learner.update()
        events = [event for event in profiler.events() if event.device_type.name == "CPU"]
        spent = self._time_by_part(events, on_gpu)
        whole = spent.pop(WHOLE)
        if on_gpu:  # another thread makes the backward pass there, outside of the update's call
            whole += sum(
                seconds
                for name, seconds in spent.items()
                if name == REST or name.endswith("backward")
            )
        spent[REST] = whole - sum(seconds for name, seconds in spent.items() if name != REST)
        return {name: round(seconds / whole, 3) for name, seconds in spent.items()}

    def _time_by_part(self, events: Sequence[Any], on_gpu: bool) -> dict[str, float]:
        part_of = self._part_finder(events)
        # Autograd numbers the operations; the backward pass of each carries the same number.
        called_in: dict[int, str] = {}
        spent: defaultdict[str, float] = defaultdict(float, {REST: 0.0})
        for event in events:
            seconds = event.device_time_total if on_gpu else event.cpu_time_total
            if event.name in self.names:
                spent[_directed(event.name, "forward")] += seconds
            elif event.name.startswith(BACKWARD_EVENT):
                spent[_directed(called_in.get(event.sequence_nr, REST), "backward")] += seconds
            elif event.sequence_nr >= 0 and not _is_within_backward(event):
                called_in[event.sequence_nr] = part_of(event)
        return dict(spent)

    def _part_finder(self, events: Sequence[Any]) -> Callable[[Any], str]:
        """Return a function that finds the part in whose call an event began."""
        parts = [event for event in events if event.name in self.names - {WHOLE}]
        spans = sorted((part.time_range.start, part.time_range.end, part.name) for part in parts)
        begins = [begin for begin, _, _ in spans]

        def part_of(event: Any) -> str:
            found = bisect.bisect_right(begins, event.time_range.start) - 1
            is_inside = found >= 0 and event.time_range.start < spans[found][1]
            return spans[found][2] if is_inside else REST

        return part_of

    def _mark(self, owner: Any, method: str, name: str) -> None:
        """Record calls of a method under the name of the part that it belongs to."""
        original: Callable[..., Any] = getattr(owner, method)

        def marked(*args: Any, **kwargs: Any) -> Any:
            with record_function(name):
                return original(*args, **kwargs)

        object.__setattr__(owner, method, marked)
        self.names.add(name)


def _directed(part: str, direction: str) -> str:
    return part if part in UNDIRECTED else f"{part}, {direction}"


def _is_within_backward(event: Any) -> bool:
    parent = event.cpu_parent
    return parent is not None and parent.name.startswith(BACKWARD_EVENT)


def _is_accelerated(learner: ModelBasedLearner) -> bool:
    return learner.config.cuda_graph or learner.config.compile != "none"


def _time_updates(
    makers: dict[str, Callable[[], float]], any_graph: bool, updates: int
) -> tuple[dict[str, list[float]], int]:
    """Return the seconds of all updates by method, and how many of them are not to be counted.

    Args:
        makers: by method, what makes an update and returns its seconds.
        any_graph: whether any of them records a graph.
        updates: number of updates to be counted.
    """
    untimed = 2 + (WARM_UP + 1) * any_graph
    times: dict[str, list[float]] = {method: [] for method in makers}
    for _ in range(untimed + updates):
        for method, update in makers.items():
            times[method].append(update())
    return times, untimed


def _timed_update(learner: ModelBasedLearner) -> Callable[[], float]:
    return lambda: timed(learner.update)[0]


def _run_beside(peer: str, overrides: Sequence[str], updates: int) -> dict[str, Any]:
    """Return milliseconds of an update of `dreamer` and of r2dreamer's agent, made in turn.

    The peer has our sizes, batch, sequences, images, imagined steps and precision, and decodes
    images. It is compiled if we are. Both learn the critic from replayed states too and imagine
    from all of them, and ours gets no task, which the peer does not know. The peer's batch is
    random and always the same: ours is also drawn from a replay buffer, and its states are written
    back.

    Returns:
        For `dreamer` and `r2dreamer` `first_seconds`, `milliseconds`, `quartiles`, `parameters`;
        `ratio`, the median of ours over that of the peer.
    """
    check_checkout(Path(peer).expanduser())
    other = [text for text in overrides if text.startswith("agent=") and text != "agent=dreamer"]
    if other:
        raise ConfigError(f"--peer is compared with agent=dreamer alone, not with {other[0]}")
    given = [text for text in overrides if not text.startswith("agent=")]
    learner = _filled_learner("dreamer", [*LIKE_PEER, *given])
    process = PeerProcess(_peer_settings(peer, learner))
    makers = {"dreamer": _timed_update(learner), "r2dreamer": process.update}
    try:
        times, untimed = _time_updates(makers, _is_accelerated(learner), updates)
    finally:
        process.close()
    parameters = {
        "dreamer": learner.parameter_counts()["total"],
        "r2dreamer": process.parameters,
    }
    result: dict[str, Any] = {
        method: {
            "first_seconds": round(seconds[0], 1),
            **_milliseconds(seconds[untimed:]),
            "parameters": parameters[method],
        }
        for method, seconds in times.items()
    }
    ours, theirs = (statistics.median(seconds[untimed:]) for seconds in times.values())
    return result | {"ratio": round(ours / theirs, 2)}


def _peer_settings(peer: str, learner: ModelBasedLearner) -> PeerSettings:
    """Return the settings of the peer that are those of a learner.

    Raises:
        ConfigError: the peer has no such world model.
    """
    spec = learner.spec
    sizes = spec.world_model
    if sizes.strided:
        raise ConfigError(
            "r2dreamer has no convolutions that shrink the image themselves; add size=12m or "
            "network.world_model.strided=false"
        )
    own = ("deter", "hidden", "groups", "classes", "blocks", "units", "depth", "kernel")
    return PeerSettings(
        **{name: getattr(sizes, name) for name in own},
        checkout=str(Path(peer).expanduser().resolve()),
        image_size=spec.image_size,
        channels=spec.channels,
        action_size=spec.action_size,
        batch_size=learner.config.batch_size,
        sequence_length=learner.config.sequence_length,
        imagined_steps=learner.config.horizon,
        device=str(spec.device),
        dtype=str(spec.autocast).removeprefix("torch."),
        compile=learner.config.compile != "none",
        threads=torch.get_num_threads(),
    )


def _peak_memory() -> dict[str, int]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    memory = {"peak_memory_mib": round(peak)}
    if torch.cuda.is_available():  # reserved, since a graph's own memory counts as free
        memory["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_reserved() / 2**20)
    return memory


def _filled_learner(method: str, overrides: list[str]) -> ModelBasedLearner:
    """Return a learner whose replay buffer has a few sequences of every environment."""
    if method not in METHODS:
        raise ConfigError(f"agent {method} has no world model; choose from {', '.join(METHODS)}")
    chosen = ["suite=point_mass", f"agent={method}", "agent.replay_capacity=20_000", *overrides]
    # Time whole updates, also if the world model is configured to learn alone at first.
    config, plain = load([*chosen, "agent.actor_critic_start=0"])
    suite = Suite.from_dict(plain["suite"])
    for estimate in memory_estimates(config, suite, hardware.choose_device(config.device)):
        estimate.check()
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
        steps = 2 * config.agent.replayed_rows + config.agent.batch_size
        learner.collector.collect(learner.policy, steps)
    return learner


def _summary(
    learner: ModelBasedLearner, times: list[float], profiler: _PartProfiler
) -> dict[str, Any]:
    median = statistics.median(times)
    replayed = learner.config.batch_size * learner.config.sequence_length
    return {
        **_milliseconds(times),
        "replayed_steps_per_second": round(replayed / median),
        "parameters": learner.parameter_counts()["total"],
        "shares": profiler.shares(),
    }


def _milliseconds(times: list[float]) -> dict[str, Any]:
    low, median, high = statistics.quantiles(times, n=4)
    return {
        "milliseconds": round(1e3 * median, 1),
        "quartiles": [round(1e3 * low, 1), round(1e3 * high, 1)],
    }
