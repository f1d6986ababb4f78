"""Read what went wrong on the device, without making a GPU wait."""

import torch
from mujoco_warp._src.types import OverflowType
from torch import Tensor

from envs.simulation.warp_kernels import NOT_FINITE

# The solver's limit of iterations is MuJoCo's too and is no fault.
COUNTED = int(OverflowType.ALL & ~(OverflowType.ITERATIONS | OverflowType.LS_ITERATIONS))


def fault_names(bits: int) -> list[str]:
    """Return what the bits of a world's faults stand for."""
    names = [
        f"overflow of {kind.name}"
        for kind in OverflowType
        if kind.name is not None and kind != OverflowType.ALL and bits & kind
    ]
    return names + ["a position, velocity or control that is not finite"] * bool(bits & NOT_FINITE)


class FaultReader:
    """Say whether any world has a fault.

    On a GPU the answer is that of an earlier question: it is copied while the device goes on.

    Args:
        faults: int32 [world], bits of each world's faults.
    """

    def __init__(self, faults: Tensor) -> None:
        self._faults = faults
        self._is_cuda = faults.device.type == "cuda"
        if self._is_cuda:
            self._answer = torch.zeros((), dtype=torch.bool, pin_memory=True)
            self._answered = torch.cuda.Event()
            self._has_asked = False

    def found(self) -> bool:
        """Return whether a fault is known of."""
        if not self._is_cuda:
            return bool(self._faults.any())
        if self._has_asked and not self._answered.query():
            return False
        known = self._has_asked and bool(self._answer)
        self._answer.copy_(self._faults.any(), non_blocking=True)
        self._answered.record()
        self._has_asked = True
        return known
