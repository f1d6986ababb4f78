"""A quantity that stopped being finite is named, and the update that made it can be done again."""

import math
from pathlib import Path

import pytest
import torch

from hrl.run.checkpoint_format import read
from hrl.run.errors import NonFiniteError
from hrl.run.folder import RunFolder
from hrl.run.nan_dump import dump_nonfinite

COUNTERS = {"frames": 12_000, "updates": 34}


def test_the_error_says_what_when_and_where(tmp_path: Path) -> None:
    path = tmp_path / "nonfinite_34.safetensors"
    error = NonFiniteError("loss/policy is not finite", COUNTERS, path)
    where = "loss/policy is not finite at frames 12000, updates 34"
    assert str(error) == f"{where}; what it was computed from is in {path}"
    assert error.path == path
    unsaved = NonFiniteError("loss/policy is not finite", COUNTERS, None)
    assert str(unsaved) == f"{where}; what it was computed from could not be saved"


def test_a_failed_update_can_be_done_again_from_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    batch = {"task": torch.randn(4, 3), "reward": torch.tensor([[0.1], [0.2], [math.nan], [0.3]])}

    def update(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        error = model(batch["task"]) - batch["reward"]
        return {"loss": error.square().mean().item(), "finite": error.nansum().item()}

    metrics = update(model, batch)
    assert math.isnan(metrics["loss"])
    path = dump_nonfinite(
        RunFolder(tmp_path / "run"),
        batch=batch,
        counters=COUNTERS,
        metrics=metrics,
        state={"model": model.state_dict()},
    )
    assert path == tmp_path / "run" / "nonfinite_34.safetensors"

    checkpoint = read(path)
    again = torch.nn.Linear(3, 1)
    again.load_state_dict(checkpoint.state["state"]["model"])
    repeated = update(again, checkpoint.state["batch"])
    assert math.isnan(repeated["loss"])
    assert repeated["finite"] == metrics["finite"] == checkpoint.state["metrics"]["finite"]
    assert math.isnan(checkpoint.state["metrics"]["loss"])
    assert checkpoint.metadata["counters"] == COUNTERS
    assert checkpoint.frames == 12_000


def test_the_file_is_named_by_a_counter(tmp_path: Path) -> None:
    path = dump_nonfinite(
        RunFolder(tmp_path), batch={}, counters={"frames": 5}, metrics={}, state={}
    )
    assert path.name == "nonfinite_5.safetensors"
    with pytest.raises(ValueError, match="need 'updates' or 'frames'"):
        dump_nonfinite(RunFolder(tmp_path), batch={}, counters={"seed": 5}, metrics={}, state={})
