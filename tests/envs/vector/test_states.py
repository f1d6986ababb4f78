"""Observing the body's own state, in place of images or beside them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from envs import OBSERVATIONS, PixelVectorEnv, Suite, Task, load_suite, make_vec
from envs.external.worker_pool import ExternalEnvError
from envs.families import resolve
from envs.resources import config_files
from envs.simulation.mujoco_cpu import MujocoPhysics
from tests.envs.small import final

SIZE = 8
COUNTER = "tests.envs.external_fakes:Counter-v0"


def make(suite: Suite | str, observation: str, num_envs: int = 2) -> PixelVectorEnv:
    return make_vec(
        suite, num_envs, image_size=SIZE, frame_stack=2, threads=1, observation=observation
    )


def short(name: str, steps: int) -> Suite:
    """A suite whose episodes have so many agent steps."""
    suite = load_suite(name)
    length = steps * suite.action_repeat
    splits = {
        split: tuple(replace(task, episode_length=length) for task in tasks)
        for split, tasks in suite.splits.items()
    }
    return replace(suite, splits=splits)


def counters(*kwargs: str, name: str = COUNTER) -> Suite:
    """External tasks whose observation is their clock and their start."""
    tasks = tuple(
        Task(
            f"task_{number}",
            "gym",
            {"id": name, "kwargs": each, "render": "auto", "camera": ""},
            8,
            number,
        )
        for number, each in enumerate(kwargs)
    )
    return Suite("counters", 1, 100.0, "kwargs", {"train": tasks})


def mujoco_suites() -> list[str]:
    """One suite of each family of ours that has a state."""
    found: dict[str, str] = {}
    for name in config_files("suite"):
        suite = load_suite(name)
        task = suite.tasks("train")[0]
        if suite.scenes() and not suite.mixed and getattr(resolve(task), "state_size", 0):
            found.setdefault(resolve(task).scene.name, name)
    return sorted(found.values())


@pytest.mark.parametrize("name", mujoco_suites())
def test_a_state_has_the_size_that_its_family_says(name: str) -> None:
    suite = load_suite(name)
    family = resolve(suite.tasks("train")[0])
    physics = MujocoPhysics(family.scene, 1, SIZE, threads=1)
    state = family.state(physics)
    assert state.shape == (1, suite.state_size)
    assert torch.isfinite(state).all()


@pytest.mark.parametrize("name", ["debug", "external"])
def test_states_are_the_same_beside_images_and_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So are rewards and infos; without images nothing is drawn until a video asks for it."""
    suite = counters("{ends_at: 3}", "{cut_at: 5}") if name == "external" else short("debug", 3)
    num_envs = 3
    envs = {kind: make(suite, kind, num_envs) for kind in OBSERVATIONS}

    def refuse(*arguments: object) -> None:
        raise AssertionError("drawn")

    seen = {kind: env.reset(seed=3)[0] for kind, env in envs.items() if kind != "state"}
    with monkeypatch.context() as patch:
        # The other worlds of external suites are drawn in their own processes.
        patch.setattr(MujocoPhysics, "render", refuse)
        seen["state"] = envs["state"].reset(seed=3)[0]
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(9):
        assert "state" not in seen["pixels"]
        assert "pixels" not in seen["state"]
        assert envs["both"].observation_space.contains(seen["both"])
        assert envs["state"].observation_space.contains(seen["state"])
        np.testing.assert_array_equal(seen["state"]["state"], seen["both"]["state"])
        np.testing.assert_array_equal(seen["pixels"]["pixels"], seen["both"]["pixels"])
        actions = rng.uniform(-1, 1, envs["both"].action_space.shape).astype(np.float32)
        steps = {kind: env.step(actions) for kind, env in envs.items() if kind != "state"}
        with monkeypatch.context() as patch:
            patch.setattr(MujocoPhysics, "render", refuse)
            steps["state"] = envs["state"].step(actions)
        seen = {kind: step[0] for kind, step in steps.items()}
        for kind in ("state", "both"):
            for part in (1, 2, 3):
                np.testing.assert_array_equal(steps[kind][part], steps["pixels"][part])
        for env in np.flatnonzero(steps["both"][2] | steps["both"][3]):
            last = {kind: step[4]["final_obs"][env] for kind, step in steps.items()}
            assert envs["state"].single_observation_space.contains(last["state"])
            np.testing.assert_array_equal(last["state"]["state"], last["both"]["state"])
            np.testing.assert_array_equal(last["pixels"]["pixels"], last["both"]["pixels"])
            assert not np.array_equal(last["both"]["state"], seen["both"]["state"][env])
            ended += 1
    assert ended >= num_envs
    assert envs["state"].render_frames(0, size=16).shape == (16, 16, 3)
    for env in envs.values():
        env.close()


def test_a_point_mass_observes_where_it_is_and_how_fast() -> None:
    env = make("debug", "state")
    state = env.reset()[0]["state"]
    assert not state[:, 2:].any()
    assert (np.abs(state[:, :2]) < 0.29).all()
    moved = env.step(np.ones((2, 2), np.float32))[0]["state"]
    assert (moved[:, 2:] > 0).all()
    env.close()


def test_an_external_state_is_what_the_environment_observes() -> None:
    """Its clock and start: of the step, and at an end of the episode that ended."""
    env = make(counters("{ends_at: 3}"), "both")
    first = env.reset()[0]
    np.testing.assert_array_equal(first["state"][:, 0], 0)
    np.testing.assert_array_equal(first["state"][:, 1], first["pixels"][:, 0, 0, -2])
    actions = np.zeros((2, 2), np.float32)
    for clock in (1, 2):
        np.testing.assert_array_equal(env.step(actions)[0]["state"][:, 0], clock)
    observation, _, terminated, _, infos = env.step(actions)
    assert terminated.all()
    np.testing.assert_array_equal(observation["state"][:, 0], 0)
    np.testing.assert_array_equal(infos["final_obs"][0]["state"], [3, first["state"][0, 1]])
    env.close()


@pytest.mark.filterwarnings("ignore:.*started again")
def test_a_lost_environment_keeps_its_last_state() -> None:
    env = make(counters("{dies_at: 3}"), "state", 1)
    first = env.reset()[0]["state"][0]
    actions = np.zeros((1, 2), np.float32)
    env.step(actions)
    env.step(actions)
    observation, _, _, truncated, infos = env.step(actions)
    assert truncated.all()
    np.testing.assert_array_equal(infos["final_obs"][0]["state"], [2, first[1]])
    assert observation["state"][0, 0] == 0
    env.close()


def test_an_observation_of_another_size_than_its_space_is_an_error_that_names_it() -> None:
    """It is no death of the worker, which would be replaced again and again."""
    env = make(load_suite("gym/tests.envs.external_fakes:Misshapen-v0"), "state", 1)
    env.reset()
    still = np.zeros((1, 2), np.float32)
    env.step(still)
    env.step(still)
    named = r"environment 0 .*its observation has 3 numbers, and its observation space 2"
    with pytest.raises(ExternalEnvError, match=named):
        env.step(still)
    env.close()


def test_a_dict_is_flattened_and_may_be_observed() -> None:
    suite = load_suite("gym/tests.envs.external_fakes:SensibleDict-v0")
    assert suite.state_size == 5
    env = make(suite, "state", 1)
    # As Gymnasium flattens it: by key, the choice as one-hot.
    np.testing.assert_array_equal(env.reset()[0]["state"], [[0, 0, 1, 0.25, 0.5]])
    env.close()
    with pytest.raises(ValueError, match=r"observes a Dict of .*observation=state or both"):
        make(suite, "pixels", 1)


@pytest.mark.parametrize("name", ["debug", "external"])
def test_a_saved_environment_continues(name: str) -> None:
    suite = counters("{}") if name == "external" else load_suite("debug")
    envs = [make(suite, "both") for _ in range(2)]
    actions = np.full((2, 2), 0.5, np.float32)
    envs[0].reset()
    envs[0].step(actions)
    state = envs[0].state_dict()
    envs[1].load_state_dict(state)
    steps = [env.step(actions) for env in envs]
    if name == "external":  # as after the death of every worker, with the last state that was seen
        np.testing.assert_array_equal(final(steps[1][4], "state"), state["states"])
    else:
        for key in ("pixels", "state"):
            np.testing.assert_array_equal(steps[1][0][key], steps[0][0][key])
    alone = make(suite, "state")
    assert "pixels" not in alone.state_dict()
    with pytest.raises(ValueError, match="state has no key 'states'"):
        alone.load_state_dict({key: state[key] for key in state if key != "states"})
    for env in [*envs, alone]:
        env.close()


def test_states_of_warps_worlds_are_those_of_mujocos() -> None:
    """Through ends of episodes, after which the state is of the next one; and continued."""
    envs = [
        make_vec(
            short("debug", 3), 3, image_size=SIZE, threads=1, physics=physics, observation="state"
        )
        for physics in ("warp", "mujoco")
    ]
    found, expected = (env.reset()[0]["state"] for env in envs)
    actions = np.full((3, 2), 0.7, np.float32)
    for step in range(1, 6):
        np.testing.assert_allclose(found, expected, atol=1e-5)
        (ours, *_, ended), (theirs, *_, ended_there) = (env.step(actions) for env in envs)
        assert "pixels" not in ours
        assert ours["state"].dtype == np.float32
        assert ("final_obs" in ended) == (step == 3)
        if step == 3:
            last = final(ended, "state")
            np.testing.assert_allclose(last, final(ended_there, "state"), atol=1e-5)
        found, expected = ours["state"], theirs["state"]
    saved = envs[0].state_dict()
    np.testing.assert_array_equal(saved["states"], found)
    later = envs[0].step(actions)[0]["state"]
    envs[0].load_state_dict(saved)
    np.testing.assert_array_equal(envs[0].step(actions)[0]["state"], later)
    for env in envs:
        env.close()


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (lambda: "mixed_speed", "'mixed_speed': observation needs a state, and its bodies have"),
        (lambda: "quadruped_maze", "of family 'quadruped_maze' has none; choose pixels"),
        (lambda: "compat_quadruped_escape", "of family 'compat' has none; choose pixels"),
        (lambda: "jaco", "of family 'jaco' has none"),
        (lambda: "gym/tests.envs.external_fakes:ImageObserver-v0", "of family 'gym' has none"),
        (
            lambda: counters("{}", "{clocks: 4}", name="tests.envs.external_fakes:Sized-v0"),
            r"those of its tasks differ in size \(task_0 2, task_1 4\)",
        ),
    ],
)
@pytest.mark.parametrize("observation", ["state", "both"])
def test_suites_without_a_state_are_refused(
    suite: Callable[[], Suite | str], message: str, observation: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(suite(), observation, 4)


def test_an_unknown_observation_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of pixels, state, both, got 'touch'"):
        make("debug", "touch")


def test_external_environments_are_not_drawn_where_only_their_state_is_observed() -> None:
    """One that cannot be drawn can be played."""
    env = make(counters("{}", name="tests.envs.external_fakes:Plain-v0"), "state", 1)
    first, _ = env.reset()
    then, *_ = env.step(np.zeros((1, 2), np.float32))
    env.close()
    for observation in (first, then):
        assert "pixels" not in observation
        assert observation["state"].shape == (1, *env.single_observation_space["state"].shape)
        assert np.isfinite(observation["state"]).all()
