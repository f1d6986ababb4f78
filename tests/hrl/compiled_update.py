"""A compiled update beside a plain one: `python -m tests.hrl.compiled_update ARM` fails where they differ.

A process of its own, because checks of types and shapes at run time cannot be traced.
"""

import sys

import torch
from torch._dynamo.utils import counters

from tests.hrl.test_model_based_learner import assert_same, learner


def main(arm: str) -> None:
    """Traced, differentiated ahead of time, run as it was traced: to the bit; cut at its backward pass alone."""
    plain, compiled = learner(arm), learner(arm)
    compiled._whole_update = torch.compile(lambda batch: compiled._eager_update(batch, True), backend="aot_eager")
    for _ in range(3):
        plain.iterate()
        compiled.iterate()
    assert plain.updates == compiled.updates >= 2
    assert_same(compiled.state_dict(), plain.state_dict(), "state")
    cuts = list(counters["graph_break"])
    assert all("Tensor.backward()" in reason for reason in cuts), cuts
    print(f"{arm}: {compiled.updates} updates, cut {len(cuts)} time(s)")


if __name__ == "__main__":
    main(sys.argv[1])
