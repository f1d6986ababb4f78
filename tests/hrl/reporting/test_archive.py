"""Tests of archived studies: small, and enough for the same report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hrl import reporting
from hrl.reporting import archive
from hrl.reporting.curves import method_curves
from hrl.reporting.tables import read_learning_curves
from tests.hrl.synthetic_runs import position_suite, write_fixed, write_trained


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods that learned, and random play."""
    suite = position_suite()
    for seed in range(2):
        write_trained(tmp_path / "runs" / f"a_{seed}", suite, method="a", seed=seed, episodes=1)
    write_trained(tmp_path / "runs" / "b", suite, method="b", skills=2, episodes=1)
    write_fixed(tmp_path / "runs" / "random", suite, episodes=1)
    return tmp_path / "runs"


def test_an_archived_study_gives_the_same_summary_and_curves(runs: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    archive.archive_study([runs], study)
    kept, full = reporting.load_runs([study]), reporting.load_runs([runs])
    assert reporting.summarise(kept)["methods"] == reporting.summarise(full)["methods"]
    assert json.loads((study / "summary.json").read_text()) == reporting.summarise(kept)
    for seconds in (False, True):
        curves = [method_curves(one, "a", "train", "eval", seconds=seconds) for one in (kept, full)]
        assert curves[0] is not None
        assert curves[1] is not None
        np.testing.assert_allclose(curves[0].x, curves[1].x, rtol=1e-4)
        np.testing.assert_allclose(curves[0].returns, curves[1].returns, rtol=1e-4)
    names = {path.name for path in (study / "a" / "seed_1").iterdir()}
    assert "learning_curves.csv" in names
    assert not names & {"metrics.jsonl", "timing.jsonl"}
    assert (study / "figures" / "aggregates.webp").stat().st_size > 1000


def test_thinned_curves_keep_evaluations_and_average_the_rest() -> None:
    count = 2 * archive.MOST_POINTS
    metrics = pd.DataFrame(
        {
            "frames": np.arange(count) + 1,
            "loss/total": 1.0,
            "train/return/x": np.arange(count, dtype=float),
            "eval/train/return/x": [7.0 if i == 4 else np.nan for i in range(count)],
        }
    )
    timing = pd.DataFrame({"frames": [count], "seconds": [2.0 * count]})
    curves = archive.thinned_curves(metrics, timing)
    assert list(curves) == ["frames", "seconds", "eval/train/return/x", "train/return/x"]
    evaluated = curves.dropna(subset="eval/train/return/x")
    assert evaluated[["frames", "seconds"]].to_numpy().tolist() == [[5, 10.0]]
    averaged = curves["train/return/x"].dropna()
    assert len(averaged) == archive.MOST_POINTS
    assert averaged.iloc[0] == 0.5
    assert archive.thinned_curves(metrics, timing[:0])["seconds"].isna().all()


def test_a_learning_curve_without_seconds_is_refused(tmp_path: Path, runs: Path) -> None:
    archive.archive_study([runs], tmp_path / "study")
    path = tmp_path / "study" / "b" / "seed_0" / "learning_curves.csv"
    pd.read_csv(path).drop(columns="seconds").to_csv(path, index=False)
    with pytest.raises(reporting.RunFolderError, match="column 'seconds' is missing"):
        reporting.load_runs([tmp_path / "study"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no table of numbers"),
        (b"frames,seconds\nmany,1\n", "no table of numbers"),
        (b"frames,seconds\n1,2\n1,2,3,4\n", "no table of numbers"),
        (b"\xff\xfe\x00", "no table of numbers"),
        (b"frames,seconds\n,1\n", "'frames' has a row that is not a finite number"),
        (b"frames,seconds\ninf,1\n", "'frames' has a row that is not a finite number"),
    ],
)
def test_a_damaged_learning_curve_is_named(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "learning_curves.csv"
    path.write_bytes(content)
    with pytest.raises(reporting.RunFolderError, match=rf"learning_curves\.csv: .*{complaint}"):
        read_learning_curves(path)
