"""Who is let in without accounts: real connections of real users, asked of the kernel in both ways that it answers, and attacks."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from sqlalchemy import text
from sse_starlette.sse import AppStatus

from mcp_server.context import AssistantPolicy
from mcp_server.http import HttpMount
from tests.support.running import wait_until
from tests.support.serving import Serving, start
from tests.support.stores import check_all, open_sqlite
from tests.support.workflows import make
from torc.api.registry import REQUESTS
from torc.api.workflows import ListWorkflows
from torc.client.embedded import Embedded
from torc.client.remote import Remote
from torc.server import openapi, serve
from torc.server.caller import OwnerOnLoopback, owner_by_diag, owner_by_table, owner_of_connection
from torc.server.routes import PREFIX

WAYS = [owner_by_diag, owner_by_table, owner_of_connection]
NOBODY = 65534
#: what is imported is imported before: nobody may not be able to read where Python is
_AS_NOBODY = f"import json, os, socket, sys; os.setuid({NOBODY})\n"


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Yield a listening socket on loopback."""
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


@pytest.mark.usefixtures("processes")
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


@pytest.mark.usefixtures("processes")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("leaving", ["s.close()", "s.shutdown(socket.SHUT_WR)", "sys.exit()"])
def test_a_connection_that_its_end_has_let_go_of_is_nobodys_and_least_of_all_roots(
    listening: socket.socket, ask: Callable[..., int | None], leaving: str
) -> None:
    host, port = listening.getsockname()[:2]
    code = _AS_NOBODY + (
        f"s = socket.socket({int(listening.family)}); s.connect(({host!r}, {port})); s.sendall(b'ask')\n"
        f"try: {leaving}\nfinally: os.write(1, b'x')\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code], cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        far, address = listening.accept()
        with far:
            assert process.stdout is not None and process.stdout.read(1) == b"x"
            if leaving == "sys.exit()":
                process.wait()
            assert ask(address[:2], (host, port)) is None
            process.communicate(b"")


TOKEN = "what-server.json-holds"
OTHERS = ["/metrics", f"{PREFIX}/openapi.json", f"{PREFIX}/workflows/1/events/stream", f"{PREFIX}/nothing", "/", "/mcp"]


@dataclass
class House:
    """A server without accounts, with one workflow, and what it has logged."""

    opened: Embedded
    bound: socket.socket
    directory: Path
    calls: list[dict[str, Any]]
    serving: Serving | None = None

    def serving_url(self) -> str:
        """The URL of the server that was begun."""
        assert self.serving is not None
        return self.serving.url

    def begin(self) -> str:
        """Begin to answer, and give the URL."""
        identity = OwnerOnLoopback(TOKEN)
        mounts = {"/mcp": HttpMount(identity, AssistantPolicy(), self.directory, self.directory, {})}
        self.serving = start(self.opened.store, identity, self.bound, mounts=mounts)
        return self.serving.url


class _Calls(logging.Handler):
    """Keeps what the access log says."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(json.loads(record.getMessage()))


@pytest.fixture
def house(sqlite_file: Path, tmp_path: Path) -> Iterator[House]:
    """A server that listens, and does not answer yet."""
    opened = open_sqlite(sqlite_file, tmp_path)
    make(opened, "a")
    logger, calls = logging.getLogger("torc.access"), _Calls()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(calls)
    AppStatus.should_exit = False  # of the process: another server in it has ended before
    made = House(opened, serve.bind(serve.Listen()), tmp_path, calls.found)
    yield made
    if made.serving is not None:
        made.serving.stop()
    logger.removeHandler(calls)
    logger.setLevel(before)
    check_all(opened)
    opened.close()


def _asked(method: str, path: str, body: object = None, token: str | None = TOKEN) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    shown = f"Authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{shown}Connection: close\r\nContent-Type: application/json\r\n"
    )
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def _everything(token: str | None = TOKEN) -> list[bytes]:
    """Return a request for every route, those that are in the API as they would succeed."""
    found = [_asked("GET", path, token=token) for path in OTHERS]
    for kind in REQUESTS.values():
        path = PREFIX + kind.http_path
        for field in [part[1:-1] for part in kind.http_path.split("/") if part.startswith("{")]:
            path = path.replace("{" + field + "}", "1")
        body = None if kind.http_method in {"GET", "DELETE"} else _example(kind.__name__)
        found.append(_asked(kind.http_method, path, body, token))
    return found


def _example(name: str) -> dict[str, Any]:
    for path in openapi.document()["paths"].values():
        for operation in path.values():
            if operation["operationId"] == name and "requestBody" in operation:
                return dict(operation["requestBody"]["content"]["application/json"]["example"])
    return {}


def _as_nobody(house: House, requests: list[bytes], leaving: str) -> list[str]:
    """Send requests as another user, each over a connection of its own; returns the first line of each answer, where one is waited for."""
    host, port = house.bound.getsockname()[:2]
    code = _AS_NOBODY + (
        "for text in json.load(sys.stdin):\n"
        f"    s = socket.socket(); s.connect(({host!r}, {port})); s.sendall(text.encode())\n    {leaving}"
    )
    given = json.dumps([request.decode() for request in requests])
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd="/", input=given, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


LEAVING = {"closed": "s.close()", "reset": "s.setsockopt(1, 13, b'\\1\\0\\0\\0\\0\\0\\0\\0'); s.close()"}


@pytest.mark.usefixtures("processes")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("leaving", LEAVING.values(), ids=LEAVING.keys())
def test_who_asks_and_hangs_up_at_once_is_answered_nowhere_even_with_a_stolen_token(house: House, leaving: str) -> None:
    before = _rows(house)
    requests = _everything()
    _as_nobody(house, requests, leaving)
    house.begin()  # every connection is closed before the server looks at it
    if leaving == LEAVING["closed"]:
        wait_until(lambda: len(house.calls) == len(requests), "every request was looked at")
    get = urllib3.request(
        "GET", f"{house.serving_url()}{PREFIX}/workflows", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert get.status == 200, "it serves its owner still"
    strangers = house.calls[:-1]
    assert {call["status"] for call in strangers} <= {403}, [call for call in strangers if call["status"] != 403]
    assert not [call for call in strangers if call["actor"]]
    assert _rows(house) == before


@pytest.mark.usefixtures("processes")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_of_the_machine_is_refused_everywhere_even_with_a_stolen_token(house: House) -> None:
    house.begin()
    requests = _everything()
    answers = _as_nobody(house, requests, "print(s.recv(999).split(b'\\r')[0].decode())")
    assert answers == ["HTTP/1.1 403 Forbidden"] * len(requests)


@pytest.mark.parametrize("token", [None, "", "wrong", f"torc_1_{'A' * 43}"])
def test_the_owner_without_the_token_is_refused_everywhere_and_told_where_it_is(
    house: House, token: str | None
) -> None:
    house.begin()
    for request in _everything(token):
        with socket.create_connection(house.bound.getsockname()) as near:
            near.sendall(request)
            answer = b"".join(iter(lambda: near.recv(9999), b""))
        assert answer.startswith(b"HTTP/1.1 401 ") and b"server.json" in answer, request
        assert b"torc-version" not in answer.lower()
    for path, status in (("/healthz", "alive"), ("/readyz", "ready")):
        assert urllib3.request("GET", house.serving_url() + path).json() == {"status": status}


def test_the_owner_with_the_token_is_answered(house: House) -> None:
    url = house.begin()
    remote = Remote(url, token=TOKEN)
    assert [found.id for found in remote.send(ListWorkflows()).items] == [1]
    remote.close()


def test_who_hangs_up_between_head_and_body_has_nothing_done(house: House) -> None:
    house.begin()
    before = _rows(house)
    head, _, body = _asked("PATCH", f"{PREFIX}/jobs/1", {"command": "id > pwned.txt"}).partition(b"\r\n\r\n")
    near = socket.create_connection(house.bound.getsockname())
    near.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert near.recv(999).startswith(b"HTTP/1.1 100 "), "who calls was looked at, the body is awaited"
    near.send(body, socket.MSG_MORE)  # held back until the end of the connection goes with it
    near.close()
    wait_until(lambda: house.calls, "it was looked at")
    assert house.calls[0]["status"] in {403, 422}
    assert _rows(house) == before


def _rows(house: House) -> list[Any]:
    with house.opened.store.engine.connect() as db:
        counts = [
            db.execute(text(f"SELECT count(*) FROM {table}")).scalar() for table in ("workflow", "event", "runner")
        ]
        return [counts, db.execute(text("SELECT id, name, command, state FROM job ORDER BY id")).all()]
