"""External environments as vector environments: against a slow loop, deaths, continuation."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest
from gymnasium.vector import AutoresetMode

from envs import Suite, Task, load_suite, make_vec
from envs.external.env import ExternalEnv
from envs.external.families import external_family
from envs.external.forkserver import ForkServer
from envs.external.worker_pool import ExternalEnvError
from envs.vector.episodes import episode_rng, evaluation_rng
from envs.vector.external import ExternalVectorEnv
from tests.envs.small import final

SIZE = 24
LENGTH = 12
REPEAT = 2


def _task(name: str, kwargs: str = "{}", length: int = LENGTH, evaluation_seed: int = 0) -> Task:
    known = {
        "id": "tests.envs.external_fakes:Counter-v0",
        "kwargs": kwargs,
        "render": "auto",
        "camera": "",
    }
    return Task(name, "gym", known, length, evaluation_seed)


TASKS = (
    _task("long", length=12, evaluation_seed=1),
    _task("ends", "{ends_at: 7}", 16, 2),
    _task("cut", "{cut_at: 4}", evaluation_seed=3),
)


def _suite(*tasks: Task) -> Suite:
    return Suite("counters", REPEAT, 100.0, "kwargs", {"train": tasks or TASKS})


def _make(suite: Suite, num_envs: int = 3, **arguments: Any) -> ExternalVectorEnv:
    env = make_vec(
        suite, num_envs, **{"image_size": SIZE, "threads": 1, "frame_stack": 2, **arguments}
    )
    assert isinstance(env, ExternalVectorEnv)
    return env


@pytest.fixture(scope="module")
def counters() -> Iterator[ExternalVectorEnv]:
    """Four environments and three tasks, so that environments change tasks, on two workers."""
    env = _make(_suite(), 4, threads=2)
    yield env
    env.close()


def _actions(steps: int, num_envs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, 2)).astype(np.float32)


def _episode(
    task: Task, seed: int, actions: np.ndarray
) -> list[tuple[np.ndarray, float, bool, bool, bool]]:
    """Play one environment's episode step by step.

    A row has image, reward, terminated, truncated and success; the first row is the start.
    """
    world: ExternalEnv = external_family(task).make_env(task)
    world.begin(seed)
    rows = [(_drawn(world), 0.0, False, False, False)]
    for step, action in enumerate(actions):
        reward = 0.0
        success = False
        terminated = False
        truncated = False
        for repeat in range(REPEAT):
            outcome = world.act(action)
            reward += outcome.reward
            success |= outcome.success
            terminated = outcome.terminated
            truncated = outcome.truncated or step * REPEAT + repeat + 1 == task.episode_length
            if terminated or truncated:
                break
        rows.append((_drawn(world), reward, terminated, truncated and not terminated, success))
        if terminated or truncated:
            break
    return rows


def _drawn(world: ExternalEnv) -> np.ndarray:
    out = np.zeros((SIZE, SIZE, 3), np.uint8)
    world.draw(out)
    return out


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31 - 1))


def test_the_interface(counters: ExternalVectorEnv) -> None:
    assert counters.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    observation, infos = counters.reset(seed=0)
    assert counters.observation_space.contains(observation)
    assert observation["pixels"].shape == (4, SIZE, SIZE, 6)
    assert (infos["task_index"].tolist(), infos["task_index"].dtype) == ([0, 1, 2, 0], np.int64)
    observation, reward, terminated, truncated, infos = counters.step(np.zeros((4, 2), np.float32))
    assert counters.observation_space.contains(observation)
    assert [values.dtype.name for values in (reward, terminated, truncated)] == [
        "float32",
        "bool",
        "bool",
    ]
    assert infos["success"].dtype == bool
    assert counters.render_frames(3, 50).shape == (50, 50, 3)
    assert len(counters.render()) == 4
    observation["pixels"][:] = 0
    assert counters.step(np.zeros((4, 2), np.float32))[0]["pixels"][..., :3].any()


def test_episodes_are_those_of_a_slow_loop(counters: ExternalVectorEnv) -> None:
    """Compare all that is returned with every environment and episode played alone."""
    observation, _ = counters.reset(seed=3)
    actions = _actions(25, 4)
    number = [0] * 4
    since = [0] * 4
    seen = []
    episodes = [_reference(counters, env, 0, actions) for env in range(4)]
    for time_, action in enumerate(actions):
        for env in range(4):
            first = episodes[env][max(since[env] - 1, 0)][0]
            newest = episodes[env][since[env]][0]
            np.testing.assert_array_equal(
                observation["pixels"][env], np.concatenate([first, newest], axis=-1)
            )
        observation, reward, terminated, truncated, infos = counters.step(action)
        for env in range(4):
            since[env] += 1
            expected = episodes[env][since[env]]
            assert reward[env] == np.float32(expected[1])
            assert (terminated[env], truncated[env], infos["success"][env]) == expected[2:]
            if not (terminated[env] or truncated[env]):
                continue
            _check_end(infos, env, episodes[env], since[env])
            seen.append((int(infos["task_index"][env]), bool(terminated[env])))
            number[env] += 1
            since[env] = 0
            episodes[env] = _reference(counters, env, number[env], actions[time_ + 1 :])
    assert set(seen) == {(0, False), (1, True), (2, False)}
    assert max(number) >= 5


def _reference(env: ExternalVectorEnv, index: int, number: int, actions: np.ndarray) -> list[Any]:
    task = env.tasks[(index + number * env.num_envs) % len(env.tasks)]
    return _episode(task, _seed(episode_rng(3, "train", index, number)), actions[:, index])


def _check_end(infos: dict[str, Any], env: int, rows: list[Any], steps: int) -> None:
    np.testing.assert_array_equal(
        infos["final_obs"][env]["pixels"],
        np.concatenate([rows[steps - 1][0], rows[steps][0]], axis=-1),
    )
    episode = {key: values[env] for key, values in infos["episode_statistics"].items()}
    assert infos["_episode_statistics"][env]
    assert infos["_final_obs"][env]
    assert episode["length"] == rows[steps][0][0, 0, 0], "the counter's clock"
    assert episode["return"] == pytest.approx(sum(row[1] for row in rows))
    assert episode["success"] == any(row[4] for row in rows)
    assert not episode["partial"]


def test_there_is_a_final_observation_where_an_episode_ended(
    counters: ExternalVectorEnv,
) -> None:
    counters.reset(seed=1)
    for action in _actions(4, 4):
        _, _, terminated, truncated, infos = counters.step(action)
        running = ~(terminated | truncated)
        if not running.all():
            assert [last is None for last in infos["final_obs"]] == running.tolist()
    assert not running.all()


def test_evaluation_episodes_start_alike_whatever_is_played_beside_them() -> None:
    task = TASKS[0]
    alone = _make(_suite(), 2, tasks=[task], evaluation=True, seed=9, frame_stack=1)
    starts = alone.reset()[0]["pixels"]
    for index in range(2):
        expected = _episode(
            task, _seed(evaluation_rng(9, task.evaluation_seed, index)), np.zeros((0, 2))
        )
        np.testing.assert_array_equal(starts[index], expected[0][0])
    alone.close()
    beside = _make(_suite(), 6, evaluation=True, seed=9, frame_stack=1, stream="other")
    np.testing.assert_array_equal(beside.reset()[0]["pixels"][[0, 3]], starts)
    beside.close()


def test_first_episodes_begin_part_of_the_way_and_say_that_they_are_partial() -> None:
    env = _make(_suite(_task("long", length=40)), 8, random_initial_episode_step=True)
    env.reset(seed=0)
    lengths = []
    partial = []
    for _ in range(40):
        *_, infos = env.step(np.zeros((8, 2), np.float32))
        if "_episode_statistics" in infos:
            lengths += infos["episode_statistics"]["length"][infos["_episode_statistics"]].tolist()
            partial += infos["episode_statistics"]["partial"][infos["_episode_statistics"]].tolist()
    env.close()
    assert len(set(lengths[:8])) > 3
    assert [length for length, part in zip(lengths, partial, strict=True) if not part] == [
        40
    ] * partial.count(False)


def test_a_killed_worker_is_replaced_and_its_episodes_are_truncated(
    counters: ExternalVectorEnv,
) -> None:
    counters.reset(seed=5)
    actions = _actions(9, 4)
    before = [counters.step(action) for action in actions[:1]][-1][0]
    twin = [_reference_steps(counters, env, actions) for env in range(2)]
    _kill(counters.worker_processes[1])
    with pytest.warns(
        UserWarning, match=r"environments 2 to 3 \(tasks long, ends, cut\) died \(code -9\)"
    ):
        observation, reward, terminated, truncated, infos = counters.step(actions[1])
    assert truncated.tolist() == [False, False, True, True]
    assert not terminated.any()
    assert reward[2:].tolist() == [0, 0]
    assert infos["episode_statistics"]["partial"][2:].all()
    np.testing.assert_array_equal(final(infos, "pixels"), before["pixels"][2:])
    assert (observation["pixels"][2:, 0, 0, 0] == 0).all(), "the next episode's first step"
    for env in range(2):
        assert reward[env] == np.float32(twin[env][2][1])
    # And they go on, the new ones too.
    *_, infos = counters.step(actions[2])
    observation = counters.step(actions[3])[0]
    assert (observation["pixels"][2:, 0, 0, 3] > 0).all()


def _reference_steps(env: ExternalVectorEnv, index: int, actions: np.ndarray) -> list[Any]:
    return _episode(env.tasks[index], _seed(episode_rng(5, "train", index, 0)), actions[:, index])


def _kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    limit = time.monotonic() + 20
    while psutil.Process(process).status() != psutil.STATUS_ZOMBIE and time.monotonic() < limit:
        time.sleep(0.01)


def test_a_worker_that_dies_by_itself_is_replaced_until_it_is_hopeless() -> None:
    env = _make(_suite(_task("fragile", "{dies_at: 3}", 20)), 1)
    env.reset(seed=0)
    env.step(np.zeros((1, 2), np.float32))
    with pytest.warns(UserWarning, match=r"fragile.*code 7"):
        *_, truncated, infos = env.step(np.zeros((1, 2), np.float32))
    assert truncated.all()
    assert infos["episode_statistics"]["length"].tolist() == [2]
    env.close()
    hopeless = _make(_suite(_task("hopeless", "{dies_at: 1}", 20)), 1)
    hopeless.reset(seed=0)
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"hopeless.*code 7"):
            hopeless.step(np.zeros((1, 2), np.float32))
    with pytest.raises(ExternalEnvError, match=r"hopeless.*3 times"):
        hopeless.step(np.zeros((1, 2), np.float32))
    hopeless.close()


def test_a_missing_package_is_named_without_a_traceback() -> None:
    task = _task("needs")
    name = "tests.envs.external_fakes:NeedsPackage-v0"
    env = _make(_suite(replace(task, parameters={**task.parameters, "id": name})), 1)
    with pytest.raises(ExternalEnvError, match=r"pygame is not installed$"):
        env.reset(seed=0)
    env.close()


def test_an_error_names_the_environment() -> None:
    env = _make(_suite(_task("fine"), _task("broken", "{fails_at: 3}", evaluation_seed=1)), 2)
    env.reset(seed=0)
    env.step(np.zeros((2, 2), np.float32))
    named = r"environment 1 \(task 'broken'\): ZeroDivisionError: the counter is broken"
    with pytest.raises(ExternalEnvError, match=named):
        env.step(np.zeros((2, 2), np.float32))
    env.close()


def test_a_continued_run_ends_its_episodes_and_begins_the_next(counters: ExternalVectorEnv) -> None:
    counters.reset(seed=7)
    actions = _actions(3, 4)
    observation = [counters.step(action) for action in actions[:2]][-1][0]
    state = counters.state_dict()
    assert all(
        isinstance(value, np.ndarray) and value.dtype.kind in "iufb" for value in state.values()
    )
    counters.reset(seed=8)
    counters.step(actions[0])
    counters.load_state_dict(state)
    for frame in (counters.render_frames(0, SIZE),):
        np.testing.assert_array_equal(frame, observation["pixels"][0, ..., -3:])
    number = state["number"].copy()
    after, reward, terminated, truncated, infos = counters.step(actions[2])
    assert truncated.all()
    assert not terminated.any()
    assert not reward.any()
    assert infos["episode_statistics"]["partial"].all()
    assert infos["episode_statistics"]["length"].tolist() == state["step"].tolist()
    np.testing.assert_array_equal(final(infos, "pixels"), observation["pixels"])
    for env in range(4):
        rows = _reference_of(counters, 7, env, int(number[env]) + 1)
        np.testing.assert_array_equal(after["pixels"][env, ..., -3:], rows[0][0])
    assert counters.step(actions[2])[1].any()


def _reference_of(env: ExternalVectorEnv, seed: int, index: int, number: int) -> list[Any]:
    task = env.tasks[(index + number * env.num_envs) % len(env.tasks)]
    return _episode(task, _seed(episode_rng(seed, "train", index, number)), np.zeros((0, 2)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"step": None}, "no key 'step'"),
        ({"tasks": np.zeros(3, np.uint8)}, "'tasks' are"),
        ({"pixels": np.zeros((1, 2), np.uint8)}, "'pixels' must have shape"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    counters: ExternalVectorEnv, change: dict, named: str
) -> None:
    counters.reset(seed=0)
    state = {
        key: value
        for key, value in {**counters.state_dict(), **change}.items()
        if value is not None
    }
    with pytest.raises(ValueError, match=named):
        counters.load_state_dict(state)


def test_wrong_calls_are_refused(counters: ExternalVectorEnv) -> None:
    counters.reset(seed=0)
    for actions, named in [
        (np.zeros((4, 3)), "shape"),
        (np.full((4, 2), np.nan), r"finite.*\[0, 1, 2, 3\]"),
    ]:
        with pytest.raises(ValueError, match=named):
            counters.step(actions)
    with pytest.raises(ValueError, match="option 'episode' alone, got 'goal'"):
        counters.reset(options={"goal": 1})
    with pytest.raises(ValueError, match="index must be from 0 to 3"):
        counters.render_frames(4)
    with pytest.raises(ValueError, match="image_size"):
        counters.render_frames(0, 4)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"threads": 0}, "threads"),
        ({"frame_stack": 0}, "frame_stack"),
        ({"image_size": 3}, "image_size"),
        ({"seed": -1}, "seed"),
        ({"tasks": []}, "at least one task"),
        ({"tasks": [replace(TASKS[0], episode_length=3)]}, "multiple of action_repeat"),
    ],
)
def test_wrong_arguments_are_refused_before_a_process_is_started(
    arguments: dict, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        make_vec(_suite(), **{"num_envs": 2, "image_size": SIZE, **arguments})


def test_closing_ends_the_processes() -> None:
    env = _make(_suite(), 2, threads=2)
    processes = env.worker_processes
    assert all(psutil.pid_exists(process) for process in processes)
    env.close()
    assert not any(psutil.pid_exists(process) for process in processes)


@pytest.fixture
def registry() -> Iterator[dict[str, Any]]:
    """Give the test a registry of Gymnasium's that is put back afterwards."""
    before = dict(gymnasium.registry)
    yield gymnasium.registry
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


@pytest.mark.parametrize("name", ["CartPole-v1", "RegisteredByTheProgram-v0"])
def test_workers_play_what_the_program_registered(name: str, registry: dict[str, Any]) -> None:
    """A stock id that it registered anew, and an id that nobody else knows."""
    registry.pop(name, None)
    gymnasium.register(
        name, "tests.envs.external_fakes:Counter", max_episode_steps=7, reward_threshold=3.0
    )
    suite = load_suite(f"gym/{name}")
    assert (suite.tasks("train")[0].episode_length, suite.reference_return) == (7, 3.0)
    env = _make(suite, 1)
    env.reset(seed=0)
    assert env.step(np.ones((1, 2), np.float32))[1].tolist() == [5.0], "the counter's reward"
    env.close()


@pytest.mark.parametrize("entry_point", ["__main__:Counter", lambda **arguments: None])
def test_what_workers_could_not_import_is_refused_with_what_to_do(
    entry_point: Any, registry: dict[str, Any]
) -> None:
    gymnasium.register("InTheScript-v0", entry_point)
    with pytest.raises(ValueError, match=r"register it in a module .* gym/MODULE:InTheScript-v0"):
        load_suite("gym/InTheScript-v0").check_installed()


def test_a_file_in_the_current_directory_is_no_module_of_the_process_that_starts_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("random", "yaml", "socket"):
        (tmp_path / f"{name}.py").write_text("open('executed', 'w')\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    server = ForkServer("egl")
    assert server.wait(os.getpid(), 0.0) == -1, "it answers, though not about a process of its own"
    server.close()
    assert not (tmp_path / "executed").exists()
