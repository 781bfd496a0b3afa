"""What the server says in HTTP: statuses, problems, versions of things, and what it lets nobody do."""

from __future__ import annotations

import gzip
import json
import socket
import time
from typing import Any

import pytest

from tests.server.conftest import Http
from tests.support.serving import Door
from tests.support.workflows import make
from torc.server import protocol

API = "/api/v1"


def _spec(**fields: Any) -> dict[str, Any]:
    return {
        "spec": json.dumps({"name": "w", "jobs": [{"name": "a", "command": "true"}], **fields}),
        "directory": "/tmp",
    }


def test_what_is_made_is_told_with_201_and_what_is_gone_with_204(http: Http) -> None:
    made = http("POST", f"{API}/workflows", json=_spec())
    assert (made.status, made.json()["name"]) == (201, "w")
    assert http("DELETE", f"{API}/workflows/1").status == 204
    assert http("GET", f"{API}/workflows/1").status == 404


def test_errors_are_problem_documents_with_what_to_do(http: Http) -> None:
    answer = http("GET", f"{API}/workflows/7")
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"], body["type"]) == (404, "not_found", "urn:torc:problem:not_found")
    assert body["detail"] == "there is no workflow 7" and body["hint"]


def test_problems_of_a_spec_come_with_their_places(http: Http) -> None:
    answer = http(
        "POST", f"{API}/workflows", json={"spec": "name: w\njobs:\n  - {name: a, comand: ls}\n", "directory": "/tmp"}
    )
    assert answer.status == 422
    (found,) = answer.json()["details"]["diagnostics"]
    assert (found["code"], found["line"]) == ("unknown_field", 3)


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status", "said"),
    [
        ("POST", "/workflows", b"{", "application/json", 400, "is not JSON"),
        ("POST", "/workflows", b"[]", "application/json", 422, "not an object"),
        ("POST", "/workflows", b'{"spec": 3, "directory": "/"}', "application/json", 422, "`spec`"),
        ("POST", "/workflows", b'{"sepc": "", "directory": "/"}', "application/json", 422, "spec"),
        ("POST", "/workflows", b"spec=x", "application/x-www-form-urlencoded", 415, "Content-Type"),
        ("POST", "/workflows", b"\xff", "application/json", 400, "is not JSON"),
        ("GET", "/workflows?limit=0", None, None, 422, "`limit`"),
        ("GET", "/workflows?lmit=1", None, None, 422, "is not a parameter"),
        ("GET", "/workflows?limit=1&limit=2", None, None, 422, "given twice"),
        ("GET", "/workflows/x", None, None, 404, "nothing at"),
        ("GET", "/workflows/99999999999999999999", None, None, 404, "as large"),
        ("PUT", "/workflows", b"{}", "application/json", 405, "GET, HEAD, POST"),
        ("GET", "/nothing", None, None, 404, "openapi.json"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(
    http: Http, method: str, path: str, body: bytes | None, kind: str | None, status: int, said: str
) -> None:
    answer = http(method, API + path, body=body, headers={"Content-Type": kind} if kind else {})
    assert answer.status == status, answer.data
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.data.decode()


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, gzip"])
def test_bodies_that_are_compressed_are_refused_whatever_they_hold(http: Http, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = http("POST", f"{API}/workflows", body=b'{"spec": "name: w", "directory": "/"}', headers=headers)
    assert answer.status == 415 and "without compression" in answer.json()["hint"]
    assert (
        http("POST", f"{API}/workflows", body=b"{", headers={**headers, "Content-Encoding": "Identity"}).status == 400
    )


def test_a_field_of_the_path_cannot_be_another_in_the_body(http: Http, door: Door) -> None:
    first, second = make(door, "a"), make(door, "b")
    answer = http("PATCH", f"{API}/workflows/{first.id}", json={"workflow_id": second.id, "name": "x"})
    assert answer.status == 422 and "in the path" in answer.json()["detail"]


def test_a_change_says_what_it_changes_and_is_refused_when_that_has_moved(http: Http, door: Door) -> None:
    path = f"{API}/workflows/{make(door, 'a').id}"
    tag = http("GET", path).headers["etag"]
    assert http("GET", path, headers={"If-None-Match": tag}).status == 304
    assert http("PATCH", path, json={"description": "mine"}, headers={"If-Match": tag}).status == 200
    late = http("PATCH", path, json={"description": "yours"}, headers={"If-Match": tag})
    assert (late.status, late.json()["code"]) == (412, "conflict")
    now = http("GET", path)
    assert now.json()["description"] == "mine"
    assert http("DELETE", path, headers={"If-Match": late.json()["details"]["etag"]}).status == 204


def test_large_answers_are_compressed_for_those_who_want_it(http: Http, door: Door) -> None:
    number = make(door, " ".join(f"job{n}" for n in range(100))).id
    answer = http("GET", f"{API}/workflows/{number}/jobs", headers={"Accept-Encoding": "gzip"}, decode_content=False)
    assert answer.headers["content-encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(answer.data))["items"]) == 100


def test_lists_are_pages(http: Http, door: Door) -> None:
    number = make(door, "a b c d e").id
    names, cursor = [], ""
    while cursor is not None:
        page = http("GET", f"{API}/workflows/{number}/jobs?limit=2" + (f"&cursor={cursor}" if cursor else "")).json()
        names += [job["name"] for job in page["items"]]
        cursor = page["cursor"]
    assert names == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
def test_other_names_and_pages_of_other_sites_are_refused(http: Http, headers: dict[str, str], status: int) -> None:
    assert http("GET", f"{API}/workflows", headers=headers).status == status


def test_no_answer_allows_other_sites_to_read_it(http: Http) -> None:
    answer = http("OPTIONS", f"{API}/workflows", headers={"Access-Control-Request-Method": "POST"})
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


def test_bodies_above_the_limit_are_refused_told_or_not(http: Http, door: Door) -> None:
    large = b'{"spec": "' + b"x" * 200_000 + b'"}'
    assert http("POST", f"{API}/workflows", body=large, headers={"Content-Type": "application/json"}).status == 413

    def pieces() -> Any:
        for start in range(0, len(large), 10_000):
            yield large[start : start + 10_000]

    assert http("POST", f"{API}/workflows", body=pieces(), headers={"Content-Type": "application/json"}).status == 413
    assert http("GET", "/healthz").status == 200


def test_health_readiness_and_metrics(http: Http, door: Door) -> None:
    make(door, "a")
    assert http("GET", "/healthz").json()["status"] == "alive"
    assert http("GET", "/readyz").json()["status"] == "ready"
    text = http("GET", "/metrics").data.decode()
    assert 'torc_requests_total{kind="CreateWorkflow",status="201"} 1.0' in text
    assert 'torc_request_seconds_bucket{kind="CreateWorkflow"' in text


def test_each_answer_to_somebody_known_names_the_version(http: Http) -> None:
    from torc import __version__

    for path in (f"{API}/workflows", f"{API}/nothing", "/metrics"):
        assert http("GET", path).headers["torc-version"] == __version__
    for path in ("/healthz", "/readyz"):
        answer = http("GET", path)
        assert "torc-version" not in answer.headers and __version__ not in answer.data.decode()


def test_a_connection_that_sends_nonsense_or_nothing_keeps_nobody_waiting(http: Http, door: Door) -> None:
    host, port = door.url.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(50)]
    for connection in idle[:25]:
        connection.sendall(b"POST /api/v1/workflows HTTP/1.1\r\nHost: localhost\r\nContent-Le")
    with socket.create_connection((host, int(port))) as wild:
        wild.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert b"400" in wild.recv(1000)
    began = time.monotonic()
    assert http("GET", "/healthz").status == 200
    assert time.monotonic() - began < 30, "others waited for those that send nothing"
    for connection in idle:
        connection.close()


@pytest.mark.usefixtures("processes")
def test_a_head_that_does_not_arrive_in_time_closes_the_connection(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    host, port = door.url.removeprefix("http://").split(":")
    for sent in (b"", b"GET /healthz HTTP/1.1\r\nHost: local"):
        with socket.create_connection((host, int(port)), timeout=20) as slow:
            slow.sendall(sent)
            assert slow.recv(100) == b""
    with socket.create_connection((host, int(port)), timeout=20) as kept:
        for _ in range(2):
            kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in kept.recv(1000)
            time.sleep(0.3)


def test_a_head_without_end_is_refused(door: Door) -> None:
    host, port = door.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as wild:
        wild.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
            + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(100))
        )
        assert b"400" in wild.recv(1000)


@pytest.mark.parametrize(
    "headers",
    [
        b"a:\r\n" * 201,
        b"Host: evil\r\n",
        b"Authorization: Bearer a\r\nauthorization: Bearer b\r\n",
        b"Content-Length: 0\r\nContent-Length: 5\r\n",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_a_head_that_others_may_read_otherwise_or_that_takes_long_to_search_is_refused(
    door: Door, headers: bytes
) -> None:
    host, port = door.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as wild:
        wild.sendall(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
        assert wild.recv(1000).startswith(b"HTTP/1.1 400 ")
    with socket.create_connection((host, int(port)), timeout=20) as good:
        for _ in range(2):  # each request has headers of its own
            good.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 150 + b"\r\n")
            answer = good.recv(1000)
            while b"alive" not in answer:
                answer += good.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/workflows/{}", "/workflows/{}/events/stream", "/jobs/{}"])
@pytest.mark.parametrize("digits", [19, 20, 5000])
def test_an_id_of_very_many_digits_is_the_id_of_nothing(http: Http, path: str, digits: int) -> None:
    assert http("GET", API + path.format("9" * digits)).status == 404
