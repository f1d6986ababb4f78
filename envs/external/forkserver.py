"""Start worker processes in milliseconds, from a server that has imported what they need.

The server is a process that has imported libraries and done nothing with them; it is forked for
each worker. The process that asks for workers is never forked itself: it may have threads, a GPU
and a half-written checkpoint.
"""

import atexit
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

from envs.extensions import import_modules, imported_modules, search_path
from envs.external.worker import refuse, serve

# What a terminal, `timeout`, SLURM or systemd sends to all processes of a run. It is for the one
# that trains, which saves first and needs its workers until then.
SHARED_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)
# Each worker is one process of many. Libraries that start a thread per core in each would fight for
# the cores. The user's own variables count.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_LARGEST_MESSAGE = 2**16
# What a worker whose pipe has closed may take over the end of its environments.
_PATIENCE_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
_POLL_SECONDS = 0.005
# Its argument is the number of an inherited file descriptor. `python -m envs.external.forkserver`
# would load this module twice, because importing `envs` already loads it. It leaves at once, as
# workers do: libraries take seconds over tidying up, and on a busy machine many more.
_PROGRAM = """
import os
import socket
import sys
from envs.external.forkserver import run_fork_server
run_fork_server(socket.socket(fileno=int(sys.argv[1])))
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
"""


class ForkServer:
    """Start workers and wait for their ends; threads that share one take turns.

    Args:
        backend: the OpenGL backend of all its workers, a value of MUJOCO_GL; mujoco reads it when
            it is imported.
    """

    def __init__(self, backend: str) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())]
        environment = (
            _ONE_THREAD
            | dict(os.environ)
            | {
                "PYTHONPATH": search_path(),
                "MUJOCO_GL": backend,
            }
        )
        with _held_back(SHARED_SIGNALS):  # until the server can disregard them
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
            )
        theirs.close()

    @property
    def living(self) -> bool:
        """Return True while the server still answers."""
        return self._process.poll() is None

    def start(self, connection: int, frames: int, environment: dict[str, str]) -> int:
        """Start a worker.

        Args:
            connection: file descriptor of the pipe for `worker.serve`; it stays open here.
            frames: file descriptor of the shared memory for `worker.serve`; it stays open here.
            environment: environment variables to set.

        Returns:
            the worker's process id.

        Raises:
            RuntimeError: the server has died.
        """
        message = {
            "environment": environment,
            "path": sys.path,
            "modules": list(imported_modules()),
        }
        return self._ask(message, [connection, frames])

    def wait(self, process: int, seconds: float) -> int:
        """Wait for a worker's end, and kill the worker if it lives on for so many seconds.

        Returns:
            the exit code, minus the signal's number where one ended it; -1 for a worker of an
            earlier server, whose exit code nobody can know and which ends when its pipe does.
        """
        return self._ask({"wait": process, "seconds": seconds}, [])

    def close(self) -> None:
        """Let the process end, as soon as its workers have."""
        self._socket.close()

    def _ask(self, message: dict[str, Any], descriptors: list[int]) -> int:
        try:
            with self._lock:
                socket.send_fds(self._socket, [json.dumps(message).encode()], descriptors)
                answer = self._socket.recv(_LARGEST_MESSAGE)
        except OSError:
            answer = b""
        if not answer:
            raise RuntimeError(
                f"the process that starts workers ended (code {self._process.wait()})"
            )
        return int(answer)


def fork_server(backend: str) -> ForkServer:
    """Return this process's server with an OpenGL backend; a new one after it has died."""
    if not _fork_server(backend).living:
        _fork_server.cache_clear()
    return _fork_server(backend)


@cache
def _fork_server(backend: str) -> ForkServer:
    server = ForkServer(backend)
    atexit.register(server.close)
    return server


def run_fork_server(asked: socket.socket) -> None:
    """Start workers and wait for them, in the server's process, until the other end closes.

    The other end may have been killed: whatever its workers do then, they end.
    """
    _disregard(SHARED_SIGNALS)
    workers: set[int] = set()
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, _LARGEST_MESSAGE, 2)
        if not message:
            break
        request = json.loads(message)
        if "wait" in request:
            answer = _wait(request["wait"], request["seconds"])
            workers.discard(request["wait"])
        else:
            answer = _fork(asked, request, descriptors)
            workers.add(answer)
        asked.send(str(answer).encode())
    limit = time.monotonic() + _PATIENCE_SECONDS
    for process in workers:
        _wait(process, limit - time.monotonic())


def _disregard(numbers: Iterable[signal.Signals]) -> None:
    """Do nothing on these signals from here on, those that were held back included.

    They are handled rather than ignored because a program that an environment starts would inherit
    the latter, and could not be told to end.
    """
    for number in numbers:
        signal.signal(number, lambda *arguments: None)
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


@contextmanager
def _held_back(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Hold signals back during the block, from this thread and for good from its new processes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fork(asked: socket.socket, request: dict[str, Any], descriptors: list[int]) -> int:
    server = os.getpid()
    process = os.fork()
    if process:
        for descriptor in descriptors:
            os.close(descriptor)
        return process
    asked.close()
    os.setpgid(0, 0)  # a group of its own, with the programs that its environments start
    _die_with(server)
    os.environ.update(request["environment"])
    sys.path[:] = request["path"]
    connection = Connection(descriptors[0])
    try:
        import_modules(request["modules"])
    except ValueError as error:
        refuse(connection, error)
    else:
        serve(connection, descriptors[1])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # What there is to tidy up belongs to the asking process, and libraries take seconds over
        # theirs.
        os._exit(0)


def _die_with(server: int) -> None:
    """Let the kernel kill this process when the server dies, however busy this process is."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:  # it died before it was asked
        os._exit(1)


def _wait(process: int, seconds: float) -> int:
    limit = time.monotonic() + seconds
    try:
        while not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if time.monotonic() > limit:
                os.kill(process, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
    except ChildProcessError:
        return -1
    # Programs that a worker started and left. Their group keeps its number while the worker's end
    # is not yet collected.
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
