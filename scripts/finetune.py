#!/usr/bin/env python3
"""Start or continue a fine-tuning run, as `pixel-hrl finetune` does: see --help."""

import sys

from hrl.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("finetune"))
