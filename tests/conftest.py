"""Shapes in public signatures are checked while tests run."""

import importlib
import signal

import pytest
from jaxtyping import install_import_hook

install_import_hook(
    [
        "hrl.nets",
        "hrl.optim",
        "hrl.data",
        "hrl.world_model",
        "hrl.agents",
        "envs.simulation.physics",
        "envs.rewards",
    ],
    "beartype.beartype",
)
importlib.import_module("hrl")  # after the hook, and before torch: it sets how torch's threads wait

import torch  # noqa: E402

from tests.browser import chromium  # noqa: E402

# One browser for all pages: a second one cannot be driven beside it.
__all__ = ["chromium"]

torch.set_num_threads(1)  # tests run side by side, one process per core

# Under nohup, or in the background of a script, these are ignored, and the programs that tests
# start and signal would inherit that.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


SLOW_TEST_SECONDS = 1800


def pytest_collection_modifyitems(items):
    """Let a slow test's own limit count, or a longer one than that of the others."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TEST_SECONDS))
