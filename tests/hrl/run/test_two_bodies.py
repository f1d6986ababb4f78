"""Two Gymnasium environments with 2 and 6 actions in one suite, whose task vectors are equal: each
agent uses all actions of each, in training, evaluation, videos and the replay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from envs.resources import add_config_dir
from envs.vector.external import ExternalVectorEnv
from hrl.config import load
from hrl.evaluation.policy_video import record_video
from hrl.run.checkpoints import Checkpoints
from hrl.run.eval_config import eval_config_for
from hrl.run.evaluate import evaluate_run
from hrl.run.folder import RunFolder
from hrl.run.hardware import choose_device
from hrl.run.load import load_run
from hrl.run.train import train

BODIES = {"two": ("Limited-v0", 2), "six": ("SixActions-v0", 6)}
SETTINGS = [
    "suite=two_bodies",
    "size=debug",
    "frames=256",
    "num_envs=4",
    "evaluation.every=0",
    "tracking.wandb=disabled",
    "tracking.tensorboard=false",
    "tracking.videos=0",
    "tracking.progress=false",
    "threads=1",
]
WORLD_MODEL = [
    "agent.batch_size=2",
    "agent.sequence_length=8",
    "agent.replay_capacity=600",
    "agent.train_ratio=0.25",
]


@pytest.fixture(scope="module", autouse=True)
def _suite(tmp_path_factory: pytest.TempPathFactory) -> None:
    tasks = [
        {
            "name": name,
            "family": "gym",
            "parameters": {
                "id": f"tests.envs.external_fakes:{known_as}",
                "kwargs": "{}",
                "render": "auto",
                "camera": "",
            },
            "episode_length": 12,
            "evaluation_seed": number,
        }
        for number, (name, (known_as, _)) in enumerate(BODIES.items())
    ]
    suite = {
        "name": "two_bodies",
        "action_repeat": 1,
        "reference_return": 100.0,
        "parameter": "id",
        "splits": {"train": tasks},
    }
    folder = tmp_path_factory.mktemp("own")
    (folder / "suite").mkdir()
    (folder / "suite" / "two_bodies.yaml").write_text(yaml.safe_dump(suite))
    add_config_dir(folder)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[np.ndarray]]:
    """The actions that environments get, by task."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in BODIES}
    step = ExternalVectorEnv.step

    def recorded(self: ExternalVectorEnv, actions: np.ndarray) -> Any:
        for row, index in enumerate(self._episodes.task_index):
            found[self.tasks[index].name].append(np.array(actions[row]))
        return step(self, actions)

    monkeypatch.setattr(ExternalVectorEnv, "step", recorded)
    return found


def check(taken: dict[str, list[np.ndarray]]) -> None:
    """Every number that a body uses is moved, in both directions or at least at all; no other."""
    for name, (_, used) in BODIES.items():
        actions = np.stack(taken[name])
        assert (actions[:, :used] != 0).any(0).all(), name
        assert not actions[:, used:].any(), name
        taken[name].clear()


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["director", "dreamer"])
def test_every_action_of_every_body_is_used(
    agent: str, taken: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train(load([f"agent={agent}", f"folder={folder}", *SETTINGS, *WORLD_MODEL]), "a test")
    check(taken)
    run = load_run(folder)
    evaluate_run(run, folder, "a test", 1, None, 0)
    check(taken)
    eval_config = eval_config_for(run.config, choose_device(run.config.device), episodes=1)
    for task in run.suite.tasks("train"):
        record_video(run.policy, run.suite, task, eval_config, 6, tmp_path / f"{task.name}.mp4")
    check(taken)
    saved = Checkpoints(RunFolder(folder).checkpoints).load_latest()
    assert saved is not None
    rows = saved.state["learner"]["replay"]["rows"]
    used = set()
    for actions, masks in zip(rows["action"], rows["action_mask"], strict=True):
        used |= set(masks.sum(-1).tolist())
        assert not actions[~masks].any()
        assert (actions != 0)[masks].float().mean() > 0.5  # zeros are before episodes' ends
    assert used == {2, 6}
