"""Whose connection it is, asked of the kernel in both ways that it answers, about real connections of real users."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from tests.support.serving import start
from tests.support.stores import open_sqlite
from torc.server.identity import OwnerOnLoopback, owner_by_diag, owner_by_table, owner_of_connection

WAYS = [owner_by_diag, owner_by_table, owner_of_connection]
NOBODY = 65534
#: what is imported is imported before: nobody may not be able to read where Python is
_AS_NOBODY = f"import os, socket, sys; os.setuid({NOBODY})\n"


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Give a listening socket on loopback."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as made:
        try:
            made.bind((request.param, 0))
        except OSError:
            pytest.skip("this machine has no such address")
        made.listen()
        made.settimeout(20)
        yield made


@pytest.mark.parametrize("ask", WAYS)
def test_each_end_of_a_connection_is_told_with_its_user(
    listening: socket.socket, ask: Callable[..., int | None]
) -> None:
    with socket.create_connection(listening.getsockname()[:2]) as near:
        far, _ = listening.accept()
        with far:
            here, there = near.getsockname()[:2], listening.getsockname()[:2]
            assert ask(here, there) in ({os.geteuid()} if ask is not owner_by_diag else {os.geteuid(), None})
            assert ask((here[0], 1), there) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("ask", WAYS)
def test_the_connection_of_another_user_is_told_apart(listening: socket.socket, ask: Callable[..., int | None]) -> None:
    host, port = listening.getsockname()[:2]
    code = _AS_NOBODY + f"s = socket.socket({int(listening.family)}); s.connect(({host!r}, {port})); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-I", "-c", code], cwd="/", stdin=subprocess.PIPE) as process:
        far, address = listening.accept()
        with far:
            assert ask(address[:2], (host, port)) in ({NOBODY} if ask is not owner_by_diag else {NOBODY, None})
            process.communicate(b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_server_answers_its_owner_and_refuses_everybody_else_on_the_machine(
    sqlite_file: Path, tmp_path: Path
) -> None:
    opened = open_sqlite(sqlite_file, tmp_path)
    serving = start(opened.store, OwnerOnLoopback())
    assert urllib3.request("GET", f"{serving.url}/api/v1/workflows").status == 200
    host, port = serving.url.removeprefix("http://").split(":")
    asked = b"GET /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    code = _AS_NOBODY + (
        f"s = socket.socket(); s.connect(({host!r}, {port})); s.sendall({asked!r})\n"
        "while part := s.recv(9999): os.write(1, part)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert " 403 " in done.stdout.splitlines()[0] and "belongs to another user" in done.stdout
    serving.stop()
    opened.close()
