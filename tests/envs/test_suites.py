"""Suites are data: what is in the files, that it survives a round trip, and which are refused."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import yaml

from envs import Suite, Task, load_suite, make_vec
from envs.families.compat import TASKS
from envs.resources import config_files

NAMES = list(config_files("suite"))
SPEEDS = {
    "train": [0, 1, 2, 4, 6],
    "interpolation": [1.5, 3, 5],
    "extrapolation_near": [7],
    "extrapolation_far": [8],
    "novel": [-1, -2],
}


@pytest.mark.parametrize("name", NAMES)
def test_every_suite_survives_a_round_trip(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert Suite.from_dict(suite.to_dict()) == suite
    assert Suite.from_dict(yaml.safe_load(yaml.safe_dump(suite.to_dict()))) == suite
    tasks = [task for split in suite.splits.values() for task in split]
    plain = {task.family + str(task.parameters): task for task in tasks if not task.variations()}
    assert len({task.evaluation_seed for task in plain.values()}) == len(plain)
    for task in (
        tasks
    ):  # worlds that differ start as the plain task's do, so that the two can be compared in pairs
        assert task.evaluation_seed == plain[task.family + str(task.parameters)].evaluation_seed
    for task in tasks:
        vector = suite.family.task_vector(task)
        assert vector.shape == (suite.task_size,)
        assert vector.dtype == np.float32
        assert np.abs(vector).max() <= 1
        assert np.isfinite(suite.coordinate(task))


def test_walker_speeds_are_those_of_the_study() -> None:
    suite = load_suite("walker_speed")
    plain = {name: tasks for name, tasks in suite.splits.items() if not tasks[0].variations()}
    assert {
        name: [task.parameters["speed"] for task in tasks] for name, tasks in plain.items()
    } == SPEEDS
    assert [suite.coordinate(task) for task in suite.tasks("novel")] == [-1, -2]
    assert (suite.action_size, suite.task_size, suite.action_repeat) == (6, 1, 2)


def test_point_mass_targets_lie_where_their_splits_say() -> None:
    suite = load_suite("point_mass")
    reach = {
        split: [max(map(abs, task.parameters["target"])) for task in tasks]
        for split, tasks in suite.splits.items()
    }
    hull = max(reach["train"])
    assert len(reach["train"]) >= 4
    assert max(reach["interpolation"]) < hull
    assert all(hull < value <= 1.25 * hull for value in reach["extrapolation_near"])
    assert all(1.5 * hull <= value <= 2 * hull for value in reach["extrapolation_far"])
    assert suite.coordinate(suite.tasks("train")[0]) == pytest.approx(hull * np.sqrt(2))


def test_compat_suites_have_dm_controls_tasks() -> None:
    assert [task.name for task in load_suite("compat_walker").tasks("train")] == [
        "walker-stand",
        "walker-walk",
        "walker-run",
    ]
    vectors = [
        load_suite(name).family.task_vector(task)
        for name in ("compat_point_mass", "compat_walker")
        for task in load_suite(name).tasks("train")
    ]
    places = [
        TASKS.index(name)
        for name in (
            "point_mass-easy",
            "point_mass-hard",
            "walker-stand",
            "walker-walk",
            "walker-run",
        )
    ]
    np.testing.assert_array_equal(vectors, np.eye(len(TASKS))[places])
    assert (
        load_suite("compat_walker").coordinate(load_suite("compat_walker").tasks("train")[2]) == 2
    )


def _without(key: str) -> Callable[[dict], Any]:
    return lambda values: values.pop(key)


def _set(key: str, value: object) -> Callable[[dict], Any]:
    return lambda values: values.update({key: value})


def _task(key: str, value: object) -> Callable[[dict], Any]:
    return lambda values: values["splits"]["train"][0].update({key: value})


def _parameters(value: object) -> Callable[[dict], Any]:
    return _task("parameters", value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_set("colour", 1), "unknown key 'colour'.*action_repeat"),
        (_without("reference_return"), "'reference_return' is missing"),
        (_set("action_repeat", 2.5), "action_repeat must be an integer"),
        (_set("action_repeat", True), "action_repeat must be an integer"),
        (_set("action_repeat", 3), "multiple of action_repeat 3"),
        (_set("reference_return", "high"), "reference_return must be a finite number"),
        (_set("parameter", "speed"), "parameter 'speed'.*target"),
        (_set("splits", [1]), "splits must be a mapping"),
        (_set("splits", {"train": []}), "split 'train' has no tasks"),
        (_set("splits", {"test": []}), "'train' is missing"),
        (_set("splits", {"train": 3}), "splits.train must be a list"),
        (_task("name", "north_west"), "two tasks are named 'north_west'"),
        (_task("name", "../x"), "task name '../x' must be letters"),
        (
            _set("name", "../../x"),
            r"suite name '../../x' must be letters, digits, '_' and '-' only",
        ),
        (_set("name", ""), "suite name '' must be letters"),
        (_set("name", 3), "suite name 3 must be letters"),
        (_set("splits", {"train": [], "a/b": []}), "split name 'a/b' must be letters"),
        (_task("family", "cartpole"), "unknown family 'cartpole'; valid are point_mass"),
        (_task("family", 3), "family must be a string"),
        (_task("episode_length", 0), "episode_length must be an integer from 1 to"),
        (_task("evaluation_seed", -1), "evaluation_seed must be an integer from 0 to"),
        (_task("evaluation_seed", 1002), "have one evaluation_seed, 1002"),
        (_task("seed", 1), "unknown key 'seed'.*evaluation_seed"),
        (_parameters(3), "parameters must be a mapping"),
        (_parameters({}), "parameter 'target' is missing"),
        (
            _parameters({"target": [0.0, 0.1], "radius": 1}),
            "unknown parameter 'radius'; valid are target",
        ),
        (_parameters({"target": [0.0]}), "list of 2 numbers"),
        (_parameters({"target": 0.1}), "list of 2 numbers"),
        (_parameters({"target": "left"}), "list of 2 numbers"),
        (_parameters({"target": [0.0, 0.4]}), "from -0.29 to 0.29"),
        (_parameters({"target": [0.0, float("nan")]}), "finite number"),
        (_parameters({"target": [0.0, None]}), "finite number"),
    ],
)
def test_a_wrong_suite_names_the_key(change: Callable[[dict], Any], named: str) -> None:
    values = copy.deepcopy(load_suite("point_mass").to_dict())
    change(values)
    with pytest.raises(ValueError, match=named):
        Suite.from_dict(values)


@pytest.mark.parametrize(
    ("name", "parameters", "named"),
    [
        ("walker_speed", {"speed": [1.0]}, "speed.*must be a number"),
        ("walker_speed", {"speed": "fast"}, "speed.*must be a number"),
        ("walker_speed", {"speed": 9}, "from -8 to 8"),
        ("compat_walker", {"task": "walker-fly"}, "one of point_mass-easy, walker-stand"),
        ("compat_walker", {"task": 1.0}, "one of point_mass-easy"),
        ("compat_walker", {"task": "point_mass-easy"}, "another scene"),
    ],
)
def test_wrong_parameters_of_other_families(name: str, parameters: dict, named: str) -> None:
    values = load_suite(name).to_dict()
    values["splits"]["train"][1]["parameters"] = parameters
    with pytest.raises(ValueError, match=named):
        Suite.from_dict(values)


def test_unknown_names_come_with_the_valid_ones() -> None:
    with pytest.raises(
        ValueError, match=r"unknown suite 'humanoid'.*compat_walker.*point_mass.*walker_speed"
    ):
        load_suite("humanoid")
    with pytest.raises(ValueError, match=r"unknown suite '\.\./\.\./x'; valid are"):
        load_suite("../../x")
    with pytest.raises(ValueError, match="no split 'test'; valid are train, interpolation"):
        load_suite("point_mass").tasks("test")


def test_numbers_may_be_integers_in_a_file_and_tasks_are_values() -> None:
    task = Task.from_dict(
        {
            "name": "a",
            "family": "walker_speed",
            "parameters": {"speed": 1},
            "episode_length": 10,
            "evaluation_seed": 0,
        }
    )
    assert isinstance(task.parameters["speed"], float)
    assert task == Task.from_dict(task.to_dict())
    assert len({task, Task.from_dict(task.to_dict())}) == 1


def test_an_environment_is_made_by_the_name_of_its_suite() -> None:
    env = make_vec("debug", num_envs=2, image_size=16)
    assert env.tasks == load_suite("debug").tasks("train")
    env.close()
    with pytest.raises(ValueError, match="unknown suite 'debugg'; valid are "):
        make_vec("debugg", num_envs=2)


@pytest.mark.parametrize("huge", [2**63, 10**400])
@pytest.mark.parametrize("key", ["evaluation_seed", "episode_length", "reference_return", "target"])
def test_numbers_that_fit_into_no_number_of_the_machine_are_refused(key: str, huge: int) -> None:
    values = load_suite("debug").to_dict()
    task = values["splits"]["train"][0]
    place = {"reference_return": values, "target": task["parameters"]}.get(key, task)
    place[key] = [huge, 0] if key == "target" else huge
    if key == "reference_return" and huge == 2**63:
        assert Suite.from_dict(values).reference_return == float(huge)
        return
    with pytest.raises(ValueError, match=rf"{key}.* must be"):
        Suite.from_dict(values)


def test_a_name_that_no_file_name_has_room_for_is_refused() -> None:
    values = load_suite("debug").to_dict()
    for place in (values, values["splits"]["train"][0]):
        place["name"] = "x" * 100
        Suite.from_dict(values)
        place["name"] += "x"
        with pytest.raises(ValueError, match="at most 100"):
            Suite.from_dict(values)
        place["name"] = "x"
