"""Wrappers of Gymnasium and stable-baselines3 over our environments, as their users stack them."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Env, wrappers
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import vector
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecVideoRecorder,
)
from torch import nn

from envs import PixelVectorEnv, make_vec
from envs.adapters.gymnasium import SingleEnv
from envs.adapters.stable_baselines3 import Sb3VecEnv
from tests.envs.small import one_task, short_suite

SIZE = 36  # stable-baselines3's own encoder takes no smaller images
LENGTH = 6
"""Agent steps of an episode: 12 control steps under the action repeat of 2."""


def _single() -> SingleEnv:
    return SingleEnv(make_vec(short_suite(), 1, one_task(short_suite()), image_size=SIZE))


def _vector(num_envs: int = 2) -> PixelVectorEnv:
    return make_vec(short_suite(), num_envs, image_size=SIZE)


def _stable(num_envs: int = 2) -> Sb3VecEnv:
    return Sb3VecEnv(_vector(num_envs))


def _episodes(env: Env) -> list[dict[str, Any]]:
    """The infos at the ends of two episodes under full actions."""
    ends: list[dict[str, Any]] = []
    env.reset(seed=1)
    while len(ends) < 2:
        _, _, terminated, truncated, info = env.step(np.ones(2, np.float32))
        if terminated or truncated:
            ends.append(info)
            env.reset()
    env.close()
    return ends


SINGLE_WRAPPERS: dict[str, tuple[Callable[[Env], Env], int]] = {
    "RecordEpisodeStatistics": (lambda env: env, LENGTH),
    "TimeLimit": (lambda env: wrappers.TimeLimit(env, 4), 4),
    "TransformReward": (lambda env: wrappers.TransformReward(env, lambda reward: 2 * reward), 6),
    "FrameStackObservation": (lambda env: wrappers.FrameStackObservation(env, 3), LENGTH),
    "NormalizeReward": (wrappers.NormalizeReward, LENGTH),
    "Monitor": (Monitor, LENGTH),
}


@pytest.mark.parametrize("name", [name for name in SINGLE_WRAPPERS if name != "Monitor"])
def test_gymnasiums_wrappers_count_agent_steps(name: str) -> None:
    wrap, length = SINGLE_WRAPPERS[name]
    ends = _episodes(wrappers.RecordEpisodeStatistics(wrap(_single())))
    assert [end["episode"]["l"] for end in ends] == [length, length]
    whole = [end for end in ends if "episode_statistics" in end]
    assert len(whole) == 2 * (length == LENGTH)
    for end in whole:
        assert end["episode_statistics"]["length"] == 2 * LENGTH, "in control steps"
        if name in ("RecordEpisodeStatistics", "FrameStackObservation"):
            expected = pytest.approx(end["episode_statistics"]["return"])
            assert end["episode"]["r"] == expected


def test_sb3s_monitor_counts_agent_steps_and_its_callbacks_read_the_success() -> None:
    ends = _episodes(Monitor(_single()))
    assert [end["episode"]["l"] for end in ends] == [LENGTH, LENGTH]
    assert [end["is_success"] for end in ends] == [False, False]


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Frames and frames per second of the videos that MoviePy, which is not installed, wrote."""
    written: list[tuple[int, float]] = []

    class Clip:
        def __init__(self, frames: list[np.ndarray], fps: float) -> None:
            assert all(frame.shape == frames[0].shape for frame in frames)
            assert frames[0].dtype == np.uint8
            written.append((len(frames), fps))

        def write_videofile(self, path: str, **settings: Any) -> None:
            Path(path).write_bytes(b"")

    clip = SimpleNamespace(ImageSequenceClip=Clip)
    monkeypatch.setitem(sys.modules, "moviepy", clip)
    monkeypatch.setitem(sys.modules, "moviepy.video.io.ImageSequenceClip", clip)
    return written


@pytest.mark.filterwarnings("ignore:.*Overwriting existing videos")
def test_recorders_get_images_at_the_speed_of_the_control(
    clips: list[tuple[int, float]], tmp_path: Path
) -> None:
    speed = _vector().metadata["render_fps"]
    single = wrappers.RecordVideo(_single(), str(tmp_path), episode_trigger=lambda _: True)
    _episodes(single)
    assert clips[:2] == [(LENGTH + 1, speed)] * 2
    clips.clear()
    stable = VecVideoRecorder(_stable(), str(tmp_path), lambda step: step == 0, video_length=4)
    stable.reset()
    for _ in range(5):
        stable.step(np.ones((2, 2), np.float32))
    stable.close()
    assert clips == [(5, speed)]


def _vector_ends(env: VectorEnv) -> list[dict[str, Any]]:
    ends = []
    env.reset(seed=1)
    for _ in range(2 * LENGTH):
        _, _, terminated, truncated, infos = env.step(np.ones((2, 2), np.float32))
        ends += [infos] if (terminated | truncated).any() else []
    env.close()
    return ends


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: env,
        lambda env: vector.TransformReward(env, lambda reward: reward),
        vector.ClipAction,
        lambda env: vector.RescaleAction(env, -1.0, 1.0),
    ],
    ids=["alone", "TransformReward", "ClipAction", "RescaleAction"],
)
def test_gymnasiums_vector_wrappers_count_agent_steps(
    wrap: Callable[[VectorEnv], VectorEnv],
) -> None:
    ends = _vector_ends(vector.RecordEpisodeStatistics(wrap(_vector())))
    assert len(ends) == 2
    for infos in ends:
        assert infos["episode"]["l"].tolist() == [LENGTH] * 2
        np.testing.assert_allclose(infos["episode"]["r"], infos["episode_statistics"]["return"])


STABLE: dict[str, Callable[[], VecEnv]] = {
    "Sb3VecEnv": _stable,
    "DummyVecEnv": lambda: DummyVecEnv([_single]),
    "DummyVecEnv of Monitor": lambda: DummyVecEnv([lambda: Monitor(_single())]),
    "DummyVecEnv of RecordEpisodeStatistics": lambda: DummyVecEnv(
        [lambda: wrappers.RecordEpisodeStatistics(_single())]
    ),
    "VecMonitor": lambda: VecMonitor(DummyVecEnv([_single])),
    "VecMonitor of Sb3VecEnv": lambda: VecMonitor(_stable()),
    "VecFrameStack": lambda: VecFrameStack(_stable(), 2),
    "VecNormalize": lambda: VecNormalize(_stable(), norm_obs=False),
}


@pytest.mark.parametrize("name", STABLE)
def test_sb3_learns_over_every_stack_of_wrappers(name: str) -> None:
    env = STABLE[name]()
    agent = PPO(
        "MultiInputPolicy",
        env,
        n_steps=8,
        batch_size=8,
        n_epochs=1,
        policy_kwargs={"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 8}},
        device="cpu",
    )
    agent.learn(16 * env.num_envs)
    env.close()
    assert agent.ep_info_buffer is not None
    lengths = [episode["l"] for episode in agent.ep_info_buffer]
    assert lengths == [LENGTH] * (0 if name == "DummyVecEnv" else 2 * env.num_envs)
    assert len(agent.ep_success_buffer or ()) == 2 * env.num_envs


class CleanRLAgent(nn.Module):
    """The actor and critic of CleanRL's ppo_continuous_action.py, over pixels and task."""

    def __init__(self, envs: SyncVectorEnv | vector.RecordEpisodeStatistics) -> None:
        super().__init__()
        spaces = envs.single_observation_space
        inputs = sum(int(np.prod(spaces[key].shape)) for key in ("pixels", "task"))
        actions = int(np.prod(envs.single_action_space.shape or ()))
        self.critic = nn.Linear(inputs, 1)
        self.actor_mean = nn.Linear(inputs, actions)
        self.actor_logstd = nn.Parameter(torch.zeros(1, actions))

    def forward(self, observation: dict[str, np.ndarray]) -> torch.Tensor:
        pixels = torch.from_numpy(observation["pixels"]).flatten(1) / 255
        return torch.cat([pixels, torch.from_numpy(observation["task"])], 1)

    def policy(self, features: torch.Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.actor_mean(features), self.actor_logstd.exp())


@pytest.mark.parametrize("kind", ["ours", "gymnasium"])
def test_cleanrls_loop_learns_and_finds_episodes_and_final_observations(kind: str) -> None:
    """A rollout and an update, with the names and indices by which CleanRL's loops read `infos`."""
    torch.manual_seed(0)
    if kind == "ours":
        envs = vector.RecordEpisodeStatistics(_vector())
    else:
        singles = [lambda: wrappers.RecordEpisodeStatistics(_single())] * 2
        envs = SyncVectorEnv(singles, autoreset_mode=AutoresetMode.SAME_STEP)
    agent = CleanRLAgent(envs)
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-2, eps=1e-5)
    next_obs, _ = envs.reset(seed=1)
    rows: list[tuple[torch.Tensor, ...]] = []
    returns: list[float] = []
    for _ in range(LENGTH):
        features = agent(next_obs)
        with torch.no_grad():
            action = agent.policy(features).sample()
            value = agent.critic(features).flatten()
            log_prob = agent.policy(features).log_prob(action).sum(1)
        next_obs, reward, _, truncations, infos = envs.step(action.numpy())
        reward = np.array(reward)
        for index in np.flatnonzero(truncations):  # the return goes on beyond a time limit
            last = infos["final_obs"][index]
            with torch.no_grad():
                beyond = agent.critic(agent({key: value[None] for key, value in last.items()}))
            reward[index] += 0.99 * float(beyond)
        ended = infos if kind == "ours" else infos.get("final_info", {})
        if "episode" in ended:
            assert ended["episode"]["l"][ended["_episode"]].tolist() == [LENGTH] * 2
            returns += ended["episode"]["r"][ended["_episode"]].tolist()
        rows.append((features, action, log_prob, value, torch.from_numpy(reward)))
    envs.close()
    assert len(returns) == 2
    features, actions, log_probs, values, rewards = (
        torch.cat(column) for column in zip(*rows, strict=True)
    )
    before = agent.actor_mean.weight.clone()
    ratio = (agent.policy(features).log_prob(actions).sum(1) - log_probs).exp()
    loss = ((agent.critic(features)[:, 0] - rewards) ** 2).mean() - (
        ratio * (rewards - values)
    ).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert not torch.equal(agent.actor_mean.weight, before)
