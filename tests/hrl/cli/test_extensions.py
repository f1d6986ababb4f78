"""An agent, a task family and a suite of a user's own, outside the checkout."""

import subprocess
import sys

import pandas as pd
import pytest

from envs.resources import config_files

MODULE = """
from dataclasses import dataclass

from envs.families import register_family
from envs.families.point_mass import PointMass
from hrl.agents.ppo import PPO, PPOConfig
from hrl.agents.registry import register_agent
from hrl.config_field import config_field


@dataclass(frozen=True)
class MineConfig(PPOConfig):
    name: str = config_field("mine", "the agent's name")


@register_agent("mine", config=MineConfig)
class Mine(PPO):
    pass


register_family("my_family", PointMass())
"""
SETTINGS = [
    "agent=mine",
    "suite=my_suite",
    "size=debug",
    "experiment=my_experiment",
    "tracking.wandb=disabled",
    "evaluation.every=0",
    "threads=1",
    "folder=run",
]
OWN = ["--import=my_module", "--config-dir=my files"]
PROGRAM = "import sys; from hrl.cli import main; sys.exit(max(main(c) for c in {commands}))"


def call(folder, *commands, code=0):
    """Run subcommands in one process of its own; returns what it printed."""
    command = [sys.executable, "-c", PROGRAM.format(commands=list(commands))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a user's files, and a run of them."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_module.py").write_text(MODULE)
    files = folder / "my files"
    for group in ("suite", "experiment"):
        (files / group).mkdir(parents=True)
    suite = config_files("suite")["debug"].read_text()
    suite = suite.replace("name: debug", "name: my_suite").replace("point_mass", "my_family")
    (files / "suite" / "my_suite.yaml").write_text(suite)
    (files / "experiment" / "my_experiment.yaml").write_text("# @package _global_\nframes: 256\n")
    evaluate = ["evaluate", "run", "--episodes=1", "--videos=0", "--import=my_module"]
    call(folder, ["train", *OWN, *SETTINGS], evaluate)
    return folder


def test_a_run_of_own_agent_family_and_suite_is_scored(folder):
    scores = pd.read_csv(folder / "run" / "scores.csv")
    assert set(scores["method"]) == {"mine"}
    assert set(scores["frames"]) == {256}
    assert "- my_module" in (folder / "run" / "config.yaml").read_text()


def test_the_module_of_a_saved_run_is_not_imported_without_the_flag(folder):
    errors = call(
        folder, ["evaluate", "run"], ["train", "--config-dir=my files", *SETTINGS], code=2
    )
    first, second = errors.splitlines()
    assert "add --import=my_module" in first
    assert "mine" in second
    assert "--import=MODULE" in second


def test_files_of_the_project_s_names_are_refused(folder, tmp_path):
    (tmp_path / "size").mkdir()
    (tmp_path / "size" / "xs.yaml").write_text("")
    errors = call(folder, ["train", f"--config-dir={tmp_path}", "agent=ppo"], code=2)
    assert "size/xs.yaml has the name of" in errors
