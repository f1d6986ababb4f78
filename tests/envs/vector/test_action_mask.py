"""The observation's action mask says which numbers of an action the world's body uses."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from envs import PixelVectorEnv, Suite, Task, make_vec
from envs.adapters.gymnasium import SingleEnv
from envs.adapters.stable_baselines3 import Sb3VecEnv
from tests.envs.small import final, one_task, short_suite

SIZE = 24


def _external_task(name: str, length: int) -> Task:
    known = {
        "id": f"tests.envs.external_fakes:{name}-v0",
        "kwargs": "{}",
        "render": "auto",
        "camera": "",
    }
    return Task(name, "gym", known, length, evaluation_seed=len(name))


def _two_bodies() -> Suite:
    tasks = (_external_task("Counter", 4), _external_task("SixActions", 4))
    return Suite("two_bodies", 1, 100.0, "id", {"train": tasks})


def _masks(used: np.ndarray, action_size: int = 6) -> np.ndarray:
    return np.array([[number < count for number in range(action_size)] for count in used])


@pytest.fixture(scope="module")
def two_bodies() -> Iterator[PixelVectorEnv]:
    """Three worlds that change between bodies of two and of six actions."""
    env = make_vec(_two_bodies(), 3, image_size=SIZE, threads=1)
    yield env
    env.close()


def test_bodies_with_equal_task_vectors_have_different_masks(two_bodies: PixelVectorEnv) -> None:
    observation, infos = two_bodies.reset(seed=0)
    assert infos["task_index"].tolist() == [0, 1, 0]
    assert (observation["task"] == 1).all()
    assert observation["action_mask"].dtype == bool
    np.testing.assert_array_equal(observation["action_mask"], _masks(np.array([2, 6, 2])))
    assert two_bodies.observation_space.contains(observation)


def test_the_mask_follows_the_current_task_and_the_final_observations_the_ended_one(
    two_bodies: PixelVectorEnv,
) -> None:
    observation, infos = two_bodies.reset(seed=0)
    ends = 0
    for _ in range(9):
        actions = np.zeros((3, 6), np.float32)
        before = observation["action_mask"]
        observation, _, _, truncated, infos = two_bodies.step(actions)
        if truncated.any():
            np.testing.assert_array_equal(final(infos, "action_mask"), before)
            np.testing.assert_array_equal(observation["action_mask"], ~before | _masks([2] * 3))
            ends += 1
        else:
            np.testing.assert_array_equal(observation["action_mask"], before)
    assert ends == 2


def test_worlds_of_a_mixed_suite_have_the_masks_of_their_bodies() -> None:
    suite = short_suite("mixed_speed", length=4)
    sizes = {"walker": 6, "cheetah": 6, "quadruped": 12}
    used = np.array([sizes[task.name.split("_")[0]] for task in suite.tasks("train")])
    env = make_vec(suite, 6, image_size=16)
    observation, infos = env.reset(seed=0)
    for _ in range(5):
        expected = _masks(used[infos["task_index"]], 12)
        np.testing.assert_array_equal(observation["action_mask"], expected)
        observation, *_, infos = env.step(np.zeros((6, 12), np.float32))
        if "final_obs" in infos:
            np.testing.assert_array_equal(final(infos, "action_mask"), expected)
    env.close()


def test_a_suite_of_one_body_has_masks_without_padding() -> None:
    env = make_vec(short_suite(), 2, image_size=16)
    mask = torch.from_numpy(env.reset()[0]["action_mask"])
    assert mask.dtype == torch.bool
    assert mask.shape == (2, 2)
    assert mask.all()
    env.close()


def test_other_libraries_get_the_mask() -> None:
    suite = short_suite()
    single = SingleEnv(make_vec(suite, 1, one_task(suite), image_size=36))
    assert single.reset()[0]["action_mask"].tolist() == [True, True]
    single.close()
    env = Sb3VecEnv(make_vec(short_suite(length=4), 2, image_size=36))
    assert env.reset()["action_mask"].tolist() == [[True, True]] * 2
    infos: list[dict[str, Any]] = []
    for _ in range(2):
        *_, infos = env.step(np.zeros((2, 2), np.float32))
    assert infos[0]["terminal_observation"]["action_mask"].tolist() == [True, True]
    env.close()
