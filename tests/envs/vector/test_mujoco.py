"""Worlds of one body: time limits, tasks, seeds, frames, statistics, saving, refusals."""

from collections.abc import Callable
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest

import envs
from envs import PixelVectorEnv, load_suite, make_vec
from envs.simulation.physics import SimulationError
from tests.envs.small import final, one_task, short_suite

SIZE = 16
Step = tuple[dict, np.ndarray, np.ndarray, np.ndarray, dict]


def _make(
    num_envs: int = 3, length: int = 12, name: str = "point_mass", **arguments: object
) -> PixelVectorEnv:
    return make_vec(
        short_suite(name, length), num_envs, **{"image_size": SIZE, "threads": 2, **arguments}
    )


def _actions(env: PixelVectorEnv, count: int, seed: int = 0) -> np.ndarray:
    shape = (count, *env.action_space.shape)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def _play(env: PixelVectorEnv, actions: np.ndarray) -> list[Step]:
    return [env.step(action) for action in actions]


def _assert_equal(one: object, other: object) -> None:
    """Bit for bit, through dictionaries and tuples."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            _assert_equal(one[key], other[key])
    elif isinstance(one, np.ndarray) and one.dtype == object:
        _assert_equal(list(one), list(other))
    elif isinstance(one, tuple | list):
        for left, right in zip(one, other, strict=True):
            _assert_equal(left, right)
    else:
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == np.asarray(other).dtype


def test_the_package_exports_its_interface() -> None:
    classes = {"PixelVectorEnv", "Suite", "Task"}
    assert set(envs.__all__) == {*classes, "CHOICE_LIMIT", "OBSERVATIONS", "load_suite", "make_vec"}


@pytest.mark.parametrize(
    "name", ["point_mass", "walker_speed", "compat_point_mass", "compat_walker"]
)
def test_shapes_types_and_ranges(name: str) -> None:
    env = _make(3, name=name, frame_stack=2)
    observation, infos = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["pixels"].shape == (3, SIZE, SIZE, 6)
    assert infos["task_index"].dtype == np.int64
    for action in _actions(env, 7):
        observation, reward, terminated, truncated, infos = env.step(action)
        assert env.observation_space.contains(observation)
        assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float32, bool, bool)
        assert ((reward >= 0) & (reward <= env.action_repeat)).all()
        assert infos["success"].dtype == bool
        assert not terminated.any()
    assert env.render_frames(1).shape == (128, 128, 3)
    assert env.render_frames(2, size=20).shape == (20, 20, 3)
    assert len(env.render()) == 3
    env.close()


def test_an_episode_ends_at_its_time_limit_and_the_next_begins_in_the_same_step() -> None:
    env = _make(2, length=8, tasks=one_task(short_suite(length=8)))
    env.reset(seed=0)
    steps = _play(env, _actions(env, 9))
    assert [step[3].tolist() for step in steps] == [[index % 4 == 3] * 2 for index in range(9)]
    observation, _, _, _, infos = steps[3]
    episode = infos["episode_statistics"]
    assert episode["length"].tolist() == [8, 8]
    assert infos["_episode_statistics"].all()
    np.testing.assert_allclose(episode["return"], sum(step[1] for step in steps[:4]), rtol=1e-6)
    assert (episode["return"].dtype, episode["length"].dtype) == (np.float64, np.int64)
    assert not episode["partial"].any()
    # The last image shows the mass close to where it was a step ago, the new one elsewhere.
    before, last, fresh = steps[2][0]["pixels"], final(infos, "pixels"), observation["pixels"]
    assert (last != fresh).any(axis=(1, 2, 3)).all()
    assert (
        (last != before).any(axis=-1).sum(axis=(1, 2))
        < (fresh != before).any(axis=-1).sum(axis=(1, 2))
    ).all()
    env.close()


def test_tasks_take_turns() -> None:
    suite = short_suite(length=4)
    env = make_vec(suite, 3, image_size=SIZE)
    _, infos = env.reset(seed=0)
    seen = [infos["task_index"]]
    vectors = np.stack([suite.family.task_vector(task) for task in env.tasks])
    for index in range(8):
        observation, _, _, truncated, infos = env.step(np.zeros((3, 2), np.float32))
        np.testing.assert_array_equal(infos["task_index"], seen[-1])
        if truncated.all():
            np.testing.assert_array_equal(final(infos, "task"), vectors[seen[-1]])
            seen.append((np.arange(3) + (index // 2 + 1) * 3) % 4)
        np.testing.assert_array_equal(observation["task"], vectors[seen[-1]])
    assert [row.tolist() for row in seen] == [[0, 1, 2], [3, 0, 1], [2, 3, 0], [1, 2, 3], [0, 1, 2]]
    env.close()


def test_frames_are_stacked_oldest_first_and_repeated_at_the_start() -> None:
    stacked, plain = _make(2, frame_stack=3), _make(2)
    frames = [plain.reset(seed=0)[0]["pixels"]] * 3
    np.testing.assert_array_equal(
        stacked.reset(seed=0)[0]["pixels"], np.concatenate(frames, axis=-1)
    )
    for action in _actions(plain, 9):
        observation, _, _, truncated, infos = plain.step(action)
        theirs, *_, stacked_infos = stacked.step(action)
        if truncated.any():
            last = [*frames[-2:], final(infos, "pixels")]
            np.testing.assert_array_equal(
                final(stacked_infos, "pixels"), np.concatenate(last, axis=-1)
            )
            frames = [observation["pixels"]] * 3
        else:
            frames.append(observation["pixels"])
        np.testing.assert_array_equal(theirs["pixels"], np.concatenate(frames[-3:], axis=-1))
    stacked.close()
    plain.close()


def test_what_was_returned_stays_as_it_is() -> None:
    env = _make(2, frame_stack=2)
    kept = [env.reset(seed=0)]
    copies = [(dict(kept[0][0]), dict(kept[0][1]))]
    copies[0][0].update({key: value.copy() for key, value in kept[0][0].items()})
    for action in _actions(env, 8):
        step = env.step(action)
        kept.append(step)
        copies.append(_copied(step))
    _assert_equal(kept[1:], copies[1:])
    _assert_equal(kept[0][0], copies[0][0])
    observation = env.step(_actions(env, 1)[0])[0]
    observation["pixels"][:] = 0
    assert env.step(_actions(env, 1)[0])[0]["pixels"][..., :3].any()
    env.close()


def _copied(value: object) -> object:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_copied(item) for item in value)
    return np.array(value)


def test_there_is_a_final_observation_where_an_episode_ended() -> None:
    env = _make(4, length=20, random_initial_episode_step=True, seed=3)
    env.reset()
    seen = 0
    for action in _actions(env, 20):
        _, _, _, truncated, infos = env.step(action)
        assert ("final_obs" in infos) == truncated.any()
        if truncated.any():
            np.testing.assert_array_equal(infos["_final_obs"], truncated)
            np.testing.assert_array_equal(infos["_episode_statistics"], truncated)
            assert [last is not None for last in infos["final_obs"]] == truncated.tolist()
            for last in infos["final_obs"][truncated]:
                assert env.single_observation_space.contains(last)
            seen += (~truncated).any()
    assert seen
    env.close()


def test_random_initial_steps_spread_the_first_ends_and_only_those() -> None:
    env = _make(16, length=100, random_initial_episode_step=True, seed=1)
    observation, _ = env.reset()
    plain = _make(16, length=100, seed=1)
    np.testing.assert_array_equal(observation["pixels"], plain.reset()[0]["pixels"])
    ends: list[list[tuple[int, int, bool]]] = [[] for _ in range(16)]
    for index in range(1, 101):
        infos = env.step(np.zeros((16, 2), np.float32))[-1]
        for world in np.flatnonzero(infos.get("_episode_statistics", [])):
            episode = infos["episode_statistics"]
            ends[world].append(
                (index, int(episode["length"][world]), bool(episode["partial"][world]))
            )
    firsts = [world[0] for world in ends]
    assert len({step for step, _, _ in firsts}) >= 8
    assert all(length == 2 * step for step, length, _ in firsts)
    assert all(partial == (length < 100) for _, length, partial in firsts)
    assert all(
        step == first + 50
        for world, (first, _, _) in zip(ends, firsts, strict=True)
        for step, _, _ in world[1:2]
    )
    assert all(
        (length, partial) == (100, False) for world in ends for _, length, partial in world[1:]
    )
    env.close()
    plain.close()


def test_the_same_seed_gives_the_same_run_on_any_number_of_threads() -> None:
    environments = [
        _make(5, threads=threads, frame_stack=2, name="walker_speed") for threads in (1, 2, 5)
    ]
    runs = [
        [environment.reset(seed=4), *_play(environment, _actions(environment, 8))]
        for environment in environments
    ]
    _assert_equal(runs[0], runs[1])
    _assert_equal(runs[0], runs[2])
    for environment in environments:
        environment.close()


def test_seeds_streams_worlds_and_episodes_have_their_own_random_numbers() -> None:
    env = _make(2, length=4, tasks=one_task(short_suite(length=4)))
    other = _make(2, length=4, tasks=one_task(short_suite(length=4)), stream="evaluation")
    starts = [env.reset(seed=0)[0], env.reset()[0], env.reset(seed=1)[0], other.reset(seed=0)[0]]
    images = [image.tobytes() for observation in starts for image in observation["pixels"]]
    assert len(set(images)) == 8
    # With a seed everything starts anew; without one the episodes go on being counted.
    _assert_equal(env.reset(seed=0)[0], starts[0])
    _assert_equal(_play(env, _actions(env, 2))[1][0], starts[1])
    env.close()
    other.close()


def _starts(env: PixelVectorEnv, rounds: int = 1) -> dict[tuple[str, int], np.ndarray]:
    """Return the state at the start of each episode, by task and number among the task's."""
    found: dict[tuple[str, int], np.ndarray] = {}
    for _ in range(rounds):
        index = env.reset()[1]["task_index"]
        physics = env.state_dict()["physics"]
        for world, task in enumerate(index):
            name = env.tasks[task].name
            found[name, sum(key[0] == name for key in found)] = physics[world]
    env.close()
    return found


@pytest.mark.parametrize("name", ["point_mass", "walker_speed"])
def test_an_evaluation_episode_starts_the_same_whatever_is_played_beside_it(name: str) -> None:
    suite = short_suite(name, length=4)
    tasks = suite.tasks("train")
    settings = {"image_size": SIZE, "seed": 5, "evaluation": True}
    whole = _starts(make_vec(suite, 3 * len(tasks), tasks, **settings))
    assert set(whole) == {(task.name, episode) for task in tasks for episode in range(3)}
    assert len({start.tobytes() for start in whole.values()}) == len(whole)
    others = [
        _starts(
            make_vec(suite, 2 * len(tasks), tasks[::-1], **settings)
        ),  # another order, fewer episodes
        _starts(make_vec(suite, 3, tasks[1:2], **settings)),  # alone
        _starts(
            make_vec(suite, 2, tasks[:2], **settings | {"stream": "video"}), rounds=3
        ),  # one after the other
        _starts(
            make_vec(suite, 5, tasks[:3], **settings)
        ),  # worlds that are no multiple of the tasks
    ]
    for other in others:
        for episode, start in other.items():
            np.testing.assert_array_equal(start, whole[episode], str(episode))


def test_an_evaluation_episodes_start_depends_on_both_seeds() -> None:
    task = one_task(short_suite())[0]
    tasks = [
        task,
        replace(task, name="twin"),
        replace(task, name="other", evaluation_seed=task.evaluation_seed + 1),
    ]
    starts = [
        _starts(make_vec(short_suite(), 3, tasks, image_size=SIZE, seed=seed, evaluation=True))
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(starts[0][task.name, 0], starts[0]["twin", 0])
    different = [
        starts[0][task.name, 0],
        starts[0]["other", 0],
        starts[1][task.name, 0],
        starts[1]["other", 0],
    ]
    assert len({start.tobytes() for start in different}) == 4


def test_training_starts_are_a_function_of_seed_stream_world_and_episode() -> None:
    """Spelled out, so that no change of evaluation can move them."""
    suite = short_suite(length=4)
    env = make_vec(suite, 3, image_size=SIZE, seed=7)
    for episode in range(2):
        index = env.reset()[1]["task_index"]
        for world in range(3):
            rng = np.random.default_rng(
                np.random.SeedSequence([7, crc32(b"train"), world, episode])
            )
            expected = suite.family.start(env.tasks[index[world]], rng).joint_positions
            assert expected.tobytes() in env.state_dict()["physics"][world].tobytes()
    env.close()


@pytest.mark.parametrize("name", ["point_mass", "walker_speed"])
@pytest.mark.parametrize("before", [0, 3, 6, 7])
def test_continuing_from_a_saved_state_is_bit_identical(name: str, before: int) -> None:
    """Save right after a reset, within an episode, after an automatic reset and one step later."""
    env = _make(3, name=name, frame_stack=2, random_initial_episode_step=before == 3)
    actions = _actions(env, 30)
    env.reset(seed=2)
    _play(env, actions[:before])
    state = env.state_dict()
    expected = _play(env, actions[before:])
    again = _make(
        3, name=name, frame_stack=2, threads=1, seed=9, random_initial_episode_step=before == 3
    )
    again.load_state_dict({key: value.copy() for key, value in state.items()})
    _assert_equal(_play(again, actions[before:]), expected)
    _assert_equal(again.state_dict(), env.state_dict())
    # Loading where another run is under way leaves nothing of it behind.
    env.load_state_dict(state)
    _assert_equal(_play(env, actions[before:]), expected)
    env.close()
    again.close()


def test_a_long_walk_continues_bit_identically() -> None:
    env, again = (_make(2, length=400, name="walker_speed") for _ in range(2))
    actions = _actions(env, 120)
    env.reset(seed=0)
    _play(env, actions[:80])
    again.load_state_dict(env.state_dict())
    _assert_equal(_play(again, actions[80:]), _play(env, actions[80:]))
    env.close()
    again.close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("physics"), "no key 'physics'"),
        (lambda state: state.update(pixels=state["pixels"][:1]), "'pixels' must have shape"),
        (lambda state: state.update(step=np.zeros(7)), "'step' must have shape"),
        (
            lambda state: state.update(tasks=np.frombuffer(b"left, right", np.uint8)),
            "'tasks' are left, right, but",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused_before_anything_changes(
    change: Callable, named: str
) -> None:
    env = _make(2)
    env.reset(seed=0)
    before = env.state_dict()
    state = env.state_dict()
    change(state)
    with pytest.raises(ValueError, match=named):
        env.load_state_dict(state)
    _assert_equal(env.state_dict(), before)
    env.close()


def test_actions_are_clipped_and_scaled() -> None:
    env, other = _make(2), _make(2)
    env.reset(seed=0)
    other.reset(seed=0)
    _assert_equal(
        env.step(np.full((2, 2), 5.0, np.float32)), other.step(np.ones((2, 2), np.float32))
    )
    env.close()
    other.close()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_envs": 0}, "num_envs must be an integer of at least 1"),
        ({"num_envs": 2.0}, "num_envs must be an integer"),
        ({"tasks": []}, "at least one task"),
        ({"tasks": list(load_suite("walker_speed").tasks("train"))}, "another scene"),
        ({"tasks": [load_suite("point_mass").tasks("train")[0]] * 2}, "two tasks are named"),
        ({"seed": 2**64}, "seed must be an integer from 0"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"frame_stack": 0}, "frame_stack must be an integer of at least 1"),
        ({"image_size": 4}, "image_size must be an integer from 8 to 1024"),
        ({"image_size": 5000}, "image_size must be an integer from 8 to 1024"),
        ({"threads": 0}, "threads must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make_vec(load_suite("point_mass"), **{"num_envs": 1, **arguments})


def test_any_episode_can_be_begun_by_its_number() -> None:
    """Begin the third episode as after two resets, and the first again, whatever was played."""
    env = _make(3)
    first, _ = env.reset(seed=4)
    env.reset()
    third, infos = env.reset()
    env.step(np.ones((3, 2), np.float32))
    for number, expected in ((2, third), (0, first)):
        again, _ = env.reset(options={"episode": number})
        for key, values in expected.items():
            np.testing.assert_array_equal(again[key], values)
    again, again_infos = env.reset(seed=4, options={"episode": 2})
    np.testing.assert_array_equal(again["pixels"], third["pixels"])
    np.testing.assert_array_equal(again_infos["task_index"], infos["task_index"])


def test_bad_calls_are_named() -> None:
    env = _make(2)
    with pytest.raises(ValueError, match="reset"):
        env.step(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="'speed'"):
        env.reset(options={"speed": 1})
    with pytest.raises(ValueError, match="seed"):
        env.reset(seed=-3)
    with pytest.raises(ValueError, match="'episode' must be an integer of at least 0, got -1"):
        env.reset(options={"episode": -1})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        env.step(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"worlds \[1\]"):
        env.step(np.array([[0, 0], [0, np.nan]], np.float32))
    with pytest.raises(ValueError, match="index"):
        env.render_frames(2)
    env.close()


def test_a_state_that_is_not_finite_stops_the_run(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into a file in the working folder
    env = _make(3, name="walker_speed")
    env.reset(seed=0)
    state = env.state_dict()
    state["physics"][1, 4] = np.nan
    env.load_state_dict(state)
    with pytest.raises(SimulationError, match=r"world 1 \(mjWARN_BADQPOS.*nan") as caught:
        env.step(np.zeros((3, 6), np.float32))
    assert "world 0" not in str(caught.value)
    env.close()
