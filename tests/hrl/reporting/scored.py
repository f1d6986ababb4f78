"""Studies whose scores a test chooses, run by run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hrl import reporting
from hrl.reporting.study import Study, study_of
from tests.hrl.synthetic_runs import position_suite, write_fixed, write_scores, write_trained

TASKS = ("train_0", "train_1")


def scored_study(
    folder: Path,
    scores: Mapping[str, Sequence[float | Sequence[float]]],
    controls: Mapping[str, str] | None = None,
    frames: Mapping[str, int] | None = None,
) -> Study:
    """Write a run a score, or a pair of one a task, of each method, with seeds 0, 1, ...; read all.

    controls: notes by method.  frames: budgets of methods that differ from the others.
    """
    suite = position_suite()
    suite["splits"] = {"train": suite["splits"]["train"][: len(TASKS)]}
    write_fixed(folder / "random", suite, episodes=1)
    for method, of_runs in scores.items():
        for seed, score in enumerate(of_runs):
            budget = (frames or {}).get(method, 120_000)
            run = folder / f"{method}_{seed}"
            write_trained(run, suite, method=method, seed=seed, episodes=1, frames=budget)
            (run / "shuffled_scores.csv").unlink()
            by_task = dict(
                zip((("train", task) for task in TASKS), np.broadcast_to(score, 2), strict=True)
            )
            rng = np.random.default_rng(0)
            write_scores(run, method, seed, budget, by_task, 1, {"none": 1.0}, rng, noise=0.0)
    return study_of(reporting.load_runs([folder], controls=controls))
