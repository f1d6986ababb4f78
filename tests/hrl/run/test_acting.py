"""A trained policy acts in three lines, over many episodes, whatever the size of its images."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import hrl
from hrl.config import load
from hrl.evaluation.episodes import evaluate, evaluation_env
from hrl.run.errors import CheckpointError, FolderError
from hrl.run.eval_config import eval_config_for
from hrl.run.hardware import choose_device
from hrl.run.load import load_run
from hrl.run.train import train

SMALL = [
    "suite=debug",
    "size=debug",
    "frames=512",
    "evaluation.every=0",
    "tracking.wandb=disabled",
    "tracking.tensorboard=false",
    "tracking.progress=false",
    "threads=1",
    "device=cpu",
]
WORLD_MODEL = ["agent.batch_size=4", "agent.sequence_length=4", "agent.train_ratio=1"]
AGENTS = {"skills": [], "ppo": ["image_size=84"], "director": WORLD_MODEL, "sb3_ppo": []}
EPISODES = 3


@pytest.fixture(scope="module", params=AGENTS)
def folder(request, tmp_path_factory):
    """A run of each kind of policy: hierarchical, without memory, with a world model, library."""
    made = tmp_path_factory.mktemp(request.param) / "run"
    overrides = [f"agent={request.param}", *SMALL, *AGENTS[request.param], f"folder={made}"]
    train(load(overrides), "a test")
    return made


def expected_returns(folder):
    """Returns of the first episodes of each training task, as the evaluator has them."""
    run = load_run(folder)
    eval_config = eval_config_for(run.config, choose_device("cpu"), EPISODES)
    scores = evaluate(run.policy, run.suite, ["train"], eval_config).scores
    return scores.pivot(index="task", columns="episode", values="return")


def test_a_vector_environment_is_played_over_many_episodes(folder):
    policy = hrl.load_policy(folder)
    tasks = policy.suite.tasks("train")
    eval_config = eval_config_for(policy.config, choose_device("cpu"), EPISODES)
    env = evaluation_env(policy.suite, tasks, len(tasks), eval_config)
    returns = {task.name: [] for task in tasks}
    observation, done = env.reset()[0], True
    while min(map(len, returns.values())) < EPISODES:
        action = policy.act(observation, done)
        observation, _, terminated, truncated, infos = env.step(action)
        done = terminated | truncated
        for index in np.flatnonzero(done):
            returns[tasks[index].name].append(infos["episode_statistics"]["return"][index])
    env.close()
    expected = expected_returns(folder)
    for task in tasks:
        assert returns[task.name][:EPISODES] == pytest.approx(expected.loc[task.name].tolist())


def test_a_single_environment_is_played_over_many_episodes(folder):
    policy = hrl.load_policy(folder / "policy.safetensors")
    task = policy.suite.tasks("train")[0]
    env = policy.make_env()
    evaluated = eval_config_for(policy.config, choose_device("cpu"), EPISODES)
    env._env.close()
    env._env = evaluation_env(policy.suite, [task], 1, evaluated)
    returns = []
    for _ in range(EPISODES):
        observation, done, begins, earned = env.reset()[0], False, True, 0.0
        while not done:
            action = policy.act(observation, begins)
            observation, reward, terminated, truncated, _ = env.step(action)
            begins, done, earned = False, terminated or truncated, earned + reward
        returns.append(earned)
    env.close()
    assert returns == pytest.approx(expected_returns(folder).loc[task.name].tolist(), rel=1e-5)


def test_environments_are_made_as_in_training(folder):
    policy = hrl.load_policy(folder)
    env = policy.make_vec_env(3, split="interpolation")
    assert policy.act(env.reset()[0], done=True).shape == env.action_space.shape
    env.close()


def test_images_of_another_size_are_refused(folder):
    policy = hrl.load_policy(folder)
    size = policy.config.image_size
    wrong = {"pixels": np.zeros((2, size + 8, size + 8, 3), np.uint8)}
    with pytest.raises(
        ValueError, match=rf"give the environment image_size={size} and frame_stack=1"
    ):
        policy.act(wrong, done=True)


def test_the_number_of_environments_changes_only_between_episodes(folder):
    policy = hrl.load_policy(folder)
    for count in (2, 3):
        env = policy.make_vec_env(count)
        observation = env.reset()[0]
        assert len(policy.act(observation, done=True)) == count
        env.close()
    fewer = {key: value[:1] for key, value in observation.items()}
    with pytest.raises(ValueError, match="of 1 environments and the one before was of 3"):
        policy.act(fewer, done=False)


def test_what_does_not_fit_the_policy_is_named(folder):
    policy = hrl.load_policy(folder, device="cpu")
    env = policy.make_vec_env(3)
    seen = env.reset()[0]
    wrong = [
        ({key: seen[key] for key in ("pixels", "task")}, True, "has no 'action_mask'; it needs"),
        ({**seen, "task": seen["task"][:2]}, True, r"task has the shape \(2, .*not \(3, "),
        ({**seen, "task": np.zeros((3, 9), np.float32)}, True, "task has the shape"),
        ({**seen, "pixels": seen["pixels"] / 255}, True, "pixels must be uint8"),
        (
            seen,
            np.zeros(2, bool),
            r"done has the shape \(2,\): give one value, or one for each of 3",
        ),
        (seen, np.zeros((3, 1), bool), "done has the shape"),
    ]
    for observation, done, message in wrong:
        with pytest.raises(ValueError, match=message):
            policy.act(observation, done)
    doubles = {**seen, "task": seen["task"].astype(np.float64)}
    np.testing.assert_array_equal(policy.act(doubles, True), policy.act(seen, True))


def test_what_is_no_policy_is_refused(folder, tmp_path):
    with pytest.raises(FolderError, match="is not a run folder"):
        hrl.load_policy(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        hrl.load_policy(tmp_path / "policy.safetensors")
    training = next((folder / "checkpoints").glob("*.training.*"))
    shutil.copy(training, tmp_path / "policy.safetensors")
    with pytest.raises(CheckpointError, match="it is not a policy file"):
        hrl.load_policy(tmp_path / "policy.safetensors")


def test_importing_the_package_is_quick_and_sets_the_threads_first():
    program = (
        "import sys, os, hrl; assert not {'torch', 'mujoco'} & sys.modules.keys(); "
        "assert os.environ['GOMP_SPINCOUNT']; assert callable(hrl.load_policy)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == 0
