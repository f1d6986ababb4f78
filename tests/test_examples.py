"""The examples: what they say at their tops, that they run, and what they do."""

import ast
import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from gymnasium.utils.env_checker import check_env

from envs import Suite, make_vec
from envs.families import FAMILIES
from examples.own_environment import Docking
from tests.example_commands import EXAMPLES, ROOT, commands_of, run_commands, short_commands

SUITES = ROOT / "examples" / "own_suite" / "suite"


@pytest.fixture(scope="module")
def pointer():
    """The suite of the task family, which is registered while these tests run."""
    runpy.run_path(str(ROOT / "examples" / "own_task_family.py"))
    yield Suite.from_dict(yaml.safe_load((SUITES / "pointer.yaml").read_text()))
    del FAMILIES["pointer"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_shows_and_how_it_is_run(example):
    text = ast.get_docstring(ast.parse(example.read_text()))
    assert text.splitlines()[0].endswith(".")
    assert any(words[0] in ("pixel-hrl", "python") for words in commands_of(example))


def test_examples_run(tmp_path):
    """Their trainings and scripts; `test_package` runs all of their commands, from the wheel."""
    commands = [words for path in EXAMPLES for words in short_commands(path)]
    chosen = [words for words in commands if words[1] not in ("evaluate", "suites")]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    printed = run_commands(
        Path(sys.executable), chosen, tmp_path, {**os.environ, "PYTHONPATH": path}
    )
    assert "return of one episode:" in printed
    for name in ("first", "docking", "pointer", "a2c", "ring", "pretrained"):
        assert (tmp_path / "runs" / name / "policy.safetensors").exists(), name


def test_the_environment_is_one_that_gymnasium_accepts():
    env = Docking(render_mode="rgb_array")
    check_env(env, skip_render_check=True)
    before = env.reset(seed=1)[0]
    towards = np.sign(before[4:] - before[:2])
    after, _, _, _, info = env.step(towards)
    assert np.linalg.norm(after[4:] - after[:2]) < np.linalg.norm(before[4:] - before[:2])
    assert not info["success"]
    env.boat = env.dock.copy()
    assert env.step(np.zeros(2))[4]["success"]
    image = env.render()
    assert image.dtype == np.uint8
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 3, "water, dock and boat"


def test_the_family_rewards_pointing_at_the_task_s_angle(pointer):
    angles = np.deg2rad([0.0, 5.0, 95.0, 180.0, 350.0, 720.0])
    physics = SimpleNamespace(fields={"qpos": torch.from_numpy(angles)[:, None]})
    goal = torch.zeros((6, 1), dtype=torch.float64)
    reward = pointer.family.reward(physics, goal)
    assert reward.tolist() == pytest.approx([1, 1, 0.5, 0, 1, 1])
    assert pointer.family.holding(physics, goal, reward).tolist() == [True, True, 0, 0, True, True]


def test_the_family_is_simulated_and_drawn(pointer):
    env = make_vec(pointer, 4, image_size=32)
    first = env.reset(seed=0)[0]["pixels"]
    last = env.step(np.ones((4, 1), np.float32))[0]["pixels"]
    env.close()
    assert all((one != other).any() for one, other in zip(first, last, strict=True))


def test_the_script_writes_the_suite_that_stands_beside_it():
    made = runpy.run_path(str(ROOT / "examples" / "own_suite" / "make_ring.py"))["make_suite"]()
    assert yaml.safe_load((SUITES / "ring.yaml").read_text()) == made
    assert Suite.from_dict(made).tasks("extrapolation_far")
