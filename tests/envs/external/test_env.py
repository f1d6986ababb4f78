"""One external environment: actions, seeds, success, images; and the ids that name one."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs import Task, load_suite
from envs.external.actions import action_size, translation
from envs.external.env import ExternalEnv, success_in
from envs.external.families import external_family
from envs.external.render import resize

COUNTER = "tests.envs.external_fakes:Counter-v0"


def _task(name: str = COUNTER, kwargs: str = "{}", render: str = "auto", camera: str = "") -> Task:
    return Task(
        "counter", "gym", {"id": name, "kwargs": kwargs, "render": render, "camera": camera}, 20, 0
    )


def _env(**parameters: Any) -> ExternalEnv:
    task = _task(**parameters)
    return external_family(task).make_env(task)


def _image(env: ExternalEnv, size: int = 24) -> np.ndarray:
    out = np.zeros((size, size, 3), np.uint8)
    env.draw(out)
    return out


def test_actions_are_scaled_to_the_environments_bounds() -> None:
    env = _env()
    env.begin(0)
    for given, taken in [(-1, -3), (0, 1), (1, 5), (0.25, 2), (3, 5)]:
        assert env.act(np.array([given, 0], np.float32)).reward == taken


def test_the_largest_number_is_a_discrete_action_and_surplus_numbers_are_ignored() -> None:
    env = _env(kwargs="{discrete: true}")
    env.begin(0)
    taken = [env.act(np.array([*np.eye(3)[index], 9], np.float32)).reward for index in range(3)]
    assert taken == [5, 6, 7]


def test_of_numbers_beyond_one_the_largest_is_the_discrete_action() -> None:
    choose = translation(spaces.Discrete(3))
    for given, taken in [([1.2, 1.5, 0], 1), ([-3, -2, -4], 1), ([1, 9, 10], 2)]:
        assert choose(np.array(given, np.float32)) == taken


def _boxes(count: int) -> Iterator[spaces.Box]:
    """Boxes of every width and place: random mantissas and exponents, and the extremes."""
    rng = np.random.default_rng(0)
    for dtype in (np.float64, np.float32, np.float16):
        most = float(np.finfo(dtype).max)
        exponents = np.log10(most)
        for _ in range(count):
            with np.errstate(over="ignore"):
                ends = rng.normal(size=(2, 16)) * 10 ** rng.uniform(-exponents, exponents, (2, 16))
                low, high = np.sort(np.clip(ends, -most, most), axis=0).astype(dtype)
            yield spaces.Box(low, high, dtype=dtype)
        tiny = float(np.finfo(dtype).smallest_subnormal)
        for low, high in [(-most, most), (most / 2, most), (0, tiny), (-tiny, 0), (0.1, 0.1)]:
            yield spaces.Box(low, high, (16,), dtype=dtype)


def test_actions_stay_inside_every_box_that_has_an_end() -> None:
    numbers = np.random.default_rng(1).uniform(-1, 1, 16).astype(np.float32)
    for space in _boxes(200):
        scale = translation(space)
        for action in (-np.ones(16), np.ones(16), np.zeros(16), numbers, 1e30 * numbers):
            taken = scale(action.astype(np.float32))
            assert np.isfinite(taken).all(), space
            assert space.contains(taken), (space, taken)
        for end, limit in ((1, space.high), (-1, space.low)):
            taken = scale(np.full(16, end, np.float32)).astype(np.float64)
            largest = np.maximum(np.abs(space.low), np.abs(space.high)).astype(np.float64)
            assert (np.abs(taken / 4 - limit.astype(np.float64) / 4) <= 1e-15 * largest).all()


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), "must have bounds"),
        (spaces.Box(0, 3, (2,), np.int64), "floating-point"),
        (spaces.MultiDiscrete([2, 2]), "bounded Box or Discrete"),
    ],
)
def test_other_actions_are_refused(space: spaces.Space, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        translation(space)


def test_a_box_of_any_shape_is_a_row_of_numbers() -> None:
    space = spaces.Box(np.array([[0.0], [10.0]]), np.array([[2.0], [30.0]]), dtype=np.float64)
    assert action_size(space) == 2
    action = translation(space)(np.array([0.5, -1], np.float32))
    np.testing.assert_array_equal(action, [[1.5], [10.0]])
    assert action.dtype == np.float64


def test_an_episode_starts_from_its_seed_alone_whatever_was_played_before() -> None:
    used = _env()
    for seed in (5, 6, 7):
        fresh = _env()
        fresh.begin(seed)
        used.begin(seed)
        np.testing.assert_array_equal(_image(fresh), _image(used))
        used.act(np.ones(2, np.float32))
        np.random.random()  # noqa: NPY002
    starts = set()
    for seed in range(8):
        used.begin(seed)
        starts.add(int(_image(used)[0, 0, 1]))
    assert len(starts) > 5


@pytest.mark.parametrize("key", ["success", "is_success"])
def test_success_is_what_the_environment_reports(key: str) -> None:
    env = _env(kwargs=f"{{success_key: {key}}}")
    env.begin(0)
    assert [env.act(np.array([number, 0], np.float32)).success for number in (0, 0.9, -1)] == [
        False,
        True,
        False,
    ]
    silent = _env(kwargs="{success_key: solved}")
    silent.begin(0)
    assert not silent.act(np.ones(2, np.float32)).success


@pytest.mark.parametrize(
    ("reported", "expected"),
    [(True, True), (0.0, False), (np.nan, False), ([0, 1], True), ([np.nan, 0], False)],
)
def test_a_success_that_is_not_known_is_none(reported: Any, expected: bool) -> None:
    assert success_in({"success": reported}, 0.0) is expected


def test_termination_and_truncation_are_told_apart() -> None:
    for kwargs, ends in [("{ends_at: 2}", (True, False)), ("{cut_at: 2}", (False, True))]:
        env = _env(kwargs=kwargs)
        env.begin(0)
        assert env.act(np.zeros(2, np.float32))[1:3] == (False, False)
        assert env.act(np.zeros(2, np.float32))[1:3] == ends


def test_an_image_of_another_size_is_the_mean_of_areas() -> None:
    image = np.random.default_rng(0).integers(256, size=(12, 18, 3)).astype(np.uint8)
    means = image.reshape(6, 2, 6, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(resize(image, 6), means, atol=0.5 + 1e-4)
    assert resize(image[:, :12], 12) is not None
    np.testing.assert_array_equal(resize(image[:, :12], 12), image[:, :12])


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"name": "tests.envs.external_fakes:Plain-v0"}, "must give an RGB image"),
        ({"render": "ray"}, "no MuJoCo model"),
        ({"kwargs": "{colour: red}"}, "cannot be made.*colour"),
        ({"name": "HalfCheetah-v5", "camera": "moon"}, "no camera 'moon'.*track"),
    ],
)
def test_what_cannot_be_played_is_refused(parameters: dict[str, str], named: str) -> None:
    def play() -> None:
        env = _env(**parameters)
        env.begin(0)
        _image(env)

    with pytest.raises(ValueError, match=named):
        play()


def test_a_dict_is_refused_to_those_who_see_images_alone() -> None:
    suite = load_suite("gym/tests.envs.external_fakes:DictCounter-v0")
    with pytest.raises(
        ValueError, match="observes a Dict of 'goal', 'proprio', which agents would"
    ):
        suite.check_observation("pixels")
    suite.check_observation("state")
    assert suite.state_size == 4


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"kwargs": "[1]"}, "'kwargs'.*YAML mapping"),
        ({"kwargs": "{a: b: c}"}, "'kwargs'.*not YAML"),
        ({"kwargs": 3.0}, "'kwargs' must be text"),
        ({"render": "ascii"}, "'render' must be one of auto, ray, opengl"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], named: str) -> None:
    values = {**_task().parameters, **parameters}
    with pytest.raises(ValueError, match=named):
        external_family(Task("counter", "gym", values, 20, 0))


def test_any_registered_environment_is_a_suite() -> None:
    suite = load_suite("gym/tests.envs.external_fakes:Limited-v0")
    (task,) = suite.tasks("train")
    assert (task.episode_length, suite.action_size, suite.task_size, suite.action_repeat) == (
        30,
        2,
        1,
        1,
    )
    assert suite.name == f"gym_{task.name}"
    assert suite.from_dict(suite.to_dict()) == suite
    cheetah = load_suite("gym/HalfCheetah-v5")
    assert (cheetah.action_size, cheetah.reference_return) == (
        6,
        gymnasium.spec("HalfCheetah-v5").reward_threshold,
    )


def test_an_unknown_id_names_close_ones() -> None:
    with pytest.raises(
        ValueError, match=r"no environment 'HalfCheeta-v5'.*close are HalfCheetah-v5"
    ):
        load_suite("gym/HalfCheeta-v5")


def test_an_unknown_id_names_the_missing_packages_and_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("envs.external.gymnasium_id.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"not installed: gymnasium_robotics.*pip install gymnasium-robotics==1"
    ):
        load_suite("gym/NoSuchMaze-v3")
