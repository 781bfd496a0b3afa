"""Errors as RFC 9457 problem documents. The only place where the server renders errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python
from starlette.requests import Request
from starlette.responses import Response

from torc.errors import Conflict, Invalid, TorcError, Unavailable

MEDIA_TYPE = "application/problem+json"
TITLES = {
    "internal": "Something broke inside the server",
    "invalid": "The request cannot succeed as it stands",
    "not_found": "There is nothing of that name",
    "conflict": "The stored state does not allow it",
    "forbidden": "You may not do this",
    "unavailable": "Something that the server needs does not answer",
}
_RETRY_SECONDS = "1"
_MOST_PROBLEMS = 20


class Changed(Conflict):
    """What `If-Match` named is not what is there any more."""

    status = 412


class BodyTooLarge(Invalid):
    """The body is larger than the server takes."""

    status = 413


class TooMany(Unavailable):
    """The caller asks more often than the server lets one caller ask."""

    status = 429


class Busy(Unavailable):
    """The server has more of this to do already than it can do soon."""


class BadHost(Invalid):
    """The name by which the server was called is not one of its own."""

    status = 421


class WrongMethod(Invalid):
    """The path is there, and not for this method."""

    status = 405


class WrongMedia(Invalid):
    """The body is of a kind that the server does not read."""

    status = 415


class SlowBody(Invalid):
    """The body did not arrive in time."""

    status = 408


class Unreadable(Invalid):
    """The body is no JSON."""

    status = 400


def problem(error: TorcError) -> dict[str, Any]:
    """Return the members of a problem document. `code`, `hint` and `details` are extensions."""
    found: dict[str, Any] = {
        "type": f"urn:torc:problem:{error.code}",
        "title": TITLES.get(error.code, error.code),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
    }
    if error.hint:
        found["hint"] = error.hint
    if error.details:
        found["details"] = to_jsonable_python(error.details, fallback=str)
    return found


def response(error: TorcError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that tells an error."""
    more = dict(headers or {})
    if error.status in {429, 503}:
        more["Retry-After"] = str(error.details.get("retry_after", _RETRY_SECONDS))
    if error.status == 401:
        more["WWW-Authenticate"] = 'Bearer realm="torc"'
    return Response(json.dumps(problem(error)), error.status, more, MEDIA_TYPE)


async def on_error(_request: Request, error: Exception) -> Response:
    """Render an error of ours."""
    assert isinstance(error, TorcError)
    return response(error)


def invalid(error: ValidationError) -> Invalid:
    """Say what is wrong with the fields of a request, each with its place."""
    problems = [
        {"field": ".".join(map(str, item["loc"])), "problem": item["msg"]}
        for item in error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_PROBLEMS]
    ]
    first = problems[0]
    where = f"`{first['field']}`: " if first["field"] else ""
    rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Invalid(
        f"{where}{first['problem']}{rest}",
        hint="the document at /api/v1/openapi.json describes each field",
        fields=problems,
    )
