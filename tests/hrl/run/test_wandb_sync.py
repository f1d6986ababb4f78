"""`wandb sync` uploads an offline run whole: every metric, its video, its name and its group."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hrl.evaluation.video_writer import write_mp4
from hrl.run.folder import RunFolder
from hrl.run.logger import Logger
from tests.hrl.run.wandb_server import wandb_server

CONFIG = {"seed": 3, "suite": {"name": "point_mass"}, "agent": {"name": "skills"}}


def _record(folder: RunFolder) -> None:
    video = folder.path / "reach.mp4"
    write_mp4(video, (np.full((32, 32, 3), 9 * time, np.uint8) for time in range(9)), fps=20)
    with Logger(folder, config=CONFIG, wandb_mode="offline", tensorboard=False) as logger:
        for frames in range(10, 60, 10):
            if frames == 30:
                logger.log_video("video/reach", video, frames)
            logger.log({"frames": frames, "loss/policy": frames / 2})


@pytest.mark.slow
def test_an_offline_run_is_uploaded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = RunFolder(tmp_path)
    _record(folder)
    (run,) = folder.wandb.glob("offline-run-*")
    with wandb_server() as server:
        account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": 40 * "a"}
        subprocess.run(
            [sys.executable, "-m", "wandb", "sync", str(run)],
            env=os.environ | account,
            check=True,
            timeout=100,
        )
    metrics = [(line["frames"], line["loss/policy"]) for line in server.history]
    assert metrics == [(frames, frames / 2) for frames in range(10, 60, 10)]
    (shown,) = [line["video/reach"]["path"] for line in server.history if "video/reach" in line]
    assert server.history[2]["video/reach"]["path"] == shown
    assert server.files[shown] == (tmp_path / "reach.mp4").read_bytes()
    created = server.runs[0]
    assert created["project"] == "pixel-hrl"
    assert created["groupName"] == "point_mass-skills"
    assert created["displayName"] == "point_mass-skills-3"
    assert created["name"] == (folder.wandb / "run_id").read_text()
