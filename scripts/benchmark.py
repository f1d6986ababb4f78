#!/usr/bin/env python3
"""Measure speed on this machine, as `pixel-hrl benchmark` does: see --help."""

import sys

from hrl.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("benchmark"))
