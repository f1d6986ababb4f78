"""The scripts as a user calls them: one small run trained, evaluated, filmed and reported on;
mistakes in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from hrl.config import CONFIG_DIR

SCRIPTS = CONFIG_DIR.parent / "scripts"


def call(script: str, *arguments: object, code: int = 0) -> str:
    """What the script printed; its errors where it is expected to fail."""
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SCRIPTS.parent)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A demonstration in miniature: both methods trained, evaluated, random play, the report."""
    out = tmp_path_factory.mktemp("demo")
    settings = [
        "suite=debug",
        "size=debug",
        "frames=256",
        "tracking.wandb=disabled",
        "evaluation.every=0",
        "threads=1",
    ]
    for method in ("skills", "ppo"):
        call("train.py", f"agent={method}", f"folder={out / method}", *settings)
    call("evaluate.py", out / "skills", out / "ppo", "--episodes=1")
    call("evaluate.py", "agent=random", *settings, f"folder={out / 'random'}", "--episodes=1")
    return out


def test_evaluation_covers_every_split_and_shuffle(folder):
    scores = pd.read_csv(folder / "skills" / "scores.csv")
    plain = scores[scores["intervention"] == "none"]
    assert set(plain["split"]) == {"train", "interpolation", "extrapolation_far"}
    assert set(scores["intervention"]) == {"none", "high_level_action_shuffle", "task_shuffle"}
    assert set(pd.read_csv(folder / "ppo" / "scores.csv")["intervention"]) == {
        "none",
        "task_shuffle",
    }
    usage = pd.read_csv(folder / "skills" / "skill_usage.csv")
    sums = usage.groupby(["split", "task"])["weight"].sum()
    assert sums.between(1 - 1e-6, 1 + 1e-6).all()
    assert list((folder / "skills" / "videos").glob("*.mp4"))


def test_a_split_evaluated_again_leaves_the_others(folder):
    path = folder / "ppo" / "scores.csv"
    before = path.read_bytes()
    call("evaluate.py", folder / "ppo", "--episodes=1", "--splits=interpolation", "--films=0")
    assert path.read_bytes() == before
    errors = call(
        "evaluate.py", folder / "ppo", "--episodes=2", "--splits=interpolation", "--films=0", code=2
    )
    assert "episodes 1 there and 2 now" in errors
    assert path.read_bytes() == before


def test_report_is_one_file_with_a_summary(folder):
    out = folder / "report"
    printed = call("report.py", folder / "skills", folder / "ppo", folder / "random", "--out", out)
    page = (out / "report.html").read_text()
    assert "skills" in printed
    assert "differs between these methods" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["methods"]) == {"skills", "ppo", "random"}
    cell = summary["methods"]["ppo"]["train"]
    expected = pd.read_csv(folder / "ppo" / "scores.csv").query(
        "split == 'train' and intervention == 'none'"
    )
    assert cell["return_mean"] == pytest.approx(expected["return"].mean())
    assert cell["episodes"] == len(expected)
    assert list((out / "figures").glob("*.png"))
    assert list((out / "figures").glob("*.pdf"))


def test_play_writes_a_film_per_task(folder, tmp_path):
    printed = call("play.py", folder / "skills", "--steps=5", f"--out={tmp_path}")
    films = [line for line in printed.splitlines() if line.endswith(".mp4")]
    assert len(films) == len(list(Path(tmp_path).glob("train_*.mp4"))) == 3
    before = printed[: printed.index(films[0])]
    assert "simulation and rendering" in before, "memory is said before it is taken"
    call("play.py", "agent=zero", "suite=debug", "--steps=3", f"--out={tmp_path / 'zero'}")
    assert len(list((tmp_path / "zero").iterdir())) == 3


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ["agent.skill_duration=4", "agent.skill_durationn=3"], "skill_durationn"),
        ("evaluate.py", ["nowhere"], "nowhere is not a run folder"),
        ("evaluate.py", ["agent=ppo"], "give the folder of a run"),
        (
            "evaluate.py",
            ["agent=zero", "suite=debug", "--episodes=100000000"],
            "of memory and may take",
        ),
        ("play.py", ["agent=zero", "suite=debug", "--steps=100000000"], "of memory and may take"),
        (
            "play.py",
            ["agent=random", "--stepps=3"],
            "the options are --split=..., --steps=..., --out=...",
        ),
        ("benchmark.py", ["speed"], "choose from env, learner"),
        ("benchmark.py", ["learner", "--iterations=0"], "it must be at least 1"),
    ],
)
def test_mistakes_are_one_line(script, arguments, message):
    errors = call(script, *arguments, code=2)
    assert message in errors
    assert "Traceback" not in errors
