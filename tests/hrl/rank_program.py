"""Train one learner as a rank of torchrun, and write its weights: `-m tests.hrl.rank_program`."""

import importlib
import sys
from pathlib import Path

from safetensors.torch import save_file

from hrl.run.distributed import join_ranks
from tests.hrl.in_ranks import small_learner, trained


def main(name: str, iterations: int, folder: Path) -> None:
    with join_ranks() as ranks:
        importlib.import_module("torch.distributed.nn")  # as compilers and optimizers do in turn
        learner = small_learner(name, ranks, in_threads=False)
        trained(learner, iterations)
        save_file(learner.module.state_dict(), folder / f"{name}_{ranks.index}.safetensors")
    # A thread of the process group that outlives it can abort the process when Python ends.
    names = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in names), names


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
