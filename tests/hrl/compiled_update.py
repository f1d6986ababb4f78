"""A compiled update beside a plain one: `python -m tests.hrl.compiled_update parts|whole ARM` fails where they differ.

A process of its own, because checks of types and shapes at run time cannot be traced.
"""

import sys
from functools import partial

import torch
from torch._dynamo.utils import counters

from tests.hrl.same import assert_same
from tests.hrl.test_model_based_learner import learner

REPEATED = 5  # parts at least that are called several times in an update


def whole(arm: str) -> None:
    """One graph, traced, differentiated ahead of time, run as it was traced: the same to the bit."""
    torch.compile = partial(torch.compile, backend="aot_eager")
    plain, compiled = learner(arm), learner(arm, compile="whole")
    for _ in range(3):
        plain.iterate()
        compiled.iterate()
    assert plain.updates == compiled.updates >= 2
    assert_same(compiled.state_dict(), plain.state_dict(), "state")
    assert counters["stats"]["unique_graphs"] == 1, "one piece, and compiled once"


def parts(arm: str) -> None:
    """Code is generated, and adds in an order of its own: the same to a rounding."""
    plain, compiled = learner(arm), learner(arm, compile="parts")
    for _ in range(3):
        expected, found = plain.iterate(), compiled.iterate()
        assert list(found) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(float(found[name]), float(value), rtol=1e-3, atol=1e-4, msg=name)
    assert plain.updates == compiled.updates >= 2
    assert counters["stats"]["unique_graphs"] >= REPEATED


if __name__ == "__main__":
    {"whole": whole, "parts": parts}[sys.argv[1]](sys.argv[2])
    assert not counters["graph_break"], counters["graph_break"]
    print(f"{' '.join(sys.argv[1:])}: {counters['stats']['unique_graphs']} graphs")
