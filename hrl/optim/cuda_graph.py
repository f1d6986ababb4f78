"""Replay an update as one CUDA graph, so that thousands of small kernel launches become one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hrl.optim.compile import Update

WARM_UP = 3
"""Number of plain updates before one is recorded: in these, libraries choose their algorithms and
optimizers allocate their state."""


class GraphedUpdate:
    """Run `update` plainly `WARM_UP` times, record the next call, then replay the recording.

    Every call makes exactly one update: recording executes nothing, and the recorded call is
    replayed at once. Random numbers come from torch's default generator, whose seed is read at
    every replay.

    Args:
        update: takes a batch whose tensors keep their shapes. All its work is on the device, waits
            for nothing on the host, and changes parameters and buffers in place.
    """

    def __init__(self, update: Update) -> None:
        self._update = update
        self._calls = 0
        # All plain updates share one stream: memory and libraries' workspaces belong to a stream.
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: dict[str, Tensor] = {}
        self._outputs: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Make one update and return metrics and latents, which later calls do not overwrite."""
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._run_on_side_stream(batch)
        if self._graph is None:
            self._record(batch)
        assert self._graph is not None
        for name, recorded in self._batch.items():
            recorded.copy_(batch[name])
        self._graph.replay()
        metrics, latents = (
            {name: value.clone() for name, value in part.items()} for part in self._outputs
        )
        return metrics, latents

    # Private methods.

    def _run_on_side_stream(
        self, batch: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Make a plain update on the stream of the recording, which may not be the default one."""
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
