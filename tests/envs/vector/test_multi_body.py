"""Several bodies in one environment: each world is as it would be among its own kind."""

from dataclasses import replace

import numpy as np
import pytest

from envs import Suite, load_suite, make_vec
from envs.vector.base import PixelVectorEnv
from envs.vector.multi_body import MultiBodyVectorEnv
from tests.envs.small import final

SIZE = 16


def short(length: int = 8) -> Suite:
    suite = load_suite("mixed_speed")
    splits = {
        name: tuple(replace(task, episode_length=length) for task in tasks)
        for name, tasks in suite.splits.items()
    }
    return replace(suite, splits=splits)


def actions(env: PixelVectorEnv, step: int) -> np.ndarray:
    rng = np.random.default_rng(step)
    return rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)


def test_the_task_vector_says_which_body_it_is_and_then_what_its_family_says():
    suite = short()
    assert suite.task_size == 4
    assert suite.action_size == 12
    for split in suite.splits:
        for task in suite.tasks(split):
            vector = suite.family.task_vector(task)
            body = task.name.split("_")[0]
            own = load_suite(f"{body}_speed").family.task_vector(task)
            place = ("walker", "cheetah", "quadruped").index(body)
            assert vector.tolist() == [float(place == other) for other in range(3)] + own.tolist()


def test_worlds_are_what_they_would_be_among_their_own_kind():
    """Compare images, rewards and ends; actions beyond a body's own change nothing."""
    suite = short()
    mixed = make_vec(suite, 14, image_size=SIZE, seed=3, threads=2)
    assert isinstance(mixed, MultiBodyVectorEnv)
    tasks = suite.tasks("train")
    bodies = ["walker", "cheetah", "quadruped"]
    worlds = {body: [w for w in range(14) if tasks[w % 6].name.startswith(body)] for body in bodies}
    alone = {}
    for number, body in enumerate(bodies):
        own = tuple(task for task in tasks if task.name.startswith(body))
        kind = replace(suite, splits={"train": own}, mixed=False)
        alone[body] = make_vec(
            kind, len(worlds[body]), seed=3, stream=f"train/{number}", image_size=SIZE, threads=1
        )
    observation, _ = mixed.reset()
    starts = {body: env.reset()[0] for body, env in alone.items()}
    for body in bodies:
        np.testing.assert_array_equal(observation["pixels"][worlds[body]], starts[body]["pixels"])
    ended = 0
    for step in range(10):
        chosen = actions(mixed, step)
        observation, reward, terminated, truncated, infos = mixed.step(chosen)
        assert not terminated.any()
        for body, env in alone.items():
            rows = worlds[body]
            other, own_reward, _, own_truncated, own = env.step(
                chosen[rows, : env.single_action_space.shape[0]]
            )
            np.testing.assert_array_equal(observation["pixels"][rows], other["pixels"])
            np.testing.assert_array_equal(reward[rows], own_reward)
            np.testing.assert_array_equal(truncated[rows], own_truncated)
            names = [env.tasks[index].name for index in own["task_index"]]
            assert [tasks[index].name for index in infos["task_index"][rows]] == names
            if own_truncated.any():
                ended += 1
                np.testing.assert_array_equal(
                    final({"final_obs": infos["final_obs"][rows]}, "pixels"), final(own, "pixels")
                )
                for key, values in own["episode_statistics"].items():
                    np.testing.assert_array_equal(infos["episode_statistics"][key][rows], values)
        vectors = np.stack(
            [suite.family.task_vector(tasks[index]) for index in infos["task_index"]]
        )
        if truncated.any():
            np.testing.assert_array_equal(final(infos, "task"), vectors)
        else:
            np.testing.assert_array_equal(observation["task"], vectors)
    assert ended >= 3
    assert observation["task"].shape == (14, 4)
    for env in (mixed, *alone.values()):
        env.close()


def test_first_episodes_are_assigned_round_robin_whatever_the_bodies():
    """As evaluations count on: world i plays episode i // tasks of task i % tasks."""
    suite = short()
    env = make_vec(
        suite, 9, tasks=suite.tasks("interpolation"), image_size=SIZE, evaluation=True, seed=1
    )
    here, infos = env.reset()
    assert infos["task_index"].tolist() == [0, 1, 2] * 3
    pair = make_vec(
        suite, 2, tasks=suite.tasks("interpolation")[1:], image_size=SIZE, evaluation=True, seed=1
    )
    there = pair.reset()[0]
    np.testing.assert_array_equal(here["pixels"][1:3], there["pixels"])
    np.testing.assert_array_equal(here["task"][1:3], there["task"])
    env.close()
    pair.close()


def test_a_saved_environment_goes_on_to_the_bit():
    first, second = (
        make_vec(short(), 6, image_size=SIZE, seed=2, random_initial_episode_step=True)
        for _ in range(2)
    )
    first.reset()
    first.step(actions(first, 0))
    second.load_state_dict(first.state_dict())
    for step in range(1, 6):
        ours, theirs = (env.step(actions(env, step)) for env in (first, second))
        np.testing.assert_array_equal(ours[0]["pixels"], theirs[0]["pixels"])
        np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_array_equal(first.render_frames(5, 32), second.render_frames(5, 32))
    state = first.state_dict()
    del state["physics.1"]
    with pytest.raises(ValueError, match=r"state has no key 'physics\.1'"):
        second.load_state_dict(state)
    first.close()
    second.close()


def test_what_cannot_be_is_refused():
    suite = short()
    with pytest.raises(
        ValueError,
        match=r"num_envs is 4; suite 'mixed_speed' needs at least 5, or a body has no world",
    ):
        make_vec(suite, 4, image_size=SIZE)
    env = make_vec(suite, 6, image_size=SIZE)
    with pytest.raises(ValueError, match="call reset"):
        env.step(np.zeros((6, 12), np.float32))
    env.reset()
    with pytest.raises(ValueError, match=r"actions must have shape \(6, 12\)"):
        env.step(np.zeros((6, 6), np.float32))
    with pytest.raises(ValueError, match="index must be from 0 to 5"):
        env.render_frames(6)
    env.close()
    values = suite.to_dict()
    with pytest.raises(
        ValueError, match="has another scene than 'walker_1'; one scene a suite, or mixed: true"
    ):
        Suite.from_dict({**values, "mixed": False})
    with pytest.raises(ValueError, match="mixed must be true or false, got 'yes'"):
        Suite.from_dict({**values, "mixed": "yes"})
    external = load_suite("gym/Pendulum-v1").to_dict()["splits"]["train"]
    with pytest.raises(ValueError, match="is of an external family, which cannot be mixed"):
        Suite.from_dict({**values, "splits": {"train": [*values["splits"]["train"], *external]}})


def test_a_mixed_suite_is_written_and_read():
    suite = short()
    assert Suite.from_dict(suite.to_dict()) == suite
    assert "mixed" not in load_suite("walker_speed").to_dict()
