"""Small studies in a folder of a user's own."""

from functools import cache

import pytest

from envs import resources
from hrl.config import load
from hrl.study import plan
from hrl.study.config import load_study

TINY = """
description: the whole program in seconds
suites: [debug]
seeds: [3, 4]
frames: 512
overrides: [size=debug, tracking.wandb=disabled, tracking.videos=0, evaluation.every=0, device=cpu]
methods:
  ppo: {overrides: [agent=ppo]}
  skills: {overrides: [agent=skills]}
controls:
  k1: {overrides: [agent=skills, agent.skill_duration=1], seeds: 1, note: no abstraction}
evaluation: {episodes: 1, videos: 0, baselines: [random]}
reuse: []
rate_seconds: 0
"""


@pytest.fixture(scope="session")
def config_dir(tmp_path_factory):
    """A user's folder with the experiment `tiny`."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "study").mkdir()
    (folder / "study" / "tiny.yaml").write_text(TINY)
    return folder


@cache
def loaded(*overrides):
    """A composed run, of which a session needs few different ones, at a third of a second each."""
    return load(overrides)


@pytest.fixture
def study(config_dir, monkeypatch, tmp_path):
    """Loads `tiny` with KEY=VALUE arguments, its folder below the test's own."""
    monkeypatch.setattr(resources, "_added", [])
    resources.add_config_dir(config_dir)
    monkeypatch.setattr(plan, "load", lambda overrides: loaded(*overrides))
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: load_study("tiny", list(overrides))
