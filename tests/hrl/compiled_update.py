"""A compiled update beside a plain one: `python -m tests.hrl.compiled_update WAY ARM` fails where they differ.

WAY: parts, through the imagined steps; traced, the whole, run as it was traced; whole, with generated code.
A process of its own, because checks of types and shapes at run time cannot be traced.
"""

import copy
import sys
from functools import partial

import torch
from packaging import version
from torch._dynamo.utils import counters

from hrl.agents.model_based import ModelBasedLearner
from tests.hrl.same import assert_same
from tests.hrl.test_model_based_learner import kept, learner

# Of parts: as many as an arm's functions meet kinds of input, such as the first step of a sequence and the others.
GRAPHS = {"dreamer": 8, "director": 12}


def parts(arm: str) -> None:
    """The same to a rounding; continued to the bit."""
    sizes = {"action_gradient": "dynamics", "horizon": 4}
    plain, compiled = learner(arm, **sizes), learner(arm, compile="parts", **sizes)
    assert_alike(plain, compiled)
    resumed = learner(arm, compile="parts", **sizes)
    resumed.load_state_dict(kept(compiled))
    resumed.writer.env = copy.deepcopy(compiled.writer.env)
    assert_same(resumed.iterate(), compiled.iterate(), "metrics")
    assert_same(kept(resumed), kept(compiled), "continued")
    assert counters["stats"]["unique_graphs"] == GRAPHS[arm], counters["stats"]["unique_graphs"]


def traced(arm: str) -> None:
    """The same to the bit, differentiated ahead of time; to a rounding where torch adds in another order as it traces.

    Torch 2.11 does.
    """
    torch.compile = partial(torch.compile, backend="aot_eager")
    plain, compiled = learner(arm), learner(arm, compile="whole")
    if version.parse(torch.__version__) < version.parse("2.13"):
        assert_alike(plain, compiled)
    else:
        for _ in range(3):
            plain.iterate()
            compiled.iterate()
        assert plain.updates == compiled.updates >= 2
        assert_same(compiled.state_dict(), plain.state_dict(), "state")
    assert counters["stats"]["unique_graphs"] == 1, "one piece, compiled once"


def whole(arm: str) -> None:
    """The same to a rounding."""
    assert_alike(learner(arm), learner(arm, compile="whole"))
    assert counters["stats"]["unique_graphs"] == 1, "one piece, compiled once"


def assert_alike(plain: ModelBasedLearner, compiled: ModelBasedLearner) -> None:
    """The first update: metrics, gradients, and the step of 1e-3 that it takes.

    Not later ones. Generated code adds in an order of its own, and a first step is as long for a gradient that is
    nothing but rounding as for any other; of those there may be a few.
    """
    for trained in (plain, compiled):
        with torch.no_grad():
            trained.writer.gather(trained.policy, 20)
    expected, found = plain.update(), compiled.update()
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
    strays = []
    for (name, one), other in zip(plain.module.named_parameters(), compiled.module.parameters(), strict=True):
        if one.requires_grad:
            assert (other.grad - one.grad).norm() <= 1e-3 * one.grad.norm() + 1e-6, name
        strays.append((other.detach() - one.detach()).abs().flatten() > 1e-5)
    assert torch.cat(strays).float().mean() < 0.01


if __name__ == "__main__":
    {"parts": parts, "traced": traced, "whole": whole}[sys.argv[1]](sys.argv[2])
    print(f"{' '.join(sys.argv[1:])}: {counters['stats']['unique_graphs']} graphs")
