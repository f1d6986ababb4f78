"""Which world plays which episode of which task, for one body and for several."""

import numpy as np
import pytest

from envs import PixelVectorEnv, Task
from envs.vector.episodes import Episodes

SPEEDS = [Task(f"speed_{speed}", "walker_speed", {"speed": speed}, 8, 0) for speed in range(5)]


@pytest.mark.parametrize("num_envs", [1, 3, 7])
def test_tasks_of_one_body_are_assigned_round_robin(num_envs: int) -> None:
    episodes = Episodes(SPEEDS, num_envs, hold_steps=[1] * 5)
    for episode in range(6):
        episodes.begin(np.ones(num_envs, bool))
        place = np.arange(num_envs) + episode * num_envs
        np.testing.assert_array_equal(episodes.task_index, place % 5)
        np.testing.assert_array_equal(episodes.task_episode, place // 5)


def test_worlds_keep_their_bodies_and_play_the_tasks_of_those_without_a_gap() -> None:
    """Compare with worlds of each body alone, in an order of bodies that is not sorted."""
    bodies = [1, 0, 1, 1, 0]
    episodes = Episodes(SPEEDS, 8, hold_steps=[3, 2, 3, 3, 2], bodies=bodies)
    own_tasks = {body: [task for task in range(5) if bodies[task] == body] for body in (0, 1)}
    worlds = {body: [env for env in range(8) if bodies[env % 5] == body] for body in (0, 1)}
    played = []
    for episode in range(7):
        episodes.begin(np.ones(8, bool))
        for body, envs in worlds.items():
            for rank, env in enumerate(envs):
                place = rank + episode * len(envs)
                task = own_tasks[body][place % len(own_tasks[body])]
                assert (episodes.body[env], episodes.rank[env]) == (body, rank)
                assert episodes.task_index[env] == task
                assert episodes.task_episode[env] == place // len(own_tasks[body])
                played.append((task, int(episodes.task_episode[env])))
    assert len(set(played)) == len(played)
    for task in range(5):
        numbers = sorted(number for other, number in played if other == task)
        assert numbers == list(range(len(numbers)))


def test_a_success_must_be_held_as_long_as_the_worlds_body_asks() -> None:
    episodes = Episodes(SPEEDS[:2], 2, hold_steps=[1, 2], bodies=[0, 1])
    episodes.begin(np.ones(2, bool))
    held = [episodes.advance(np.zeros(2), np.ones(2, bool)).tolist() for _ in range(2)]
    assert held == [[True, False], [True, True]]


def test_the_base_of_the_vector_environments_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        PixelVectorEnv()
