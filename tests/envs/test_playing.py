"""Every native suite can be played: all its tasks side by side, from pixels, at random."""

import numpy as np
import pytest

from envs import load_suite, make_vec
from envs.external.family import ExternalFamily
from envs.families.many_mazes import ManyMazes
from envs.resources import config_files

STEPS = 10
ALL = list(config_files("suite"))
NAMES = [name for name in ALL if not isinstance(load_suite(name).family, ExternalFamily)]


@pytest.mark.parametrize("name", NAMES)
def test_every_suite_can_be_played(name: str) -> None:
    suite = load_suite(name)
    tasks = [task for split in suite.splits.values() for task in split]
    env = make_vec(suite, len(tasks), tasks, threads=1)
    observation, _ = env.reset(seed=0)
    first = observation["pixels"]
    told = observation["task"]
    if not isinstance(suite.family, ManyMazes):  # whose goals are those of episodes
        np.testing.assert_array_equal(told, [suite.family.task_vector(task) for task in tasks])
    pays_progress = any(task.parameters.get("reward") == "progress" for task in tasks)
    lowest = -suite.action_repeat if pays_progress else 0
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        actions = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observation, reward, _, truncated, _ = env.step(actions)
        np.testing.assert_array_equal(observation["task"], told)
        assert ((reward >= lowest) & (reward <= suite.action_repeat)).all()
        assert not truncated.any()
    shades = observation["pixels"].reshape(len(tasks), -1, 3).std(axis=1).max(axis=1)
    assert (shades > 5).all(), "an image shows next to nothing"
    changed = (observation["pixels"] != first).any(axis=(1, 2, 3))
    still = [task.name for task, moved in zip(tasks, changed, strict=True) if not moved]
    assert not still, f"{still} do not move"
    env.close()
