"""An update compiled: in parts, or as one graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

Update = Callable[[Mapping[str, Tensor]], tuple[dict[str, Tensor], dict[str, Tensor]]]
Function = TypeVar("Function", bound=Callable[..., Any])

_in_parts = False  # of the process: updates are made by one thread


def compiled_part(function: Function) -> Function:
    """Decorator: a function of tensors that is compiled in updates that are compiled in parts, and
    as it is elsewhere.

    Best for what an update calls many times, such as one step of a recurrent model: the compiler's
    work does not grow with the number of calls. It is compiled once for each kind of input; torch
    refuses more kinds in a process than `torch._dynamo.config.recompile_limit`. Random numbers are
    an argument: a compiler draws its own.

    Under autocast each call casts the weights that it multiplies by, which a plain update does
    once.
    """
    compiled: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal compiled
        if not _in_parts:
            return function(*args, **kwargs)
        if compiled is None:  # not before it is needed: the compiler takes seconds to load
            compiled = torch.compile(function, dynamic=False, fullgraph=True)
        return compiled(*args, **kwargs)

    return call  # type: ignore[return-value]


def compile_in_parts(update: Update) -> Update:
    """The same update with its parts compiled; see `compiled_part`."""
    return _parts()(update)


def compile_whole(update: Update) -> Update:
    """The same update as one graph, the way back and the optimiser's step included, without a cut;
    the same draws.
    """
    compiled: Update = torch.compile(update, dynamic=False, fullgraph=True)

    def call(batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        gae_lambda = torch._dynamo.config.patch(trace_autograd_ops=True)
        with gae_lambda, torch._inductor.config.patch(fallback_random=True):
            return compiled(batch)

    return call


COMPILE_MODES: dict[str, Callable[[Update], Update]] = {
    "none": lambda update: update,
    "parts": compile_in_parts,
    "whole": compile_whole,
}


@contextmanager
def _parts() -> Iterator[None]:
    global _in_parts
    before, _in_parts = _in_parts, True
    try:
        yield
    finally:
        _in_parts = before
