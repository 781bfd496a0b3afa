"""A token of one's own server is shown to no process of another user."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from torc.api.workflows import ListWorkflows
from torc.client.port_owner import is_ours, listener_uids
from torc.client.remote import Remote
from torc.errors import Unavailable

_STRANGER = 65534
_LISTENER = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
os.setuid(int(sys.argv[1]))
again = socket.create_server(("127.0.0.1", 0))
listening.close()
print(again.getsockname()[1], flush=True)
while True:
    connection, _ = again.accept()
    connection.settimeout(20)
    print(len(connection.recv(1000)), flush=True)
    connection.close()
"""


@pytest.fixture
def squatter() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A process of another user that listens; its port, and what it was sent, a number of bytes a line."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    process = subprocess.Popen([sys.executable, "-c", _LISTENER, str(_STRANGER)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield int(process.stdout.readline()), process
    process.kill()
    process.wait()
    process.stdout.close()


def test_who_took_the_port_of_a_server_that_died_is_sent_nothing(
    squatter: tuple[int, subprocess.Popen[str]],
) -> None:
    port, process = squatter
    assert listener_uids(port) == {_STRANGER} and not is_ours(port)
    remote = Remote(f"http://127.0.0.1:{port}", token="hidden", patience_seconds=0.0, is_own=True)
    with pytest.raises(Unavailable, match="another user listens"):
        remote.send(ListWorkflows())
    remote.close()
    socket.create_connection(("127.0.0.1", port)).close()  # the first that it accepts, unless the client got there
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"


def test_a_server_of_ones_own_is_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        assert listener_uids(port) == {os.geteuid()} and is_ours(port)


def test_a_port_that_nobody_has_belongs_to_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
    assert listener_uids(port) == set()
