"""The client over HTTP: what it makes of answers, when it asks again, and what it says when there is nobody."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.serving import Door
from tests.support.stores import open_sqlite
from tests.support.wait import wait_until
from tests.support.wire import Wire
from tests.support.workflows import make
from torc import __version__
from torc.api.workflows import (
    ArchiveWorkflow,
    CreateWorkflow,
    DeleteWorkflow,
    GetWorkflow,
    ListWorkflows,
    UpdateWorkflow,
)
from torc.client.remote import Remote
from torc.errors import Conflict, Forbidden, Invalid, NotFound, TorcError, Unauthorized, Unavailable


@pytest.fixture
def door(sqlite_file: Path, tmp_path: Path) -> Iterator[Door]:
    opened = open_sqlite(sqlite_file, tmp_path)
    made = Door(opened.store)
    yield made
    made.close()
    opened.close()


class _Answering:
    """A server that is none of ours: it gives what it is told to give."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, str]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.asked.append((self.command, self.path))
                outer.may_answer.wait(60)
                status, headers, body = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def other() -> Iterator[_Answering]:
    made = _Answering()
    yield made
    made.close()


def _problem(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    body = {"detail": "it is so", "code": code, "hint": "do that", "details": {"a": 1}}
    return status, {"Torc-Version": __version__}, json.dumps(body).encode()


def test_a_request_that_changes_very_many_jobs_is_waited_for(
    other: _Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torc.client.remote._READ_SECONDS", 0.2)
    other.answers = [(204, {"Torc-Version": __version__}, b"")]
    other.may_answer.clear()
    patient, impatient = Remote(other.url), Remote(other.url, patience_seconds=0.0)
    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(patient.send, DeleteWorkflow(workflow_id=1))
        wait_until(lambda: other.asked)
        with pytest.raises(Unavailable):  # by then the time of the one before would be over, too
            impatient.send(GetWorkflow(workflow_id=1))
        other.may_answer.set()
        assert deleting.result() is None
    patient.close()
    impatient.close()


def test_the_kernel_asks_whether_the_other_machine_is_there_still(other: _Answering) -> None:
    other.answers = [PAGE]
    remote = Remote(other.url)
    remote.send(ListWorkflows())
    (connection,) = [found for found in remote._pool.connection_from_url(other.url).pool.queue if found]
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 60
    remote.close()


PAGE = (200, {"Torc-Version": __version__}, b'{"items": [], "cursor": null}')


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (422, "invalid", Invalid),
        (400, "invalid", Invalid),
        (404, "not_found", NotFound),
        (409, "conflict", Conflict),
        (412, "conflict", Conflict),
        (401, "forbidden", Unauthorized),
        (403, "forbidden", Forbidden),
        (500, "internal", TorcError),
        (418, "something_new", TorcError),
    ],
)
def test_problems_become_the_errors_that_they_were(
    other: _Answering, status: int, code: str, kind: type[TorcError]
) -> None:
    other.answers = [_problem(status, code)]
    remote = Remote(other.url)
    with pytest.raises(TorcError) as raised:
        remote.send(GetWorkflow(workflow_id=1))
    assert type(raised.value) is kind
    assert (raised.value.message, raised.value.hint, raised.value.details) == ("it is so", "do that", {"a": 1})
    assert len(other.asked) == 1
    remote.close()


def test_what_is_busy_for_a_moment_is_asked_again(other: _Answering) -> None:
    other.answers = [_problem(503, "unavailable"), _problem(429, "unavailable"), PAGE]
    remote = Remote(other.url)
    assert remote.send(ListWorkflows()).items == []
    assert len(other.asked) == 3
    remote.close()


def test_what_was_surely_not_done_is_asked_again_whatever_it_is(other: _Answering) -> None:
    other.answers = [_problem(503, "unavailable"), _problem(409, "conflict")]
    remote = Remote(other.url)
    with pytest.raises(Conflict):
        remote.send(ArchiveWorkflow(workflow_id=1))
    assert len(other.asked) == 2
    remote.close()


def test_what_may_have_been_done_is_not_asked_again(other: _Answering) -> None:
    other.answers = [(502, {}, b"<html>bad gateway</html>")]
    remote = Remote(other.url, patience_seconds=0.5)
    with pytest.raises(Unavailable, match="not like a Torc server"):
        remote.send(CreateWorkflow(spec="x", directory="/"))
    assert len(other.asked) == 1
    with pytest.raises(Unavailable):
        remote.send(ListWorkflows())
    assert len(other.asked) > 2, "reading again harms nobody"
    remote.close()


def test_nobody_there_is_told_with_the_url_and_what_to_check() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    remote = Remote(f"http://127.0.0.1:{port}", patience_seconds=0.2)
    with pytest.raises(Unavailable, match=f"http://127.0.0.1:{port} does not answer: Connection refused") as raised:
        remote.send(ListWorkflows())
    assert "torc server status" in (raised.value.hint or "")
    remote.close()


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b'{"items": 3}', b""])
def test_what_is_no_answer_of_torc_is_told(other: _Answering, body: bytes) -> None:
    other.answers = [(200, {}, body)]
    remote = Remote(other.url)
    with pytest.raises(Unavailable, match="does not understand"):
        remote.send(ListWorkflows())
    remote.close()


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("99.1.0", "the server has version 99.1.0"),
        (None, "does not identify itself as a Torc server"),
        (__version__, ""),
    ],
)
def test_another_version_is_warned_of_once(
    other: _Answering, version: str | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    other.answers = [(200, {"Torc-Version": version} if version else {}, PAGE[2])]
    remote = Remote(other.url)
    with caplog.at_level(logging.WARNING, "torc"):
        remote.send(ListWorkflows())
        remote.send(ListWorkflows())
    assert [said in record.message for record in caplog.records] == ([True] if said else [])
    remote.close()


def test_redirects_are_not_followed_with_a_token(other: _Answering) -> None:
    other.answers = [(302, {"Location": "http://127.0.0.1:1/"}, b"")]
    remote = Remote(other.url, token="secret")
    with pytest.raises(Unavailable):
        remote.send(ListWorkflows())
    assert len(other.asked) == 1
    remote.close()


@pytest.mark.parametrize("url", ["localhost:80", "ftp://host", "http://", "http://host/?a=1", "nonsense"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="is not a valid server URL"):
        Remote(url)


def test_a_password_in_a_url_is_refused() -> None:
    with pytest.raises(Invalid) as raised:
        Remote("http://me:secret@host")
    assert "secret" not in raised.value.message


def test_one_connection_is_used_for_many_requests_and_made_anew_when_it_was_lost(door: Door) -> None:
    host, port = door.url.removeprefix("http://").split(":")
    wire = Wire((host, int(port)))
    remote = Remote(wire.url)
    number = make(remote, "a").id
    for _ in range(5):
        remote.send(GetWorkflow(workflow_id=number))
    assert wire.num_accepted == 1
    wire.cut()
    wire.mend()
    assert remote.send(UpdateWorkflow(workflow_id=number, description="x")).description == "x"
    assert wire.num_accepted == 2
    remote.close()
    wire.close()


def test_an_absent_field_and_one_that_is_null_are_told_apart(door: Door) -> None:
    number = make(door, "a").id
    door.send(UpdateWorkflow(workflow_id=number, settings={"enforce_memory": True}))
    left = door.send(UpdateWorkflow(workflow_id=number, description="x"))
    assert left.settings.get("enforce_memory") is True
    removed = door.send(UpdateWorkflow(workflow_id=number, settings={"enforce_memory": None}))
    assert "enforce_memory" not in removed.settings
