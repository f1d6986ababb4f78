"""Runs on an external suite: named on the command line, trained, continued, evaluated."""

import json
from pathlib import Path

import pandas as pd
import pytest

from hrl.config import ConfigError, load
from hrl.run.evaluate import evaluate_run
from hrl.run.load import load_run, load_scripted
from hrl.run.train import train

COUNTER = "gym/tests.envs.external_fakes:Limited-v0"
QUIET = [
    "tracking.wandb=disabled",
    "tracking.videos=0",
    "tracking.progress=false",
    "threads=1",
    "size=debug",
]


def _overrides(folder: Path, *more: str) -> list[str]:
    return [f"suite={COUNTER}", f"folder={folder}", *QUIET, *more]


def test_a_suite_of_one_environment_is_named_on_the_command_line() -> None:
    _, plain = load([f"suite={COUNTER}", "agent=random", "suite.action_repeat=2"])
    assert plain["suite"]["action_repeat"] == 2
    assert plain["suite"]["splits"]["train"][0]["episode_length"] == 30
    assert plain["folder"] == f"runs/{plain['suite']['name']}/random/seed_0"


@pytest.mark.parametrize(("agent", "frames"), [("ppo", 1024), ("dreamer", 384)])
def test_a_run_is_trained_continued_and_evaluated(agent: str, frames: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    few = [
        "agent.batch_size=2",
        "agent.sequence_length=8",
        "agent.replay_capacity=600",
        "agent.train_ratio=0.25",
    ]
    chosen = [f"agent={agent}", *(few if agent == "dreamer" else [])]
    train(load(_overrides(folder, f"frames={frames // 2}", *chosen)), "a test")
    train(load(_overrides(folder, f"frames={frames}", *chosen)), "a test")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    played = [line["frames"] for line in lines]
    assert played[-1] >= frames
    assert played == sorted(set(played))
    returns = [
        value for line in lines for key, value in line.items() if key.startswith("train/return/")
    ]
    assert all(line["env/worker_deaths"] == 0 for line in lines)
    # An episode's thirty rewards lie between -3 and 5: broken ones, of the continuation, are not
    # counted.
    assert returns
    assert all(-90 <= value <= 150 for value in returns)
    scores = evaluate_run(load_run(folder), folder, "a test", 2, None, 1)
    plain = scores[scores["intervention"] == "none"]
    assert plain["length"].tolist() == [30, 30]
    assert list((folder / "videos").rglob("*.mp4"))


def test_random_play_is_scored_and_repeats_itself(tmp_path: Path) -> None:
    tables = []
    for name in ("one", "other"):
        run = load_scripted(_overrides(tmp_path / name, "agent=random"))
        tables.append(evaluate_run(run, tmp_path / name, "a test", 3, None, 0))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert len(tables[0]) == 3
    assert tables[0]["return"].nunique() > 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("suite=gym/HalfCheeta-v5", "no environment 'HalfCheeta-v5'.*HalfCheetah-v5"),
        ("suite=gym/no.such.module:Env-v0", "no.such.module"),
    ],
)
def test_an_unknown_environment_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(["agent=random", override])


def test_a_missing_package_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("envs.external.family.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="'metaworld' is not installed: pip install metaworld=="):
        load(["agent=random", "suite=metaworld_mt10"])
