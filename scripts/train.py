#!/usr/bin/env python3
"""Start or continue a training run, as `pixel-hrl train` does: see --help."""

import sys

from hrl.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("train"))
