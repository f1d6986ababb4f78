"""Turn the signals that ask a process to stop into a wish that a run fulfils when it can save."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from envs.external.patience import hurried_when

STOP_SIGNALS = (
    signal.SIGINT,  # Ctrl-C
    signal.SIGTERM,  # a batch system's time limit
    signal.SIGHUP,  # a lost connection
    signal.SIGUSR1,  # a batch system's warning before the time limit
    signal.SIGUSR2,
    signal.SIGXCPU,  # a soft limit of processor time, of `ulimit -t` or a batch system
)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect the numbers of the stop signals that arrive during the block.

    The first one also shortens the time that worker processes of external environments may be
    silent. A second one raises KeyboardInterrupt: the last checkpoint stands. (Only the limit of
    processor time is repeated by the system itself, and changes nothing more.) A signal that the
    process was started to ignore stays ignored, as `nohup` does with SIGHUP. The previous handlers
    return afterwards.

    In another thread than the main one nothing is collected: signals remain the program's own, and
    a run that is cut off continues from its last checkpoint.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if received and number == signal.SIGXCPU:
            return  # the system repeats it every second
        if received:
            raise KeyboardInterrupt
        print("\nstopping after this iteration", flush=True)
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        # Python lets the main thread alone handle signals, and its program decides what they do.
        yield received
        return
    present = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    # None stands for a handler that was not installed by Python and could not be restored.
    replaced = {
        number: handler
        for number, handler in present.items()
        if handler is not None and handler is not signal.SIG_IGN
    }
    for number in replaced:
        signal.signal(number, handle)
    try:
        with hurried_when(lambda: received):
            yield received
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
