"""An update replayed as one CUDA graph: thousands of small kernel launches become one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hrl.optim.compile import Update

WARM_UP = 3
"""Updates made kernel by kernel before one is recorded: libraries choose their algorithms,
optimisers make state."""


class GraphedUpdate:
    """Calls `update` as it is `WARM_UP` times, records the next call, and from then on replays the
    recording.

    Every call makes exactly one update: recording runs nothing, and the recorded call is replayed
    at once. Random numbers come from torch's default generator, whose seed is read at every replay.

    Args:
        update: of a batch, whose tensors keep their shapes; all its work is on the device, waits
            for nothing and changes parameters and buffers in place.
    """

    def __init__(self, update: Update) -> None:
        self._update = update
        self._calls = 0
        # One for all that is not replayed: memory and libraries' workspaces belong to a stream.
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: dict[str, Tensor] = {}
        self._outputs: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Metrics and latents, in memory of their own."""
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._beside(batch)
        if self._graph is None:
            self._record(batch)
        assert self._graph is not None
        for name, held in self._batch.items():
            held.copy_(batch[name])
        self._graph.replay()
        metrics, latents = (
            {name: value.clone() for name, value in part.items()} for part in self._outputs
        )
        return metrics, latents

    # Private methods.

    def _beside(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """On the stream that it will be recorded on, which must not be the default one."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = self._update(batch)
        current.wait_stream(self._stream)
        return outputs

    def _record(self, batch: Mapping[str, Tensor]) -> None:
        self._batch = {name: value.clone() for name, value in batch.items()}
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._stream):
            self._outputs = self._update(self._batch)
