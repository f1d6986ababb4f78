"""Shapes in public signatures are checked while tests run."""

from jaxtyping import install_import_hook

install_import_hook(["hrl.nets", "hrl.returns", "hrl.rollout", "hrl.agents", "envs.rewards"], "beartype.beartype")

import torch  # noqa: E402  after the hook, which must see imports of ours

torch.set_num_threads(1)  # tests run side by side, one process per core
