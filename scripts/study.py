#!/usr/bin/env python3
"""Run a grid of runs, as `pixel-hrl study` does: see --help."""

import sys

from hrl.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("study"))
