"""Run the command `pixel-hrl` as `python -m hrl.cli`, for whoever starts it in a process."""

import sys

from hrl.cli import main

sys.exit(main())
