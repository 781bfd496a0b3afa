"""The OpenAPI document: complete, true, and held by generated requests to every operation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.support.examples import examples
from tests.support.serving import Door
from tests.support.stores import check_all, open_sqlite
from tests.support.workflows import finish, make
from torc.api.base import Request
from torc.api.registry import REQUESTS
from torc.server import openapi


def _without_security(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document for a server that asks nobody for a token: `test_accounts` and `test_identity` have those that do."""
    paths = {
        path: {method: {k: v for k, v in of.items() if k != "security"} for method, of in methods.items()}
        for path, methods in document["paths"].items()
    }
    return {**{k: v for k, v in document.items() if k != "security"}, "paths": paths}


DOCUMENT = schemathesis.openapi.from_dict(_without_security(openapi.document()))
#: of each operation; with 50 operations, thousands in all
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
EXAMPLES = examples(60)


def test_every_request_is_an_operation_of_the_document() -> None:
    paths = openapi.document()["paths"].values()
    named = [operation["operationId"] for path in paths for operation in path.values()]
    assert sorted(named) == sorted([*REQUESTS, "StreamEvents"])


def test_every_operation_says_what_it_does_and_who_may_do_it() -> None:
    for path in openapi.document()["paths"].values():
        for operation in path.values():
            assert operation["summary"].endswith((".", "!", "?")), operation["operationId"]


@pytest.mark.parametrize("kind", REQUESTS.values(), ids=lambda kind: kind.__name__)
def test_every_operation_has_an_example_of_what_is_asked_and_answered(kind: type[Request[object]]) -> None:
    operation = openapi.document()["paths"][openapi.PREFIX + kind.http_path][kind.http_method.lower()]
    path = {part["name"]: 1 for part in operation["parameters"] if part["in"] == "path"}
    if "requestBody" in operation:
        body = operation["requestBody"]["content"]["application/json"]["example"]
        kind.model_validate_json(json.dumps({**path, **body}), strict=True)
    (success,) = (answer for status, answer in operation["responses"].items() if status.startswith("2"))
    if "content" in success:
        example = success["content"]["application/json"]["example"]
        assert example is not None
        kind.reply().validate_json(json.dumps(example))


def test_every_error_has_an_example() -> None:
    for status, error in openapi.document()["components"]["responses"].items():
        (content,) = error["content"].values()
        assert content["example"]["status"] == int(status)


@pytest.fixture(scope="module")
def filled(sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Yield a server with some workflows, so that generated ids meet something."""
    opened = open_sqlite(sqlite_file, tmp_path_factory.mktemp("generated"))
    for _ in range(3):
        workflow = make(opened, "a b -> c").id
        finish(opened, workflow, "a")
    made = Door(opened.store)
    yield made
    made.close()
    check_all(opened)
    opened.close()


@pytest.mark.usefixtures("processes")
@DOCUMENT.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_generated_requests_are_answered_as_the_document_says(case: schemathesis.Case, filled: Door) -> None:
    if case.operation.definition.raw["operationId"] == "StreamEvents":
        pytest.skip("it does not end")
    if "wait_seconds" in (case.query or {}):
        case.query["wait_seconds"] = 0
    if isinstance(case.body, dict) and "wait_seconds" in case.body:
        case.body["wait_seconds"] = 0
    response = case.call(base_url=filled.url)
    # what is larger than the request may be is refused for that, whatever else is wrong with it
    checks = [check for check in CHECKS if response.status_code != 413 or check is not negative_data_rejection]
    case.validate_response(response, checks=checks)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def test_every_reference_leads_to_something() -> None:
    made = openapi.document()
    for reference in set(_references(made)):
        found: Any = made
        for part in reference.removeprefix("#/").split("/"):
            assert part in found, reference
            found = found[part]
