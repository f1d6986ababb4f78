#!/usr/bin/env python3
"""Write one HTML report on evaluated runs, as `pixel-hrl report` does: see --help."""

import sys

from hrl.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("report"))
