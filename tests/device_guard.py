"""Notice where a computation asks its device for a value, for which the host would wait."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

TRANSFERS = (
    "cpu",
    "item",
    "new_tensor",
    "numpy",
    "tolist",
    "__bool__",
    "__float__",
    "__int__",
)


class Asking(TorchDispatchMode):
    """Refuse the operations for whose answer the host would wait."""

    refused = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = operation.overloadpacket.__name__
        assert name not in self.refused, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            masks = [index for index in args[1] if index is not None and index.dtype == torch.bool]
            assert not masks, "the number of true entries of a mask is asked of the device"
        return operation(*args, **(kwargs or {}))


def refuse_transfers(monkeypatch: pytest.MonkeyPatch, but: Sequence[str] = ()) -> None:
    """Let all that copies a tensor's values to the host fail, or numbers to the device.

    Args:
        monkeypatch: undoes it.
        but: names of methods that stay as they are.
    """
    for name in TRANSFERS:
        if name not in but:
            monkeypatch.setattr(torch.Tensor, name, _refuse)
    monkeypatch.setattr(torch, "tensor", _refuse)


def _refuse(*arguments: object, **options: object) -> None:
    raise AssertionError("something is copied to the host, or numbers to the device")
