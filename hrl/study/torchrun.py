"""Start torchrun for a cell of several GPUs: `python -m hrl.study.torchrun GPUS COMMAND ...`.

torchrun itself ends with code 1 whatever its processes ended with, and gives them 30 seconds to
save when it is asked to stop. Here the exit code is that of the process that ended first, and a
cell that is asked to save takes the time that it needs.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import psutil
from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from hrl.study.executors.base import STOP


def main(arguments: Sequence[str]) -> int:
    """Run a command of `pixel-hrl` in several processes; return the exit code.

    Args:
        arguments: number of processes, then the command with its arguments.
    """
    count, *command = arguments
    signal.signal(STOP, _ask_processes_to_save)
    os.environ["PYTHONSAFEPATH"] = "1"  # see `envs.extensions.search_path`
    # Signals that end this process let its processes save; see `hrl.run.distributed.join_ranks`.
    options = ["--standalone", f"--nproc-per-node={count}", "--signals-to-handle=SIGINT"]
    try:
        run.main([*options, "-m", "hrl.cli", *command])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        code: int = failure.exitcode
        return 128 - code if code < 0 else code
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _ask_processes_to_save(number: int, frame: FrameType | None) -> None:
    del frame
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
