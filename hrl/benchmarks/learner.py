"""Measure the speed of an on-policy learner beside stable-baselines3's PPO.

Encoder, sizes, batch, epochs and environments are the same.
"""

from __future__ import annotations

import statistics

from envs import load_suite, make_vec
from hrl.agents.base import Learner
from hrl.benchmarks.timing import check_at_least, timed
from hrl.config import RunConfig, load
from hrl.run import hardware
from hrl.run.build import agent_spec, build_learner


def run(iterations: int = 5, agent: str = "ppo", peer: str = "sb3_ppo") -> dict[str, object]:
    """Return agent steps per second of whole iterations (collecting and learning), in turn.

    The peer computes in float32, since the library has no mixed precision. Our learner is measured
    with the precision that `precision=auto` chooses, and again in float32, which shows how much of
    the ratio is due to precision.

    Args:
        iterations: number of timed iterations of each learner, at least 1.
        agent: name of our on-policy agent.
        peer: name of the agent that it is compared with.

    Returns:
        `steps_per_second`, `peer_steps_per_second`, `ratio` (medians; the median of the ratios of
        successive iterations), `float32_steps_per_second`, and the sizes.

    Raises:
        ConfigError: iterations below 1, or an unknown agent.
    """
    check_at_least(1, iterations=iterations)
    hardware.configure(0)
    configs = {
        "ours": _config(agent),
        "ours_float32": _config(agent, "precision=float32"),
        "peer": _config(peer, "precision=float32"),
    }
    learners = {name: _learner(config) for name, config in configs.items()}
    times: dict[str, list[float]] = {name: [] for name in learners}
    for learner in learners.values():
        learner.iterate()  # compiles kernels and allocates memory
    for _ in range(iterations):
        for name, learner in learners.items():
            times[name].append(timed(learner.iterate)[0])
    config = configs["ours"]
    count = config.num_envs * config.agent.n_steps
    ratios = [peer_s / our_s for our_s, peer_s in zip(times["ours"], times["peer"], strict=True)]
    return {
        "steps_per_second": round(count / statistics.median(times["ours"]), 1),
        "peer_steps_per_second": round(count / statistics.median(times["peer"]), 1),
        "ratio": round(statistics.median(ratios), 2),
        "float32_steps_per_second": round(count / statistics.median(times["ours_float32"]), 1),
        "agent": agent,
        "peer": peer,
        "steps_per_iteration": count,
        "parameters": {
            name: learner.parameter_counts()["total"] for name, learner in learners.items()
        },
    }


def _config(agent: str, *overrides: str) -> RunConfig:
    return load(["suite=point_mass", f"agent={agent}", *overrides]).config


def _learner(config: RunConfig) -> Learner:
    suite = load_suite("point_mass")
    env = make_vec(
        suite,
        config.num_envs,
        frame_stack=config.frame_stack,
        image_size=config.image_size,
        random_initial_episode_step=True,
    )
    return build_learner(config, suite, env, agent_spec(config, suite))
