"""Store experience in a ring of rows per environment, and draw sequences of it.

A row is one step of one environment, in columns that the owner of the buffer names. The newest
experience is drawn at least once: each environment's stream is cut into sequences that overlap in
the context of the later one, and each is queued when its last row arrives. With sequences of four
rows, the first of which is context::

    row      0   1   2   3   4   5   6   7   8   9 ...
    first   ctx new new new
    second              ctx new new new
    third                           ctx new new new

Up to half of every batch is taken from this queue, first come first served, and the rest is drawn
uniformly. This is the sampling of DreamerV3 (Hafner et al. 2023, arXiv 2301.04104, section
"Experience replay"). The limit of half a batch is our addition: environments that run in lock-step
complete their sequences together, and no batch should hold those alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor


class Column(NamedTuple):
    """Describe the values that every row holds under one name: their shape and dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Return the size of one row's values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"


class SequenceIndex(NamedTuple):
    """Name sequences by their environment and the number of their first row; kept on the host.

    Rows are numbered from the beginning of the environment's stream, not by their position in the
    ring, so that an overwritten row can be distinguished from the row that replaced it.
    """

    envs: Int64[Tensor, " batch"]
    rows: Int64[Tensor, " batch"]


class Batch(NamedTuple):
    """Hold sampled sequences and their index.

    Attributes:
        columns: [batch, sequence_length, ...] by column name, on the buffer's device.
        sequence_index: of the sequences, for `ReplayBuffer.update_latents`.
    """

    columns: dict[str, Tensor]
    sequence_index: SequenceIndex


class ReplayBuffer:
    """Keep the newest rows of every environment on one device.

    A sequence is `sequence_length` consecutive rows of one environment. It may run across the ends
    of episodes, and it never mixes rows from both sides of the ring's write position. The
    bookkeeping is on the host, so neither sampling nor updating latents waits for a GPU; their cost
    depends on the batch and the number of environments, not on the capacity.

    Args:
        columns: of a row, by name.
        num_envs: number of environments, which are numbered from 0.
        capacity: rows over all environments; each has a ring of `capacity // num_envs`.
        sequence_length: rows of a sequence, its context included.
        device: of the rows and of the batches.
        context_rows: rows at the beginning of a sequence that are its context.

    Raises:
        ValueError: no columns, no environment, no context or no row after it, or a capacity below
            one sequence per environment.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        num_envs: int,
        capacity: int,
        sequence_length: int,
        device: torch.device,
        context_rows: int = 1,
    ) -> None:
        _check_sizes(columns, num_envs, capacity, sequence_length, context_rows)
        self.columns = dict(columns)
        self.num_envs = num_envs
        self.capacity = capacity
        self.sequence_length = sequence_length
        self.context_rows = context_rows
        self.device = device
        self._ring = capacity // num_envs
        # Uninitialised, so that the system provides host memory only as the buffer fills. Rows are
        # read only after they were written.
        self._storage = {
            name: torch.empty(
                num_envs * self._ring, *column.shape, dtype=column.dtype, device=device
            )
            for name, column in self.columns.items()
        }
        self._added = torch.zeros(num_envs, dtype=torch.int64)
        self._recent: deque[tuple[int, int]] = deque()

    @staticmethod
    def bytes_needed(columns: Mapping[str, Column], num_envs: int, capacity: int) -> int:
        """Return the bytes that a full buffer of these sizes takes on its device."""
        return num_envs * (capacity // num_envs) * sum(column.bytes for column in columns.values())

    @property
    def steps(self) -> int:
        """Return the number of rows stored, over all environments."""
        return int(self._num_rows().sum())

    def can_sample(self, batch_size: int) -> bool:
        """Return whether the buffer stores enough different sequences to fill a batch.

        A buffer too small for that ever to be so can be sampled once its rings are full.
        """
        most = self.num_envs * (self._ring - self.sequence_length + 1)
        return int(self._num_sequences().sum()) >= min(batch_size, most)

    @torch.no_grad()
    def add(
        self, rows: Mapping[str, Shaped[Tensor, "rows ..."]], envs: Int64[Tensor, " rows"]
    ) -> None:
        """Append one row to the streams of some environments.

        A row replaces the oldest one of its environment if the ring is full.

        Args:
            rows: [rows, ...] for every column, on any device, of a dtype that casts to the
                column's.
            envs: the environment of each row, each at most once. On the host; elsewhere this waits
                for the device.

        Raises:
            ValueError: missing or unknown columns, wrong shapes or kinds of dtype, an environment
                that is named twice or does not exist. Nothing was added.
        """
        envs = envs.cpu()
        self._check_rows(rows, envs)
        index = self._storage_index(envs, self._added[envs]).to(self.device, non_blocking=True)
        for name, values in rows.items():
            storage = self._storage[name]
            storage.index_copy_(0, index, values.to(storage.device, storage.dtype))
        self._added = self._added.index_add(0, envs, torch.ones_like(envs))
        self._queue(envs)

    def sample(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Return at most half a batch (rounded up) from the queue, and uniform draws for the rest.

        Every stored sequence has the same probability in a uniform draw, whatever its environment;
        draws may repeat. Queued sequences that were overwritten while they waited are skipped. Each
        is drawn if updates keep up, that is if fewer sequences are completed between two batches
        than half a batch holds.

        Args:
            batch_size: number of sequences.
            generator: of the uniform draws. On the host; elsewhere this waits for its device.

        Raises:
            ValueError: a batch_size below 1, or no whole sequence is stored yet.
        """
        self._check_batch_size(batch_size)
        recent = self._take_recent((batch_size + 1) // 2)
        uniform = self._draw_uniform(batch_size - len(recent.rows), generator)
        envs = torch.cat([recent.envs, uniform.envs])
        rows = torch.cat([recent.rows, uniform.rows])
        return self._read(SequenceIndex(envs, rows))

    def sample_uniform(self, batch_size: int, generator: torch.Generator) -> Batch:
        """Return uniform draws only; the queue, and so what is sampled later, does not change.

        Raises:
            ValueError: as `sample`.
        """
        self._check_batch_size(batch_size)
        return self._read(self._draw_uniform(batch_size, generator))

    @torch.no_grad()
    def update_latents(
        self, sequence_index: SequenceIndex, columns: Mapping[str, Shaped[Tensor, "batch time ..."]]
    ) -> None:
        """Replace columns of sampled sequences, such as latents that an update computed anew.

        Rows that were overwritten since the sampling are left as they are; without `add` in between
        there are none. Where sequences overlap, the values of the later one in the batch are kept,
        on every device.

        Args:
            sequence_index: of the batch.
            columns: some of the columns, [batch, time, ...], for the last `time` rows of each
                sequence: all of them, or one fewer to leave the context row as it is.

        Raises:
            ValueError: unknown columns, wrong shapes or kinds of dtype. Nothing was written.
        """
        time = self._check_latents(sequence_index, columns)
        index = self._row_index(sequence_index, time)
        source = _last_of_each(index, self._is_stored(sequence_index, time))
        target = index[source].to(self.device, non_blocking=True)
        source = source.to(self.device, non_blocking=True)
        for name, values in columns.items():
            storage = self._storage[name]
            values = values.to(storage.device, storage.dtype).flatten(0, 1)
            storage.index_copy_(0, target, values.index_select(0, source))

    def state_dict(self) -> dict[str, Any]:
        """Return the stored rows and the queue.

        Rows are views of the buffer's memory: write them to a file before the next `add`.
        """
        num_rows = self._num_rows().tolist()
        return {
            "layout": self._layout(),
            "added": self._added,
            "recent": torch.tensor(list(self._recent), dtype=torch.int64).reshape(-1, 2),
            "rows": {
                name: [
                    ring[:count]
                    for ring, count in zip(storage.split(self._ring), num_rows, strict=True)
                ]
                for name, storage in self._storage.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`: the same calls return the same batches.

        Raises:
            ValueError: the state is of a buffer with other columns, capacity, num_envs or
                sequence_length; the message names what differs.
        """
        _check_layout(state["layout"], self._layout())
        self._added = state["added"].cpu()
        self._recent = deque((env, row) for env, row in state["recent"].tolist())
        for name, storage in self._storage.items():
            for ring, saved in zip(storage.split(self._ring), state["rows"][name], strict=True):
                ring[: len(saved)] = saved

    # Private methods.

    def _read(self, sequence_index: SequenceIndex) -> Batch:
        index = self._row_index(sequence_index, self.sequence_length)
        index = index.to(self.device, non_blocking=True)
        shape = (len(sequence_index.rows), self.sequence_length)
        columns = {
            name: storage.index_select(0, index).unflatten(0, shape)
            for name, storage in self._storage.items()
        }
        return Batch(columns, sequence_index)

    def _num_rows(self) -> Int64[Tensor, " env"]:
        """Return how many rows each environment has in its ring."""
        return self._added.clamp(max=self._ring)

    def _oldest(self) -> Int64[Tensor, " env"]:
        """Return the number of each environment's oldest stored row."""
        return self._added - self._num_rows()

    def _num_sequences(self) -> Int64[Tensor, " env"]:
        """Return how many sequences each environment has in its ring."""
        return (self._num_rows() - self.sequence_length + 1).clamp(min=0)

    def _storage_index(
        self, envs: Int64[Tensor, "*any"], rows: Int64[Tensor, "*any"]
    ) -> Int64[Tensor, "*any"]:
        """Return the positions of the numbered rows in the storage."""
        return envs * self._ring + rows % self._ring

    def _last_rows(self, sequence_index: SequenceIndex, time: int) -> Int64[Tensor, "batch time"]:
        """Return the numbers of the last `time` rows of each sequence."""
        offsets = torch.arange(self.sequence_length - time, self.sequence_length)
        return sequence_index.rows.unsqueeze(1) + offsets

    def _row_index(self, sequence_index: SequenceIndex, time: int) -> Int64[Tensor, " row"]:
        """Return the storage positions of the last `time` rows of each sequence."""
        rows = self._last_rows(sequence_index, time)
        envs = sequence_index.envs.unsqueeze(1).expand_as(rows)
        return self._storage_index(envs, rows).flatten()

    def _is_stored(self, sequence_index: SequenceIndex, time: int) -> Bool[Tensor, " row"]:
        """Return whether each of the last `time` rows has not been overwritten."""
        oldest = self._oldest()[sequence_index.envs].unsqueeze(1)
        return (self._last_rows(sequence_index, time) >= oldest).flatten()

    def _queue(self, envs: Int64[Tensor, " rows"]) -> None:
        """Queue the sequences that the newest rows of these environments complete."""
        new = self.sequence_length - self.context_rows
        first = self._added[envs] - self.sequence_length
        complete = (first >= 0) & (first % new == 0)
        first = first[complete]
        self._recent.extend(zip(envs[complete].tolist(), first.tolist(), strict=True))
        # While nothing is sampled the queue must not outgrow the rings.
        while self._recent and self._overwritten(*self._recent[0]):
            self._recent.popleft()

    def _overwritten(self, env: int, row: int) -> bool:
        return row < int(self._added[env]) - self._ring

    def _take_recent(self, most: int) -> SequenceIndex:
        taken: list[tuple[int, int]] = []
        while self._recent and len(taken) < most:
            queued = self._recent.popleft()
            if not self._overwritten(*queued):
                taken.append(queued)
        envs, rows = torch.tensor(taken, dtype=torch.int64).reshape(-1, 2).unbind(1)
        return SequenceIndex(envs, rows)

    def _draw_uniform(self, count: int, generator: torch.Generator) -> SequenceIndex:
        """Draw uniformly among all stored sequences.

        Sequences are numbered through all environments, so that each drawn number falls into the
        span of one environment.
        """
        counts = self._num_sequences()
        ends = counts.cumsum(0)
        shape = (count,)
        draws = torch.randint(int(ends[-1]), shape, generator=generator, device=generator.device)
        draws = draws.cpu()
        envs = torch.searchsorted(ends, draws, right=True)
        begins = ends - counts
        return SequenceIndex(envs, self._oldest()[envs] + draws - begins[envs])

    def _layout(self) -> dict[str, int | str]:
        columns = {f"column {name}": str(column) for name, column in self.columns.items()}
        return {
            "capacity": self.capacity,
            "num_envs": self.num_envs,
            "sequence_length": self.sequence_length,
            **columns,
        }

    def _check_rows(self, rows: Mapping[str, Tensor], envs: Tensor) -> None:
        missing = self.columns.keys() - rows.keys()
        if missing:
            raise ValueError(f"rows lack the columns {sorted(missing)}")
        for name, values in rows.items():
            self._check_values(name, values, (len(envs),))
        if len(envs.unique()) < len(envs) or ((envs < 0) | (envs >= self.num_envs)).any():
            raise ValueError(
                f"envs are {envs.tolist()}; they must be different numbers below {self.num_envs}"
            )

    def _check_latents(self, sequence_index: SequenceIndex, columns: Mapping[str, Tensor]) -> int:
        """Check columns for `update_latents`; return the number of rows given per sequence."""
        batch = len(sequence_index.rows)
        times = {values.shape[1] if values.dim() > 1 else 0 for values in columns.values()}
        if len(times) != 1 or not 1 <= max(times) <= self.sequence_length:
            raise ValueError(
                f"columns hold {sorted(times)} rows of each sequence; "
                f"they must all hold the same number of rows, 1 to {self.sequence_length}"
            )
        (time,) = times
        for name, values in columns.items():
            self._check_values(name, values, (batch, time))
        return time

    def _check_values(self, name: str, values: Tensor, leading: tuple[int, ...]) -> None:
        if name not in self.columns:
            raise ValueError(f"unknown column {name!r}; the columns are {', '.join(self.columns)}")
        column = self.columns[name]
        shape = (*leading, *column.shape)
        if tuple(values.shape) != shape or not torch.can_cast(values.dtype, column.dtype):
            given = Column(tuple(values.shape), values.dtype)
            wanted = Column(shape, column.dtype)
            raise ValueError(f"column {name!r} is {given}; it must be {wanted}")

    def _check_batch_size(self, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        if not self._num_sequences().any():
            raise ValueError(
                f"no environment has a sequence of {self.sequence_length} rows yet; "
                f"the fullest has {int(self._num_rows().max())} rows"
            )


def _last_of_each(
    index: Int64[Tensor, " row"], is_stored: Bool[Tensor, " row"]
) -> Int64[Tensor, " unique"]:
    """Return the positions of the stored entries; of equal ones only the last.

    Without this the value that remains would depend on a GPU's order of writes.
    """
    positions = is_stored.nonzero().squeeze(1)
    positions = positions[index[positions].argsort(stable=True)]
    ordered = index[positions]
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    return positions[last]


def _check_sizes(
    columns: Mapping[str, Column],
    num_envs: int,
    capacity: int,
    sequence_length: int,
    context_rows: int,
) -> None:
    if not columns or num_envs < 1 or not 1 <= context_rows < sequence_length:
        raise ValueError(
            "a replay buffer needs at least 1 column, num_envs of at least 1, and sequences with 1 "
            "row of context or more and 1 after it, not "
            f"{len(columns)}, {num_envs}, and {context_rows} of {sequence_length} rows"
        )
    least = num_envs * sequence_length
    if capacity < least:
        raise ValueError(
            f"capacity is {capacity}; it must be at least {least}, "
            f"one sequence of {sequence_length} rows for each of {num_envs} environments"
        )


def _check_layout(saved: Mapping[str, int | str], here: Mapping[str, int | str]) -> None:
    differing = [
        f"{key}: {saved.get(key, 'absent')} saved, {here.get(key, 'absent')} here"
        for key in sorted(saved.keys() | here.keys())
        if saved.get(key) != here.get(key)
    ]
    if differing:
        raise ValueError("the saved replay buffer has another layout: " + "; ".join(differing))
