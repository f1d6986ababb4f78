"""Real trainings as cells, and what an interrupted one has to end with."""

import json
import threading
from pathlib import Path

import torch

from hrl.config import load
from hrl.run.checkpoints import Checkpoints
from hrl.run.folder import RunFolder
from hrl.run.train import train
from hrl.study.cells import Cell, CellResources
from tests.hrl.same import assert_same
from tests.hrl.study.slurm_cluster import wait_for

FRAMES = 30_720
OVERRIDES = (
    "agent=ppo",
    "suite=debug",
    "size=debug",
    f"frames={FRAMES}",
    "evaluation.every=0",
    "tracking.wandb=disabled",
    "tracking.progress=false",
    "threads=1",
    "device=cpu",
)


def real_cell(
    folder: Path, name: str = "train debug/ppo/seed_0", checkpoint_every: int = 1_000_000
) -> Cell:
    """A training; by default its only checkpoints are those that it saves when it is stopped."""
    run = folder / "run"
    return Cell(
        name=name,
        command="train",
        arguments=(*OVERRIDES, f"checkpoint_every={checkpoint_every}", f"folder={run}"),
        folder=run,
        resources=CellResources(cores=1, memory=2**30, gpus=0),
        log=folder / "logs" / "cell.log",
        frames=FRAMES,
    )


def trains(cell: Cell) -> bool:
    """Whether the cell has made some iterations."""
    metrics = RunFolder(cell.folder).metrics
    return metrics.exists() and len(metrics.read_text().splitlines()) > 2


def in_the_middle(cell: Cell, act, ready=trains) -> threading.Thread:
    """Start a thread that acts once the cell trains."""

    def wait_and_act():
        wait_for(lambda: ready(cell), 600)
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def assert_as_if_never_stopped(cell: Cell, folder: Path) -> None:
    """Compare state and metrics with those of a run that was never stopped."""
    torch.set_num_threads(1)
    reference = train(load([*OVERRIDES, f"folder={folder}"]), "a test")
    states = [Checkpoints(run / "checkpoints").load_latest() for run in (cell.folder, reference)]
    assert_same(states[0].state, states[1].state)
    lines = [(run / "metrics.jsonl").read_text() for run in (cell.folder, reference)]
    assert lines[0] == lines[1]
    assert json.loads(lines[0].splitlines()[-1])["frames"] >= FRAMES
