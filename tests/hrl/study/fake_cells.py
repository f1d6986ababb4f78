"""Cells that are small programs, so that what runs them is tested without training."""

import sys
from pathlib import Path
from types import SimpleNamespace

from hrl.run.checkpoints import Checkpoints
from hrl.study.cells import Cell, CellResources

SMALL = CellResources(cores=1, memory=2**20, gpus=0)


def cell(folder: Path, name: str, **changes) -> Cell:
    """A training cell of 100 frames."""
    fields = {
        "command": "train",
        "arguments": (),
        "resources": SMALL,
        "frames": 100,
        "log": folder / "logs" / f"{name}.log",
    }
    return Cell(name=name, folder=folder / name, **{**fields, **changes})


def advance(one: Cell, frames: int) -> None:
    """Let the cell's run have a checkpoint at so many frames."""
    path = Checkpoints(one.folder / "checkpoints").path(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


class FakeExecutor:
    """Plays a script: for each cell, what its successive starts do and leave with.

    A step is (frames reached, exit code).
    """

    slots = None

    def __init__(self, script, room=2):
        self.script = {name: list(steps) for name, steps in script.items()}
        self.room = room
        self.starts = []
        self.running = 0
        self.most = 0
        self.stopped = []

    def fitting(self, ready):
        return list(ready)[: self.room - self.running]

    def start(self, cells):
        return [self._start(one) for one in cells]

    def _start(self, one):
        self.starts.append(one.name)
        self.running += 1
        self.most = max(self.most, self.running)
        frames, code = self.script[one.name].pop(0)
        state = SimpleNamespace(asked=False)

        def exit_code():
            if code is None and not state.asked:
                return None
            self.running -= 1
            advance(one, frames)
            return 138 if code is None else code

        def stop():
            state.asked = True
            self.stopped.append(one.name)

        return SimpleNamespace(exit_code=exit_code, stop=stop)


def program(text: str) -> list[str]:
    """The command line of a Python program."""
    return [sys.executable, "-c", text]
