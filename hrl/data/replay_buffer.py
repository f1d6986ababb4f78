"""Replay of experience: a ring of rows per environment, from which sequences are drawn.

A row is one step of one environment, in columns that whoever builds the replay names. The newest
experience is sure to be drawn at least once: each environment's stream is cut into sequences that
overlap in one row, the context of the later one, and each is queued when its last row arrives. With
sequences of four rows::

    row      0   1   2   3   4   5   6   7   8   9 ...
    first   ctx new new new
    second              ctx new new new
    third                           ctx new new new

Up to half of every batch is taken from this queue, first come first served, and the rest is drawn
uniformly. That is the sampling of DreamerV3 (Hafner et al. 2023, arXiv 2301.04104, section
"Experience replay"), with the half as our
addition: environments that run in lock-step complete their sequences together, and no batch should
    hold those alone.
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
    """What one row holds under one name."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Of one row."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"


class SequenceIndex(NamedTuple):
    """Where sequences lie, on the host: their environment, and the number of their first row in its
    stream.

    Rows are numbered from the stream's beginning, not by their place in the ring, so that a row
    which has been overwritten can be told from the one that took its place.
    """

    envs: Int64[Tensor, " batch"]
    rows: Int64[Tensor, " batch"]


class Batch(NamedTuple):
    """Sequences, each [batch, length, ...] by column name on the replay's device, and where they
    come from.
    """

    columns: dict[str, Tensor]
    sequence_index: SequenceIndex


class ReplayBuffer:
    """The newest rows of every environment, kept on one device.

    A sequence is `length` consecutive rows of one environment. It may run across the ends of
    episodes, and it never mixes rows from both sides of the ring's write position. The bookkeeping
    is on the host, so neither sampling nor writing back waits for a GPU; their cost depends on the
    batch and the number of environments, not on the capacity.

    Args:
        columns: what a row holds.
        num_envs: environments, numbered from 0.
        capacity: rows over all environments; each has a ring of `capacity // num_envs`.
        length: rows of a sequence, its row of context included.
        device: where the rows are kept and batches are made.

    Raises:
        ValueError: no columns, no environment, a length below 2, or a capacity below one sequence
            per environment.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        num_envs: int,
        capacity: int,
        length: int,
        device: torch.device,
    ) -> None:
        _refuse_sizes(columns, num_envs, capacity, length)
        self.columns = dict(columns)
        self.num_envs, self.capacity, self.length, self.device = num_envs, capacity, length, device
        self._ring = capacity // num_envs
        # Left uninitialised, so that the system hands out host memory as it fills; rows are read
        # only once written.
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
        """Bytes that a full replay of these sizes takes on its device."""
        return num_envs * (capacity // num_envs) * sum(column.bytes for column in columns.values())

    @property
    def steps(self) -> int:
        """Rows held, over all environments."""
        return int(self._held().sum())

    def ready(self, batch: int) -> bool:
        """Whether a batch need not hold a sequence twice, or no more sequences than now can ever be
        held.
        """
        most = self.num_envs * (self._ring - self.length + 1)
        return int(self._starts().sum()) >= min(batch, most)

    @torch.no_grad()
    def add(
        self, rows: Mapping[str, Shaped[Tensor, "rows ..."]], envs: Int64[Tensor, " rows"]
    ) -> None:
        """Appends one row to the streams of some environments, over their oldest where their ring
        is full.

        Args:
            rows: [rows, ...] for every column, on any device, of a dtype that casts to the
                column's.
            envs: whose rows they are, each at most once; on the host, else this waits for the
                device.

        Raises:
            ValueError: missing or unknown columns, wrong shapes or kinds of dtype, an environment
                that is named twice or does not exist. Nothing was added.
        """
        envs = envs.cpu()
        self._refuse_rows(rows, envs)
        index = self._flat(envs, self._added[envs]).to(self.device, non_blocking=True)
        for name, values in rows.items():
            storage = self._storage[name]
            storage.index_copy_(0, index, values.to(storage.device, storage.dtype))
        self._added = self._added.index_add(0, envs, torch.ones_like(envs))
        self._queue(envs)

    def sample(self, batch: int, generator: torch.Generator) -> Batch:
        """Sequences from the queue of recent ones, at most half a batch (rounded up), then uniform
        draws.

        Every sequence held has the same chance in a uniform draw, whatever its environment; draws
        may repeat. Queued sequences that were overwritten while they waited are passed over: each
        is drawn if updates keep up, that is if fewer sequences are completed between two batches
        than half a batch holds.

        Args:
            generator: decides the uniform draws; on the host, else this waits for its device.

        Raises:
            ValueError: a batch below 1, or no whole sequence is held yet.
        """
        self._refuse_batch(batch)
        recent = self._take_recent((batch + 1) // 2)
        uniform = self._draw(batch - len(recent.rows), generator)
        sequence_index = SequenceIndex(
            torch.cat([recent.envs, uniform.envs]), torch.cat([recent.rows, uniform.rows])
        )
        return self._read(sequence_index)

    def sample_uniform(self, batch: int, generator: torch.Generator) -> Batch:
        """Sequences from uniform draws alone: the queue stays as it is, so that later samples do
        too.

        Raises:
            ValueError: as `sample`.
        """
        self._refuse_batch(batch)
        return self._read(self._draw(batch, generator))

    @torch.no_grad()
    def update_latents(
        self, sequence_index: SequenceIndex, columns: Mapping[str, Shaped[Tensor, "batch time ..."]]
    ) -> None:
        """Replaces columns of sampled sequences, such as latents that an update has computed anew.

        Rows that newer ones have overwritten since the sampling are left alone; without `add` in
        between there are none. Where sequences overlap, the values of the later one in the batch
        are kept, on every device.

        Args:
            sequence_index: of the batch.
            columns: some of the columns, [batch, time, ...], for the last `time` rows of each
                sequence: all of them, or one fewer to leave the context as it is.

        Raises:
            ValueError: unknown columns, wrong shapes or kinds of dtype. Nothing was written.
        """
        time = self._refuse_refreshed(sequence_index, columns)
        index = self._sequences(sequence_index, time)
        source = _last_of_each(index, self._live(sequence_index, time))
        target, source = (
            part.to(self.device, non_blocking=True) for part in (index[source], source)
        )
        for name, values in columns.items():
            storage = self._storage[name]
            values = values.to(storage.device, storage.dtype).flatten(0, 1)
            storage.index_copy_(0, target, values.index_select(0, source))

    def state_dict(self) -> dict[str, Any]:
        """The rows held, and the queue. Rows are views of the replay's memory: write them out
        before the next `add`.
        """
        held = self._held().tolist()
        return {
            "layout": self._layout(),
            "added": self._added,
            "recent": torch.tensor(list(self._recent), dtype=torch.int64).reshape(-1, 2),
            "rows": {
                name: [
                    ring[:count]
                    for ring, count in zip(storage.split(self._ring), held, strict=True)
                ]
                for name, storage in self._storage.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`: the same calls give the same batches.

        Raises:
            ValueError: the state is of a replay with other columns, capacity, environments or
                length, which are named.
        """
        _refuse_layout(state["layout"], self._layout())
        self._added = state["added"].cpu()
        self._recent = deque((env, row) for env, row in state["recent"].tolist())
        for name, storage in self._storage.items():
            for ring, saved in zip(storage.split(self._ring), state["rows"][name], strict=True):
                ring[: len(saved)] = saved

    # Private methods.

    def _read(self, sequence_index: SequenceIndex) -> Batch:
        index = self._sequences(sequence_index, self.length).to(self.device, non_blocking=True)
        columns = {
            name: storage.index_select(0, index).unflatten(
                0, (len(sequence_index.rows), self.length)
            )
            for name, storage in self._storage.items()
        }
        return Batch(columns, sequence_index)

    def _held(self) -> Int64[Tensor, " env"]:
        return self._added.clamp(max=self._ring)

    def _oldest(self) -> Int64[Tensor, " env"]:
        """Number of each environment's oldest row that is held."""
        return self._added - self._held()

    def _starts(self) -> Int64[Tensor, " env"]:
        """How many sequences each environment holds."""
        return (self._held() - self.length + 1).clamp(min=0)

    def _flat(
        self, envs: Int64[Tensor, "*any"], rows: Int64[Tensor, "*any"]
    ) -> Int64[Tensor, "*any"]:
        """Where the numbered rows lie in the storage."""
        return envs * self._ring + rows % self._ring

    def _rows_of(self, sequence_index: SequenceIndex, time: int) -> Int64[Tensor, "batch time"]:
        """Numbers of the last `time` rows of each sequence."""
        return sequence_index.rows.unsqueeze(1) + torch.arange(self.length - time, self.length)

    def _sequences(self, sequence_index: SequenceIndex, time: int) -> Int64[Tensor, " row"]:
        rows = self._rows_of(sequence_index, time)
        return self._flat(sequence_index.envs.unsqueeze(1).expand_as(rows), rows).flatten()

    def _live(self, sequence_index: SequenceIndex, time: int) -> Bool[Tensor, " row"]:
        """Which of those rows have not been overwritten."""
        return (
            self._rows_of(sequence_index, time) >= self._oldest()[sequence_index.envs].unsqueeze(1)
        ).flatten()

    def _queue(self, envs: Int64[Tensor, " rows"]) -> None:
        """Queues the sequences that the newest rows of these environments complete."""
        new = self.length - 1
        last = self._added[envs] - 1
        complete = (last > 0) & (last % new == 0)
        self._recent.extend(
            zip(envs[complete].tolist(), (last[complete] - new).tolist(), strict=True)
        )
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

    def _draw(self, count: int, generator: torch.Generator) -> SequenceIndex:
        """Uniform over all sequences held: one number each, which falls into the span of its
        environment.
        """
        starts = self._starts()
        ends = starts.cumsum(0)
        draws = torch.randint(
            int(ends[-1]), (count,), generator=generator, device=generator.device
        ).cpu()
        envs = torch.searchsorted(ends, draws, right=True)
        return SequenceIndex(envs, self._oldest()[envs] + draws - (ends - starts)[envs])

    def _layout(self) -> dict[str, int | str]:
        sizes = {"capacity": self.capacity, "num_envs": self.num_envs, "length": self.length}
        return {**sizes, **{f"column {name}": str(column) for name, column in self.columns.items()}}

    def _refuse_rows(self, rows: Mapping[str, Tensor], envs: Tensor) -> None:
        missing = self.columns.keys() - rows.keys()
        if missing:
            raise ValueError(f"rows lack the columns {sorted(missing)}")
        for name, values in rows.items():
            self._refuse_values(name, values, (len(envs),))
        if len(envs.unique()) < len(envs) or ((envs < 0) | (envs >= self.num_envs)).any():
            raise ValueError(
                f"envs must be different numbers below {self.num_envs}, they are {envs.tolist()}"
            )

    def _refuse_refreshed(
        self, sequence_index: SequenceIndex, columns: Mapping[str, Tensor]
    ) -> int:
        """The number of rows that are given for each sequence."""
        batch = len(sequence_index.rows)
        times = {values.shape[1] if values.dim() > 1 else 0 for values in columns.values()}
        if len(times) != 1 or not 1 <= max(times) <= self.length:
            raise ValueError(
                f"columns must all hold the same number of rows, 1 to {self.length}; they hold {sorted(times)}"
            )
        (time,) = times
        for name, values in columns.items():
            self._refuse_values(name, values, (batch, time))
        return time

    def _refuse_values(self, name: str, values: Tensor, leading: tuple[int, ...]) -> None:
        if name not in self.columns:
            raise ValueError(f"unknown column {name!r}; the columns are {', '.join(self.columns)}")
        column = self.columns[name]
        shape = (*leading, *column.shape)
        if tuple(values.shape) != shape or not torch.can_cast(values.dtype, column.dtype):
            given, wanted = Column(tuple(values.shape), values.dtype), Column(shape, column.dtype)
            raise ValueError(f"column {name!r} is {given}; it must be {wanted}")

    def _refuse_batch(self, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"a batch must hold at least 1 sequence, not {batch}")
        if not self._starts().any():
            longest = int(self._held().max())
            raise ValueError(
                f"no environment holds a sequence of {self.length} rows yet; the fullest holds {longest}"
            )


def _last_of_each(
    index: Int64[Tensor, " row"], live: Bool[Tensor, " row"]
) -> Int64[Tensor, " unique"]:
    """Positions of the live entries, of those that are equal only the last: a GPU's order of writes
    is its own.
    """
    positions = live.nonzero().squeeze(1)
    positions = positions[index[positions].argsort(stable=True)]
    ordered = index[positions]
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    return positions[last]


def _refuse_sizes(columns: Mapping[str, Column], num_envs: int, capacity: int, length: int) -> None:
    if not columns or num_envs < 1 or length < 2:
        raise ValueError(
            "a replay needs at least 1 column, 1 environment and sequences of 2 rows, "
            f"not {len(columns)}, {num_envs} and {length}"
        )
    if capacity < num_envs * length:
        raise ValueError(
            f"agent.replay_capacity is {capacity}; it must be at least {num_envs * length}, "
            f"one sequence of {length} rows for each of {num_envs} environments"
        )


def _refuse_layout(saved: Mapping[str, int | str], here: Mapping[str, int | str]) -> None:
    differing = [
        f"{key}: {saved.get(key, 'absent')} saved, {here.get(key, 'absent')} here"
        for key in sorted(saved.keys() | here.keys())
        if saved.get(key) != here.get(key)
    ]
    if differing:
        raise ValueError("the saved replay has another layout: " + "; ".join(differing))
