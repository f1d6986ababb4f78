"""Tests of learning curves on one grid."""

import json
from pathlib import Path

import numpy as np

from hrl import reporting
from hrl.reporting import statistics
from hrl.reporting.curves import curve_source, method_curves, scores_of


def test_curves_are_interpolated_to_what_all_runs_cover(study: Path) -> None:
    for seed, frames in ((0, (0, 100)), (1, (50, 100)), (2, (0, 200))):
        lines = [
            {"frames": frame, **{f"train/return/train_{i}": float(frame + i) for i in range(4)}}
            for frame in frames
        ]
        (study / f"flat_{seed}" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        timing = [{"frames": 200, "seconds": 20.0, "frames_per_second": 10.0}]
        (study / f"flat_{seed}" / "timing.jsonl").write_text("\n".join(map(json.dumps, timing)))
    runs = reporting.load_runs([study])
    assert curve_source(runs) == "train"
    curves = method_curves(runs, "flat", "train", "train")
    assert curves is not None
    assert curves.x.tolist() == [50, 100]
    assert curves.returns.shape == (2, 3, 4)
    np.testing.assert_allclose(curves.returns[0], np.tile([50.0, 51.0, 52.0, 53.0], (3, 1)))
    timed = method_curves(runs, "flat", "train", "train", seconds=True)
    assert timed is not None
    np.testing.assert_allclose(timed.x, [5, 10])
    scores = scores_of(curves, runs, "train")
    random = [runs.random_returns["train", f"train_{i}"] for i in range(4)]
    np.testing.assert_allclose(scores, statistics.normalised_score(curves.returns, random, 800))


def test_greedy_evaluations_are_preferred_for_curves(study: Path) -> None:
    runs = reporting.load_runs([study])
    assert curve_source(runs) == "eval"
    assert method_curves(runs, "random", "train", "eval") is None
