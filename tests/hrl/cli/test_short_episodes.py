"""Agents with a world model where episodes have one to three steps: every command works, and no
table is empty."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from envs.resources import add_config_dir
from hrl.cli import main
from hrl.run.folder import RunFolder
from tests.hrl.evaluation.test_video_writer import decode

AGENTS = ["dreamer", "director"]
KINDS = ["external", "point_mass"]
SETTINGS = [
    "size=debug",
    "frames=32",
    "num_envs=4",
    "evaluation.every=32",
    "agent.batch_size=2",
    "agent.replay_capacity=600",
    "agent.train_ratio=0.5",
    "agent.log_interval=8",
    "tracking.wandb=disabled",
    "tracking.tensorboard=false",
    "tracking.videos=1",
    "tracking.progress=false",
    "threads=1",
]


@pytest.fixture(scope="module", autouse=True)
def _suites(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("own")
    (folder / "suite").mkdir()
    for steps in (1, 2, 3):
        for kind in KINDS:
            write_suite(folder, steps, kind)
    add_config_dir(folder)


def write_suite(folder: Path, steps: int, kind: str) -> None:
    """Write a suite of two tasks whose episodes have so many agent steps."""
    external = kind == "external"
    kwargs = f"{{ends_at: {steps}}}"
    counter = {"id": "tests.envs.external_fakes:Counter-v0", "render": "auto", "camera": ""}
    tasks = [
        {
            "name": f"task_{number}",
            "family": "gym" if external else "point_mass",
            "parameters": counter | {"kwargs": kwargs}
            if external
            else {"target": [0.1, number / 10]},
            # Environments of others end before the limit of their task.
            "episode_length": 50 if external else steps,
            "evaluation_seed": number,
        }
        for number in range(2)
    ]
    suite = {
        "name": f"{kind}_{steps}",
        "action_repeat": 1,
        "reference_return": 10.0,
        "parameter": "id" if external else "target",
        "splits": {"train": tasks},
    }
    (folder / "suite" / f"{kind}_{steps}.yaml").write_text(yaml.safe_dump(suite))


def check_commands(agent: str, kind: str, steps: int, folder: Path) -> None:
    """Train, evaluate and play, and check what was written."""
    # Sequences of our own tasks are no longer than their episodes are; others may hold several.
    length = 4 if kind == "external" else steps
    keys = [f"suite={kind}_{steps}", f"agent.sequence_length={length}", f"folder={folder}"]
    assert main(["train", f"agent={agent}", *keys, *SETTINGS]) == 0
    assert main(["evaluate", str(folder), "--episodes=2", "--videos=1"]) == 0
    assert main(["play", str(folder), "--size=48"]) == 0
    files = RunFolder(folder)
    lines = [json.loads(line) for line in files.metrics.read_text().splitlines()]
    assert lines[-1]["updates"] > 0
    assert any("eval/train/return" in line for line in lines)
    assert set(pd.read_csv(files.scores)["length"]) == {steps}
    assert len(decode(files.play / "train_task_0.mp4")[1]) == steps
    errors = pd.read_csv(files.open_loop_error)
    assert errors["horizon"].tolist() == [horizon for horizon in (1, 2) if horizon <= steps]
    names = {"open_loop", "goal_reaching"} if agent == "director" else {"open_loop"}
    for name in names:
        assert len(decode(files.play / f"train_task_1_{name}.mp4")[1]) > 0
        assert list(files.videos.glob(f"*_task_0_{name}.mp4"))
    if agent == "director":
        assert pd.read_csv(files.goal_distance)["points"].tolist() == ["goals", "states"]
        reaching = pd.read_csv(files.goal_reaching)
        # The first state is the same everywhere: worlds start at the goals of others.
        assert reaching.empty == (steps < 3)
        assert reaching["distance"].between(0, 1e3).all()


@pytest.mark.slow
def test_commands_work_where_episodes_have_one_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of environments that end after it, in sequences of several episodes."""
    check_commands("director", "external", 1, tmp_path / "run")
    printed = capsys.readouterr()
    assert "Empty" not in printed.out
    assert "(no goals: episodes are too short" in printed.out


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("agent", AGENTS)
def test_commands_work_where_episodes_are_short(
    agent: str, steps: int, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_commands(agent, kind, steps, tmp_path / "run")
    assert "Empty" not in capsys.readouterr().out
