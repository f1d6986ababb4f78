"""A compiled update beside a plain one: `python -m tests.hrl.compiled_update ARM` fails where they differ.

A process of its own, because checks of types and shapes at run time cannot be traced.
"""

import sys
from functools import partial

import torch
from torch._dynamo.utils import counters

from tests.hrl.same import assert_same
from tests.hrl.test_model_based_learner import learner


def main(arm: str) -> None:
    """Traced, differentiated ahead of time, run as it was traced: to the bit; cut at its backward pass alone."""
    torch.compile = partial(torch.compile, backend="aot_eager")
    plain, compiled = learner(arm), learner(arm, compile=True)
    for _ in range(3):
        plain.iterate()
        compiled.iterate()
    assert plain.updates == compiled.updates >= 2
    assert_same(compiled.state_dict(), plain.state_dict(), "state")
    (cut,) = counters["graph_break"]
    assert "Tensor.backward()" in cut, cut
    assert counters["stats"]["unique_graphs"] >= 2, "nothing was compiled"
    print(f"{arm}: {compiled.updates} updates, {counters['stats']['unique_graphs']} graphs")


if __name__ == "__main__":
    main(sys.argv[1])
