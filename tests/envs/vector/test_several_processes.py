"""Environments of several processes are those of one, cut in pieces."""

from collections.abc import Iterator

import numpy as np
import pytest

from envs import PixelVectorEnv, make_vec

PIECES = 2
STEPS = 25


def played(env: PixelVectorEnv, first: int, total: int) -> Iterator[list[np.ndarray]]:
    """What every step shows, under actions by the number of the world among all."""
    observation, infos = env.reset()
    rows = slice(first, first + env.num_envs)
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        if step == STEPS // 2:
            observation, infos = env.reset()  # of every world the second episode or the third
        yield [*observation.values(), infos["task_index"]]
        actions = rng.uniform(-1, 1, (total, env.action_space.shape[1])).astype(np.float32)
        observation, reward, _, truncated, infos = env.step(actions[rows])
        yield [reward, truncated]


@pytest.mark.parametrize(("suite", "count"), [("debug", 10), ("mixed_speed", 24)])
def test_two_pieces_have_exactly_the_episodes_of_the_whole(suite, count):
    options = {"seed": 4, "image_size": 16, "threads": 1, "random_initial_episode_step": True}
    whole = make_vec(suite, count, **options)
    size = count // PIECES
    pieces = [
        make_vec(suite, size, first_env=first, total_envs=count, **options)
        for first in range(0, count, size)
    ]
    several = zip(*(played(one, i * size, count) for i, one in enumerate(pieces)), strict=True)
    for expected, parts in zip(played(whole, 0, count), several, strict=True):
        for one, *own in zip(expected, *parts, strict=True):
            np.testing.assert_array_equal(np.concatenate(own), one)
    for env in (whole, *pieces):
        env.close()


def test_a_piece_that_is_not_within_the_whole_is_refused():
    with pytest.raises(ValueError, match="first_env is 3; 4 of total_envs=6 worlds begin at one"):
        make_vec("debug", 4, first_env=3, total_envs=6)
