"""Several server processes on one socket, for a database that allows concurrent writes: PostgreSQL.

The first process binds the socket, starts the others, replaces those that die, and stops them. Run as a program, this module is one
of the others: its configuration comes on standard input, because a database URL may contain a password.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import FrameType

from torc.errors import TorcError, Unavailable
from torc.program import own_module
from torc.server import serve
from torc.server.app import app
from torc.server.authentication import Authentication
from torc.server.concurrency import AccountLimits
from torc.server.metrics import FOLDER_VARIABLE, forget_process
from torc.store.engine import open_store

_LOG = logging.getLogger(__name__)
_START_SECONDS = 60.0
_PAUSE_SECONDS = 1.0
_LOOK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ProcessWork:
    """The configuration of one process."""

    database: str
    listen: serve.Listen
    hosts: tuple[str, ...]
    access_log: bool
    authentication: Authentication
    account_limits: AccountLimits


class _Process:
    """A worker process; `ready` becomes readable when it answers or has exited."""

    def __init__(self, work: ProcessWork, bound: socket.socket, metrics: str) -> None:
        self.ready, told = os.pipe()
        environ = {**os.environ, FOLDER_VARIABLE: metrics}
        argv = [*own_module("torc.server.multiprocess"), str(bound.fileno()), str(told)]
        self.process = subprocess.Popen(argv, env=environ, stdin=subprocess.PIPE, pass_fds=[bound.fileno(), told])
        os.close(told)
        assert self.process.stdin is not None
        with self.process.stdin as pipe:
            pipe.write(json.dumps(asdict(work)).encode())

    def is_ready(self, seconds: float) -> bool:
        """Wait until it answers; return False if it exits or takes too long."""
        readable, _, _ = select.select([self.ready], [], [], seconds)
        return bool(readable) and os.read(self.ready, 1) == b"x"

    def close(self) -> None:
        """Wait until it has exited."""
        self.process.wait()
        os.close(self.ready)


def serve_with(work: ProcessWork, number: int, bound: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve with several processes until SIGTERM or SIGINT. Raises Unavailable if one of them fails to start."""
    is_ending = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_ending
        is_ending = True

    old = {signal_: signal.signal(signal_, end) for signal_ in (signal.SIGTERM, signal.SIGINT)}
    processes: list[_Process] = []
    metrics = tempfile.TemporaryDirectory(prefix="torc-metrics-")
    try:
        for _ in range(number):
            processes.append(_Process(work, bound, metrics.name))
        for process in processes:
            if not process.is_ready(_START_SECONDS):
                raise Unavailable("a process of the server did not start", hint="its messages are above or in the log")
        on_ready()
        while not is_ending:
            _replace_dead(processes, work, bound, metrics.name)
            time.sleep(_LOOK_SECONDS)
    finally:
        for process in processes:
            process.process.terminate()
        for process in processes:
            process.close()
        metrics.cleanup()
        for signal_, previous in old.items():
            signal.signal(signal_, previous)


def _replace_dead(processes: list[_Process], work: ProcessWork, bound: socket.socket, metrics: str) -> None:
    for at, process in enumerate(processes):
        if process.process.poll() is not None:
            process.close()
            forget_process(process.process.pid, metrics)
            _LOG.warning("process %d exited with %d and was restarted", process.process.pid, process.process.returncode)
            time.sleep(_PAUSE_SECONDS)
            processes[at] = _Process(work, bound, metrics)


def main(socket_fd: int, told_fd: int) -> int:
    """Run one worker process."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole process group: the first process decides when to stop
    _end_with_the_first()
    given = json.load(sys.stdin)
    made = {
        "listen": serve.Listen(**given["listen"]),
        "authentication": Authentication(**given["authentication"]),
        "account_limits": AccountLimits(**given["account_limits"]),
        "hosts": tuple(given["hosts"]),
    }
    work = ProcessWork(**{**given, **made})
    bound = socket.socket(fileno=socket_fd)
    try:
        store = open_store(work.database, create=False)
        serve.log_access(wanted=work.access_log)
        application = app(
            store, work.authentication.identity(store), hosts=work.hosts, account_limits=work.account_limits
        )
        serve.serve(application, bound, work.listen, on_ready=lambda: _tell(told_fd))
        store.close()
    except TorcError as error:
        _LOG.error("error: %s", error.message)
        return error.exit_code
    return 0


def _end_with_the_first() -> None:
    """End this process if the first one is killed: it would keep the port, and nothing could stop it (prctl(2))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _tell(told_fd: int) -> None:
    os.write(told_fd, b"x")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
