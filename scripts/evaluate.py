#!/usr/bin/env python3
"""Play evaluation episodes and write scores, as `pixel-hrl evaluate` does: see --help."""

import sys

from hrl.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("evaluate"))
