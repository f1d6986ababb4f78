"""A vector environment with physics=warp is the one with physics=mujoco, to rounding."""

import numpy as np
import pytest

from envs import PixelVectorEnv, load_suite, make_vec
from tests.envs.simulation.warp_parity import alike
from tests.envs.small import final, short_suite

STACK = 3


def both(suite: str, num_envs: int, length: int = 12, **options) -> list[PixelVectorEnv]:
    return [
        make_vec(
            short_suite(suite, length),
            num_envs,
            frame_stack=STACK,
            random_initial_episode_step=True,
            threads=1,
            physics=physics,
            **options,
        )
        for physics in ("warp", "mujoco")
    ]


def check_alike(envs: list[PixelVectorEnv], steps: int, tolerance: float = 1e-5) -> int:
    """Step both under the same actions, compare all that they return, and count ended episodes."""
    rng = np.random.default_rng(0)
    ours, theirs = (env.reset()[0] for env in envs)
    ended = 0
    for _ in range(steps):
        assert alike(ours["pixels"], theirs["pixels"]) > 0.99
        np.testing.assert_array_equal(ours["task"], theirs["task"])
        actions = rng.uniform(-1, 1, envs[0].action_space.shape).astype(np.float32)
        found, expected = (env.step(actions) for env in envs)
        ours, theirs = found[0], expected[0]
        np.testing.assert_allclose(found[1], expected[1], atol=tolerance)
        assert found[1].dtype == np.float32
        np.testing.assert_array_equal(found[3], expected[3])
        if found[3].any():
            ended += int(found[3].sum())
            assert alike(final(found[4], "pixels"), final(expected[4], "pixels")) > 0.99
            for name, values in expected[4]["episode_statistics"].items():
                np.testing.assert_allclose(
                    found[4]["episode_statistics"][name], values, atol=20 * tolerance
                )
    return ended


def test_point_masses_are_those_of_mujoco_through_ends_of_episodes() -> None:
    envs = both("point_mass", 3, image_size=32)
    assert check_alike(envs, steps=8) >= 3
    saved = envs[0].state_dict()
    actions = np.ones(envs[0].action_space.shape, np.float32)
    expected = [envs[0].step(actions) for _ in range(4)]
    envs[0].load_state_dict(saved)
    for step in expected:
        again = envs[0].step(actions)
        np.testing.assert_array_equal(again[0]["pixels"], step[0]["pixels"])
        np.testing.assert_array_equal(again[1], step[1])
    for env in envs:
        assert env.render_frames(1, 48).shape == (48, 48, 3)
        env.close()


def test_what_warp_cannot_do_is_refused_with_what_can() -> None:
    for suite, reason in (
        ("ant_maze", "5 noslip iterations"),
        ("compat_quadruped_escape", "terrain"),
        ("compat_point_mass", "a model that differs"),
    ):
        with pytest.raises(ValueError, match=rf"{reason}.*physics=mujoco can"):
            make_vec(suite, 2, physics="warp")
    with pytest.raises(ValueError, match="choose from auto, mujoco, warp"):
        make_vec("point_mass", 2, physics="isaac")


def test_external_environments_are_refused_with_what_can() -> None:
    with pytest.raises(ValueError, match=r"other libraries; physics=mujoco can"):
        make_vec("robotics_maze", 2, physics="warp")


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["mixed_speed", "quadruped_maze", "cheetah_behaviours"])
def test_other_suites_are_those_of_mujoco(suite: str) -> None:
    envs = both(suite, max(3, len(load_suite(suite).tasks("train")) // 2), length=24)
    assert check_alike(envs, steps=6, tolerance=1e-3)
    for env in envs:
        env.close()
