"""A process of another user that listens here, as a server of theirs or as somebody who took its port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

STRANGER = 65534
_LISTENER = """
import encodings.idna, os, socket, sys, threading
os.setuid(int(sys.argv[1]))
listening = socket.create_server((sys.argv[2], int(sys.argv[3])))
print(listening.getsockname()[1], flush=True)

def copy(source, target):
    while data := source.recv(65536):
        if target is not None:
            target.sendall(data)
        else:
            print(len(data), flush=True)
    print(0, flush=True)
    if target is not None:
        target.shutdown(socket.SHUT_WR)

while True:
    near, _ = listening.accept()
    far = socket.create_connection(("127.0.0.1", int(sys.argv[4]))) if len(sys.argv) > 4 else None
    threading.Thread(target=copy, args=(near, far), daemon=True).start()
    if far is not None:
        threading.Thread(target=copy, args=(far, near), daemon=True).start()
"""


@contextmanager
def listening_stranger(
    host: str = "127.0.0.1", port: int = 0, *, forwards_to: int | None = None
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Yield the port on which another user listens, and the process, which writes how many bytes it was sent, a line each time.

    `forwards_to`: a port here that answers.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    more = [] if forwards_to is None else [str(forwards_to)]
    process = subprocess.Popen(
        [sys.executable, "-c", _LISTENER, str(STRANGER), host, str(port), *more], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
