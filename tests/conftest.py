"""Shapes in public signatures are checked while tests run."""

import importlib

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

torch.set_num_threads(1)  # tests run side by side, one process per core
