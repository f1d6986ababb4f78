#!/usr/bin/env python3
"""Show runs while they are written, as `pixel-hrl dashboard` does: see --help."""

import sys

from hrl.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("dashboard"))
