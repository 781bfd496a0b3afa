"""Bodies that are large, deep or meant badly: rights come first, each request has its limit, and others are answered meanwhile."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.server.conftest import Http
from tests.support.accounts import People
from tests.support.serving import Door
from torc.api.base import LARGE, MEDIUM, SMALL
from torc.api.registry import REQUESTS
from torc.client.embedded import Embedded
from torc.errors import Invalid
from torc.server.authentication import Accounts
from torc.server.json_limits import check_structure

API = "/api/v1"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def people(store_with_people: tuple[Embedded, People]) -> Iterator[tuple[People, Door]]:
    """People with accounts, and a server that authenticates callers."""
    opened, gathered = store_with_people
    door = Door(opened.store, Accounts(opened.store, owner_token="x" * 43))
    yield gathered, door
    door.close()
    opened.close()


def head(door: Door, path: str, token: str, *lines: str) -> bytes:
    """Send the head of a POST alone, and give what is answered to that."""
    host, port = door.url.removeprefix("http://").split(":")
    told = [f"POST {API}{path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}", *lines]
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall("\r\n".join([*told, "", ""]).encode())
        return connection.recv(100_000)


@pytest.mark.parametrize("length", ["Content-Length: 50000000", "Transfer-Encoding: chunked"])
def test_whoever_may_not_ask_is_told_so_before_the_body_is_sent(people: tuple[People, Door], length: str) -> None:
    gathered, door = people
    reader, stranger = gathered.token("ada", "read").token, gathered.token("eve").token
    lines = ("Content-Type: application/json", length)
    assert b" 403 " in head(door, "/workflows", reader, *lines)
    assert b" 403 " in head(door, f"/workflows/{gathered.wf}/reinitialize", reader, *lines)
    assert b" 404 " in head(door, f"/workflows/{gathered.wf}/reinitialize", stranger, *lines)
    assert b" 401 " in head(door, "/workflows", "torc_1_" + "x" * 43, *lines)


def test_whoever_may_not_ask_learns_nothing_of_a_body_that_is_wrong(people: tuple[People, Door]) -> None:
    gathered, door = people
    http = Http(door.url)
    for body in (b"{", b"[" * 100_000, b'{"sepc": 1}'):
        for token, status in ((gathered.token("ada", "read").token, 403), (gathered.token("ada").token, None)):
            answer = http("POST", f"{API}/workflows", body=body, headers={**JSON, "Authorization": f"Bearer {token}"})
            assert answer.status == status if status else answer.status in {400, 422}, answer.data


def test_a_request_takes_what_it_can_need_and_no_more(people: tuple[People, Door]) -> None:
    gathered, door = people
    token = gathered.token("ada").token
    told = head(
        door, f"/workflows/{gathered.wf}/jobs", token, "Content-Type: application/json", f"Content-Length: {SMALL + 1}"
    )
    status, _, body = told.partition(b"\r\n\r\n")
    assert b" 413 " in status
    problem = json.loads(body)
    assert problem["details"] == {"largest_body": SMALL} and str(SMALL) in problem["detail"]


def test_a_body_in_pieces_is_stopped_at_its_limit(http: Http) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"name": "'
        for _ in range(50):
            yield b"x" * 2000

    http(
        "POST",
        f"{API}/workflows",
        json={"spec": '{"name": "w", "jobs": [{"name": "a", "command": "b"}]}', "directory": "/"},
    )
    answer = http("POST", f"{API}/workflows/1/jobs", body=pieces(), headers=JSON)
    assert answer.status == 413, answer.data  # the limit of all bodies of this server


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" * 90_000, "deep"),
        (b'{"a":' * 15_000, "deep"),
        (b'{"spec": ' + b"[" * 80_000, "deep"),
        (b"[" * 3000, "not JSON"),
        (b'{"a":' * 3000, "not JSON"),
        (b'{"max_jobs": ' + b"1" * 5000 + b"}", "not JSON"),
        (b"1" * 5000, "not JSON"),
    ],
    ids=["brackets", "objects", "field", "few_brackets", "few_objects", "number_of_field", "number"],
)
def test_what_is_nested_or_long_beyond_sense_is_refused_with_words(http: Http, body: bytes, said: str) -> None:
    answer = http("POST", f"{API}/workflows", body=body, headers=JSON)
    assert answer.status in {400, 422}, answer.data
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("opened", ["[", '{"a": ', "- ", "a {\n"], ids=["json", "objects", "yaml", "kdl"])
def test_a_spec_that_is_nested_beyond_sense_is_refused_with_words(http: Http, opened: str) -> None:
    answer = http("POST", f"{API}/workflows", json={"spec": opened * 10_000, "directory": "/"})
    assert answer.status == 422, answer.data
    assert "details" in answer.json()


def test_only_what_makes_a_workflow_or_reports_on_many_things_may_be_large() -> None:
    large = {kind.__name__ for kind in REQUESTS.values() if kind.largest_body == LARGE}
    assert large == {"CreateWorkflow", "ImportWorkflow", "ReinitializeWorkflow", "RecordFiles", "Exchange"}
    assert {kind.largest_body for kind in REQUESTS.values()} == {SMALL, MEDIUM, LARGE}


def test_the_document_names_the_limits(http: Http) -> None:
    paths = http("GET", f"{API}/openapi.json").json()["paths"]
    assert paths[f"{API}/workflows"]["post"]["requestBody"]["x-largest-body"] == LARGE
    assert paths[f"{API}/workflows/{{workflow_id}}/jobs"]["post"]["requestBody"]["x-largest-body"] == SMALL


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": "' + b"[" * 1000 + b'"}',
        b'"' + b'\\"' * 300_000 + b'[" [1]',
        b'"' + b"\\\\" * 300_000 + b'"',
        b'"\\',
        b'"' + b"x" * 300_000,
        b"[" * 64 + b"]" * 64,
        b"",
        b"[" + b"1," * 1000 + b"1]",
    ],
    ids=["brackets", "quotes", "backslashes", "lone", "open", "deep", "empty", "flat"],
)
def test_what_stands_in_strings_does_not_count(text: bytes) -> None:
    check_structure(text)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(
    "text",
    [b"[" * 65, b'"' + b"\\\\" * 300_000 + b'"' + b"[" * 65, b"[" + b"1," * 2_000_001, b'["a",' * 65],
    ids=["deep", "after_a_string", "many", "strings_between"],
)
def test_depth_and_values_are_counted(text: bytes) -> None:
    with pytest.raises(Invalid):
        check_structure(text)
