"""Compile an update with `torch.compile`: function by function, or as one graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

Update = Callable[[Mapping[str, Tensor]], tuple[dict[str, Tensor], dict[str, Tensor]]]
"""One gradient step on a batch: returns metrics and latents, each by name."""
Function = TypeVar("Function", bound=Callable[..., Any])

# A module-level switch suffices: a process makes its updates in one thread.
_in_parts = False


def compiled_part(function: Function) -> Function:
    """Compile the decorated function of tensors, but only inside `compile_in_parts` updates.

    Everywhere else (acting, evaluation, plain updates) the function runs as it is written. Decorate
    what an update calls many times, such as one step of a recurrent model: the compiler then works
    once for each kind of input, however often the function is called. Torch refuses more kinds in
    a process than `torch._dynamo.config.recompile_limit`. Pass random numbers as arguments: a
    compiled function draws others than the plain one.

    Under autocast each call of a compiled part casts its weights again, which a plain update does
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
    """Return the update with every `compiled_part` that it calls compiled on its own."""
    return _parts()(update)


def compile_whole(update: Update) -> Update:
    """Return the update as one compiled graph, backward pass and optimizer step included.

    The graph has no breaks, and it draws the same random numbers as the plain update.
    """
    compiled: Update = torch.compile(update, dynamic=False, fullgraph=True)

    def call(batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        trace_backward = torch._dynamo.config.patch(trace_autograd_ops=True)
        same_random_numbers = torch._inductor.config.patch(fallback_random=True)
        with trace_backward, same_random_numbers:
            return compiled(batch)

    return call


COMPILE_MODES: dict[str, Callable[[Update], Update]] = {
    "none": lambda update: update,
    "parts": compile_in_parts,
    "whole": compile_whole,
}
"""The valid values of the `compile` setting of agents with a world model."""


@contextmanager
def _parts() -> Iterator[None]:
    global _in_parts
    before = _in_parts
    _in_parts = True
    try:
        yield
    finally:
        _in_parts = before
