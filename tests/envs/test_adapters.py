"""Our environments under Gymnasium's checker, SB3's checker and an SB3 agent."""

import warnings

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common import env_checker as sb3_checker
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import envs.vector.base
from envs import make_vec
from envs.adapters.gymnasium import SingleEnv
from envs.adapters.stable_baselines3 import Sb3VecEnv
from envs.vector.episodes import episode_rng
from tests.envs.small import one_task, short_suite


def _single(**arguments: object) -> SingleEnv:
    suite = short_suite()
    return SingleEnv(make_vec(suite, 1, one_task(suite), **{"image_size": 36, **arguments}))


def test_gymnasiums_checker_passes() -> None:
    env = _single(frame_stack=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Without a spec the checker cannot make the environment again in every render mode, and
        # says so.
        warnings.filterwarnings("ignore", message=".*spec.*")
        check_env(env)


def test_sb3s_checker_passes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_checker.check_env(_single())


def test_a_single_environment_needs_a_reset_after_an_episodes_end() -> None:
    env, vector = _single(), make_vec(short_suite(), 1, one_task(short_suite()), image_size=36)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2, np.float32))
    env.reset(seed=3)
    vector.reset(seed=3)
    for _ in range(6):
        observation, _, terminated, truncated, info = env.step(np.ones(2, np.float32))
        fresh, *_, infos = vector.step(np.ones((1, 2), np.float32))
    assert (terminated, truncated) == (False, True)
    assert info["episode_statistics"]["length"] == 12
    np.testing.assert_array_equal(observation["pixels"], infos["final_obs"][0]["pixels"])
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(env.reset()[0]["pixels"], fresh["pixels"][0])
    with pytest.raises(ValueError, match="num_envs=1"):
        SingleEnv(make_vec(short_suite(), 2, image_size=36))


def test_behaves_like_gymnasiums_own_vector_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces, keys, types, autoreset and values equal those of SyncVectorEnv over single
    environments."""
    # SyncVectorEnv gives its i-th environment the seed s + i; ours differ by their number.
    monkeypatch.setattr(
        envs.vector.base,
        "episode_rng",
        lambda seed, stream, env, episode: episode_rng(seed + env, stream, 0, episode),
    )
    suite = short_suite()
    theirs = SyncVectorEnv(
        [lambda: _single(frame_stack=2)] * 3, autoreset_mode=AutoresetMode.SAME_STEP
    )
    ours = make_vec(suite, 3, one_task(suite), frame_stack=2, image_size=36)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    for space in (
        "single_observation_space",
        "single_action_space",
        "observation_space",
        "action_space",
    ):
        assert getattr(ours, space) == getattr(theirs, space)
    pairs = [(ours.reset(seed=7), theirs.reset(seed=7))]
    rng = np.random.default_rng(0)
    for _ in range(14):
        actions = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        pairs.append((ours.step(actions), theirs.step(actions)))
    for mine, other in pairs:
        _assert_same(mine[0], other[0])
        for values, expected in zip(mine[1:-1], other[1:-1], strict=True):
            np.testing.assert_allclose(values, expected, rtol=1e-6)
        assert ("_final_obs" in mine[-1]) == ("_final_obs" in other[-1])
    ended = [(mine[-1], other[-1]) for mine, other in pairs if "_final_obs" in mine[-1]]
    assert len(ended) == 2
    for infos, expected in ended:
        np.testing.assert_array_equal(infos["_final_obs"], expected["_final_obs"])
        for last, other in zip(infos["final_obs"], expected["final_obs"], strict=True):
            _assert_same(last, other)
        for key, values in infos["episode_statistics"].items():
            np.testing.assert_allclose(values, expected["final_info"]["episode_statistics"][key])


def _assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for key, values in ours.items():
        np.testing.assert_array_equal(values, theirs[key])
        assert values.dtype == theirs[key].dtype


def test_sb3_sees_episode_ends_as_it_expects() -> None:
    env = Sb3VecEnv(make_vec(short_suite(), 4, image_size=36))
    assert env.env_is_wrapped(Monitor) == [True] * 4
    assert env.get_attr("action_repeat", indices=[0, 2]) == [2, 2]
    with pytest.raises(ValueError, match="action_repeat"):
        env.set_attr("action_repeat", 3)
    with pytest.raises(ValueError, match="step_async"):
        env.step_wait()
    env.seed(5)
    first = env.reset()
    total = np.zeros(4)
    for _ in range(6):
        observation, rewards, dones, infos = env.step(np.ones((4, 2), np.float32))
        total += rewards
    assert dones.all()
    for index, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is True
        assert info["terminal_observation"]["pixels"].shape == (36, 36, 3)
        assert not np.array_equal(
            info["terminal_observation"]["pixels"], observation["pixels"][index]
        )
        assert info["episode"]["r"] == pytest.approx(total[index])
        assert info["episode"]["l"] == 6
    env.seed(5)
    np.testing.assert_array_equal(env.reset()["pixels"], first["pixels"])
    assert len(env.get_images()) == 4
    assert env.render("rgb_array").ndim == 3
    assert env.env_method("render_frames", 1, size=36)[0].shape == (36, 36, 3)
    env.close()


def test_sb3_does_not_get_the_return_of_a_part_of_an_episode() -> None:
    env = Sb3VecEnv(
        make_vec(short_suite(length=100), 4, image_size=36, random_initial_episode_step=True)
    )
    env.reset()
    ends: list[list[dict]] = [[] for _ in range(4)]
    for _ in range(110):
        _, _, dones, infos = env.step(np.zeros((4, 2), np.float32))
        for index in np.flatnonzero(dones):
            ends[index].append(infos[index])
    assert [["episode" in info for info in world][:2] for world in ends] == [[False, True]] * 4
    assert all(info["episode"]["l"] == 50 for world in ends for info in world[1:])


def test_a_few_steps_of_sb3s_ppo() -> None:
    env = Sb3VecEnv(make_vec(short_suite(length=20), 4, image_size=36))
    agent = PPO(
        "MultiInputPolicy", env, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu"
    )
    agent.learn(128)
    assert agent.num_timesteps == 128
    mean, _ = evaluate_policy(agent, env, n_eval_episodes=4)
    assert np.isfinite(mean)
    env.close()
