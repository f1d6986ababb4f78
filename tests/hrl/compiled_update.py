"""A compiled update beside a plain one: `python -m tests.hrl.compiled_update WAY METHOD` fails
where they differ.

WAY: parts, through the imagined steps; traced, the whole, run as it was traced; whole, with
    generated code.
A process of its own, because checks of types and shapes at run time cannot be traced.
"""

import copy
import sys
from functools import partial

import torch
from torch._dynamo.utils import counters

from tests.hrl.agents.test_model_based import filled, kept, learner
from tests.hrl.same import assert_same, assert_same_update

# With `parts`: one graph for every kind of input that a method's functions meet, such as the first
# step of a sequence and the others.
GRAPHS = {"dreamer": 10, "director": 18}
# What a method's update has by request only is compiled too.
OPTIONAL = {"dreamer": {"burn_in": 2}, "director": {"burn_in": 2, "near_goals": 0.5}}


def parts(method: str) -> None:
    """The same to a rounding; continued to the bit."""
    sizes = {"action_gradient": "dynamics", "horizon": 4, **OPTIONAL[method]}
    plain, compiled = filled(method, **sizes), filled(method, compile="parts", **sizes)
    assert_same_update(plain, compiled)
    resumed = learner(method, compile="parts", **sizes)
    resumed.load_state_dict(kept(compiled))
    resumed.collector.env = copy.deepcopy(compiled.collector.env)
    assert_same(resumed.iterate(), compiled.iterate(), "metrics")
    assert_same(kept(resumed), kept(compiled), "continued")
    assert counters["stats"]["unique_graphs"] == GRAPHS[method], counters["stats"]["unique_graphs"]


def traced(method: str) -> None:
    """The same to the bit, differentiated ahead of time.

    To a rounding below torch 2.13: 2.11 adds in another order as it traces.
    """
    torch.compile = partial(torch.compile, backend="aot_eager")
    if torch.__version__ < "2.13":
        same_whole(method)
    else:
        plain, compiled = learner(method, burn_in=2), learner(method, burn_in=2, compile="whole")
        for _ in range(3):
            plain.iterate()
            compiled.iterate()
        assert plain.updates == compiled.updates >= 2
        assert_same(compiled.state_dict(), plain.state_dict(), "state")
    assert counters["stats"]["unique_graphs"] == 1, "one piece, compiled once"


def whole(method: str) -> None:
    """The same to a rounding."""
    same_whole(method)
    assert counters["stats"]["unique_graphs"] == 1, "one piece, compiled once"


def same_whole(method: str) -> None:
    """One update that is the same, and another, which must not be compiled anew."""
    compiled = filled(method, compile="whole")
    assert_same_update(filled(method), compiled)
    compiled.update()


if __name__ == "__main__":
    {"parts": parts, "traced": traced, "whole": whole}[sys.argv[1]](sys.argv[2])
    print(f"{' '.join(sys.argv[1:])}: {counters['stats']['unique_graphs']} graphs")
