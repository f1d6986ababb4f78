"""Let the processes that train one run together agree on what they have in common.

`torchrun` starts them (`hrl.run.distributed`). Each process, a rank, has environments, rollouts and
replay of its own, and all have the same weights: gradients are averaged before they are clipped,
and statistics are those of all ranks' data. Nothing here does anything in a run of one process.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class RankError(RuntimeError):
    """Report that another process of the run has ended or does not answer."""


class Ranks:
    """Exchange tensors and values with the other processes of a run, in the order of their ranks.

    Every method but `stream` is called by all ranks, in the same order, and returns the same on all
    of them. With one rank each returns what it was given.

    Args:
        group: a process group of `torch.distributed`; None for a run of one process.
        explain: returns why other ranks may have left, for errors.

    Attributes:
        index: of this process, from 0.
        count: number of processes.
        has_lost_contact: whether another process did not answer.
    """

    def __init__(self, group: Any = None, explain: Callable[[], str] = str) -> None:
        self._group = group
        self._explain = explain
        self.has_lost_contact = False
        self.index: int = 0 if group is None else group.rank()
        self.count: int = 1 if group is None else group.size()

    @property
    def is_first(self) -> bool:
        """Return whether this process writes the logs, evaluates and shows progress."""
        return self.index == 0

    def stream(self, name: str) -> str:
        """Return the name of this rank's own random stream; see `hrl.seeding`."""
        return f"{name}/{self.index}" if self.index else name

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their means over ranks, in one exchange."""
        gradients = [one.grad for one in parameters if one.grad is not None]
        if self.count == 1 or not gradients:
            return
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over ranks, element by element."""
        if self._group is None:
            return values
        total = values.detach().clone(memory_format=torch.contiguous_format)
        self._wait(lambda: self._group.allreduce([total]))
        return total

    def mean(self, values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Return the mean over ranks, element by element."""
        return values if self._group is None else self.sum(values) / self.count

    def mean_with_gradient(self, values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Return the mean over ranks, whose gradient reaches this rank's values as it is.

        A loss that is a function of such a mean has the same value on every rank. The mean over
        ranks of its gradients is its gradient by all ranks' values.
        """
        if self._group is None:
            return values
        return values + (self.mean(values) - values.detach())

    def cat(self, values: Float[Tensor, "rows ..."]) -> Float[Tensor, "all_rows ..."]:
        """Return the rows of all ranks, of which each has as many."""
        if self._group is None:
            return values
        own = values.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.count)]
        self._wait(lambda: self._group.allgather([parts], [own]))
        return torch.cat(parts)

    def var_mean(self, values: Float[Tensor, "*batch"]) -> tuple[Tensor, Tensor]:
        """Return the variance (without correction) and the mean of all ranks' values.

        Ranks may have different numbers of values, some of them none.
        """
        if self._group is None:
            return torch.var_mean(values, correction=0)
        _, mean, variance = self.masked_moments(values, torch.ones_like(values, dtype=torch.bool))
        return variance, mean

    def masked_moments(
        self, values: Float[Tensor, "*batch"], mask: Bool[Tensor, "*batch"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return count, mean and variance (without correction) of all ranks' values where masked.

        Without any such value mean and variance are 0. Nothing is asked of the device.
        """
        counts, variances, means = self.cat(_masked_moments(values, mask).unsqueeze(0)).unbind(1)
        shares = counts / counts.sum().clamp(min=1)
        mean = (shares * means).sum()
        variance = (shares * (variances + (means - mean).square())).sum()
        return counts.sum(), mean.to(values.dtype), variance.to(values.dtype)

    def average_metrics(self, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the means over ranks of metrics that all ranks have, in one exchange.

        One that is not finite on any rank is not finite on all of them.
        """
        if self._group is None:
            return dict(metrics)
        stacked = torch.stack([value.detach().float() for value in metrics.values()])
        return dict(zip(metrics, self.mean(stacked).unbind(), strict=True))

    def average(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the mean of each metric over the ranks that have it."""
        if self._group is None:
            return dict(metrics)
        merged = self.merge({name: [value] for name, value in metrics.items()})
        return {name: sum(values) / len(values) for name, values in merged.items()}

    def merge(self, values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """Return the lists of all ranks, joined by name."""
        merged: dict[str, list[float]] = {}
        for part in self.gather(dict(values)):
            for name, several in part.items():
                merged.setdefault(name, []).extend(several)
        return merged

    def check_same(self, tensors: Mapping[str, Tensor]) -> None:
        """Check that tensors are the same on all ranks.

        Raises:
            RankError: those of some rank differ.
        """
        sums = self.gather(_checksum(tensors) if self.count > 1 else 0)
        different = [rank for rank, one in enumerate(sums) if one != sums[0]]
        if different:
            raise RankError(
                f"the weights of rank {different[0]} are no longer those of rank 0: ranks must run "
                "on equal hardware with the same libraries"
            )

    def any(self, flag: bool) -> bool:
        """Return whether the flag holds on any rank."""
        return any(self.gather(flag))

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, which JSON can hold."""
        if self._group is None:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = self.cat(torch.tensor([len(own)])).tolist()
        padded = torch.zeros(max(sizes), dtype=torch.uint8)
        padded[: len(own)] = own
        rows = self.cat(padded.unsqueeze(0))
        pairs = zip(rows, sizes, strict=True)
        return [json.loads(row[:size].numpy().tobytes()) for row, size in pairs]

    def leave(self) -> None:
        """Wait until all ranks are done, and let go of the process group.

        Its threads must have ended before Python does, whatever still refers to these ranks.
        """
        self.gather(None)
        self._group = None

    def _wait(self, start: Callable[[], Any]) -> None:
        try:
            start().wait()
        except RuntimeError as error:
            self.has_lost_contact = True
            reason = " ".join(str(error).split())
            raise RankError(
                f"rank {self.index} of {self.count} lost contact with another: {self._explain()} "
                f"({reason})"
            ) from error


ONE_RANK = Ranks()
"""The only rank of a run of one process."""


def _masked_moments(values: Tensor, mask: Tensor) -> Tensor:
    """Return count, variance and mean of the values where the mask holds, float64 [3]."""
    kept = mask.double()
    count = kept.sum()
    mean = (values.detach().double() * kept).sum() / count.clamp(min=1)
    variance = ((values.detach().double() - mean).square() * kept).sum() / count.clamp(min=1)
    return torch.stack([count, variance, mean])


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    total = 0
    for value in tensors.values():
        numbers = value.detach().cpu().contiguous().reshape(-1)
        total = zlib.crc32(numbers.view(torch.uint8).numpy().tobytes(), total)
    return total


class AcrossRanks:
    """Take statistics over all ranks of a run, once `join` has set them.

    Attributes:
        ranks: of the run.
    """

    ranks: Ranks = ONE_RANK


def join(module: nn.Module, ranks: Ranks) -> None:
    """Let all parts of a module take their statistics over these ranks."""
    for part in module.modules():
        if isinstance(part, AcrossRanks):
            part.ranks = ranks
