#!/usr/bin/env python3
"""Write a page and a contact sheet for each suite, as `pixel-hrl suites` does: see --help."""

import sys

from hrl.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("suites"))
