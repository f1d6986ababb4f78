#!/usr/bin/env python3
"""ImaginationStart or continues a training run.

    scripts/train.py agent=skills suite=point_mass
    scripts/train.py agent=ppo suite=walker_speed frames=5_000_000 seed=1 tracking.wandb=online
    scripts/train.py agent=skills size=debug                the whole program in seconds

Every field of hrl/config.py and of the agent's configuration can be given as KEY=VALUE. The same
command on the same
folder continues the run exactly.  scripts/train.py --config KEY=VALUE ... prints the resolved configuration.
"""

from __future__ import annotations

import shlex
import sys

import yaml

from hrl.cli import run_or_explain
from hrl.config import load
from hrl.run.train import train


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    overrides = [argument for argument in arguments if argument != "--config"]
    config, plain = load(overrides)
    if "--config" in arguments:
        print(yaml.safe_dump(plain, sort_keys=False))
        return
    folder = train(config, plain, shlex.join(["scripts/train.py", *arguments]))
    print(f"run folder: {folder}")


if __name__ == "__main__":
    sys.exit(run_or_explain(main, sys.argv[1:]))
