"""How often a run is evaluated and saved is decided once, and kept."""

import json

import pytest

from hrl.config import load
from hrl.run.folder import RunFolder
from hrl.run.schedule import crossed, with_schedule
from hrl.run.train import train


def schedule(composed):
    assert composed.plain["checkpoint_every"] == composed.config.checkpoint_every
    assert composed.plain["evaluation"]["every"] == composed.config.evaluation.every
    return composed.config.checkpoint_every, composed.config.evaluation.every


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["frames=60_000"], (6_000, 6_000)),
        (["frames=10_000_000"], (200_000, 1_000_000)),
        (["frames=5"], (1, 1)),
        (["frames=60_000", "evaluation.every=0", "checkpoint_every=7"], (7, 0)),
        (["frames=60_000", "evaluation.every=null"], (6_000, 6_000)),
    ],
)
def test_a_new_run_is_evaluated_and_saved_ten_times(overrides, expected):
    assert schedule(with_schedule(load(overrides), None)) == expected


def test_a_continued_run_keeps_its_numbers_unless_others_are_given():
    saved = with_schedule(load(["frames=60_000"]), None).plain
    assert schedule(with_schedule(load(["frames=600_000"]), saved)) == (6_000, 6_000)
    given = load(["frames=600_000", "checkpoint_every=50", "evaluation.every=0"])
    assert schedule(with_schedule(given, saved)) == (50, 0)


def test_multiples_that_were_passed():
    assert crossed(10, 9, 10)
    assert not crossed(10, 10, 19)
    assert not crossed(0, 0, 100)


def test_a_run_writes_its_numbers_and_may_change_them(tmp_path):
    folder = RunFolder(tmp_path / "run")
    overrides = [
        "agent=ppo",
        "suite=debug",
        "size=debug",
        "checkpoint_every=null",
        "evaluation.every=null",
        "tracking.wandb=disabled",
        "tracking.progress=false",
        "tracking.videos=0",
        "threads=1",
        f"folder={folder}",
    ]
    train(load([*overrides, "frames=1024"]), "a test")
    assert folder.read_config()["checkpoint_every"] == 102
    assert folder.read_config()["evaluation"]["every"] == 102
    with pytest.warns(UserWarning, match=r"'threads': 2.*'threads': 1.*last bits may differ"):
        train(load([*overrides, "frames=1536", "evaluation.every=0", "threads=2"]), "a test")
    assert folder.read_config()["evaluation"]["every"] == 0
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    evaluated = [line["frames"] for line in lines if "eval/train/return" in line]
    assert evaluated
    assert max(evaluated) <= 1024 < lines[-1]["frames"]
