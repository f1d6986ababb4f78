"""Worker processes in milliseconds: one process imports what they need, once, and is forked for
each of them.

The process that asks is never forked itself: it may have threads, a GPU and a half-written
checkpoint. The nursery has imported libraries and done nothing with them.

Run as `python -m envs.external.forkserver SOCKET`: the number of an inherited file descriptor.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

from envs.external.worker import serve

_LARGEST_MESSAGE = 2**16
_LOOK_SECONDS = 0.005


class ForkServer:
    """The asking end. Not to be shared between threads.

    Its processes have one OpenGL backend, a value of MUJOCO_GL: mujoco chooses when it is imported.
    """

    def __init__(self, backend: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "envs.external.forkserver", str(theirs.fileno())]
        environment = dict(os.environ) | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "MUJOCO_GL": backend,
        }
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
        )
        theirs.close()

    @property
    def living(self) -> bool:
        """Whether it still answers."""
        return self._process.poll() is None

    def start(self, connection: int, frames: int, environment: dict[str, str]) -> int:
        """A new worker's process number.

        Args:
            connection, frames: file descriptors for `worker.serve`, which stay open here.
            environment: variables to set.

        Raises:
            RuntimeError: the nursery has died.
        """
        return self._ask({"environment": environment, "path": sys.path}, [connection, frames])

    def wait(self, process: int, seconds: float) -> int:
        """A worker's exit code, minus the signal's number where one ended it; killed if it lives on
        so long.

        -1 for a worker of an earlier nursery: its end is nobody's to know, and it ends when its
        pipe does.
        """
        return self._ask({"wait": process, "seconds": seconds}, [])

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.wait()

    def _ask(self, message: dict[str, Any], descriptors: list[int]) -> int:
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], descriptors)
            answer = self._socket.recv(_LARGEST_MESSAGE)
        except OSError:
            answer = b""
        if not answer:
            raise RuntimeError(
                f"the process that starts workers ended (code {self._process.wait()})"
            )
        return int(answer)


def nursery(backend: str) -> ForkServer:
    """The one of this process with an OpenGL backend; another one after it has died."""
    if not _nursery(backend).living:
        _nursery.cache_clear()
    return _nursery(backend)


@cache
def _nursery(backend: str) -> ForkServer:
    made = ForkServer(backend)
    atexit.register(made.close)
    return made


def tend(asked: socket.socket) -> None:
    """Start and await workers until the other end closes."""
    # A terminal sends these to all of its processes. They are for the one that trains, which saves
    # first and needs its workers until then.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, _LARGEST_MESSAGE, 2)
        if not message:
            return
        request = json.loads(message)
        answer = (
            _wait(request["wait"], request["seconds"])
            if "wait" in request
            else _fork(asked, request, descriptors)
        )
        asked.send(str(answer).encode())


def _fork(asked: socket.socket, request: dict[str, Any], descriptors: list[int]) -> int:
    process = os.fork()
    if process:
        for descriptor in descriptors:
            os.close(descriptor)
        return process
    asked.close()
    os.environ.update(request["environment"])
    sys.path[:] = request["path"]
    try:
        serve(Connection(descriptors[0]), descriptors[1])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(
            0
        )  # what there is to tidy up belongs to the asking process, and libraries take seconds over theirs


def _wait(process: int, seconds: float) -> int:
    limit = time.monotonic() + seconds
    while True:
        try:
            done, status = os.waitpid(process, os.WNOHANG)
        except ChildProcessError:
            return -1
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > limit:
            os.kill(process, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    tend(socket.socket(fileno=int(sys.argv[1])))
