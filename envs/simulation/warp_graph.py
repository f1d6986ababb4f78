"""Capture launches of Warp kernels once and replay them, on a GPU and on Warp's CPU device."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import warp


class WarpGraph:
    """Replay launches that were captured once.

    The graph keeps pointers: arrays that the launches read or write must not be replaced later.

    Args:
        device: Warp's name of the device, such as "cpu" or "cuda:0".
        launches: makes the launches. It is called twice: kernels that are compiled, and memory that
            is taken, at a first call must not be part of the graph.
    """

    def __init__(self, device: str, launches: Callable[[], None]) -> None:
        self._is_cuda = device != "cpu"
        self._device = device
        with warp.ScopedDevice(device):
            launches()
            with _without_garbage_collection(), warp.ScopedCapture(device=device) as capture:
                launches()
        self._graph = capture.graph

    def replay(self) -> None:
        """Make the launches again, on a GPU in the order of torch's current stream."""
        # Warp's own stream is ordered with torch's default stream only.
        stream = None
        if self._is_cuda:
            stream = warp.stream_from_torch(torch.cuda.current_stream(self._device))
        warp.capture_launch(self._graph, stream=stream)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep destructors of other objects out of a graph."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
