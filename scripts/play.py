#!/usr/bin/env python3
"""Record videos of a policy, as `pixel-hrl play` does: see --help."""

import sys

from hrl.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("play"))
