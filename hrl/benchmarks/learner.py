"""Speed of our flat learner beside stable-baselines3's PPO: the same encoder, sizes, batch, epochs
and environments.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from envs import load_suite, make_vec
from hrl.agents.base import Learner
from hrl.config import load
from hrl.run import hardware
from hrl.run.build import agent_spec, build_learner


def run(iterations: int = 5, agent: str = "ppo", peer: str = "sb3_ppo") -> dict[str, object]:
    """Agent steps per second of whole iterations (gathering and learning), one of each in turn.

    The peer computes in float32, since the library has no mixed precision; ours in what
    `precision=auto` chooses, and once more in float32, so that the part of the precision in the
    ratio can be told.

    Returns:
        `steps_per_second`, `peer_steps_per_second`, `ratio` (medians; median of the ratios of
        neighbours in time), `float32_steps_per_second`, and the sizes.
    """
    hardware.configure(0)
    methods = {
        "ours": _learner([f"agent={agent}"]),
        "ours_float32": _learner([f"agent={agent}", "precision=float32"]),
        "peer": _learner([f"agent={peer}", "precision=float32"]),
    }
    times: dict[str, list[float]] = {name: [] for name in methods}
    for learner in methods.values():
        learner.iterate()  # compiles kernels, takes memory
    for _ in range(iterations):
        for name, learner in methods.items():
            times[name].append(_seconds(learner.iterate))
    steps = load([f"agent={agent}"])[0]
    count = steps.num_envs * steps.agent.n_steps
    ratios = [theirs / ours for ours, theirs in zip(times["ours"], times["peer"], strict=True)]
    return {
        "steps_per_second": round(count / statistics.median(times["ours"]), 1),
        "peer_steps_per_second": round(count / statistics.median(times["peer"]), 1),
        "ratio": round(statistics.median(ratios), 2),
        "float32_steps_per_second": round(count / statistics.median(times["ours_float32"]), 1),
        "agent": agent,
        "peer": peer,
        "log_interval": count,
        "parameters": {
            name: learner.parameter_counts()["total"] for name, learner in methods.items()
        },
    }


def _learner(overrides: list[str]) -> Learner:
    config, _ = load(["suite=point_mass", *overrides])
    suite = load_suite("point_mass")
    env = make_vec(
        suite,
        config.num_envs,
        frame_stack=config.frame_stack,
        image_size=config.image_size,
        random_initial_episode_step=True,
    )
    return build_learner(config, suite, env, agent_spec(config, suite))


def _seconds(call: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
