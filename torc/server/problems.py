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
    "invalid": "The request is invalid",
    "not_found": "There is nothing with that name",
    "conflict": "The stored state does not allow it",
    "forbidden": "You may not do this",
    "unavailable": "Something that the server needs is unavailable",
}
_RETRY_SECONDS = "1"
_MOST_PROBLEMS = 20


class Changed(Conflict):
    """The version given in `If-Match` is no longer current."""

    status = 412


class BodyTooLarge(Invalid):
    """The body is larger than the server accepts."""

    status = 413


class TooMany(Unavailable):
    """The caller sends more requests than the server allows."""

    status = 429


class Busy(Unavailable):
    """The server has too much of this to do at the moment."""


class BadHost(Invalid):
    """The request is for a host name that is not the server's."""

    status = 421


class WrongMethod(Invalid):
    """The path exists, but does not support this method."""

    status = 405


class WrongMedia(Invalid):
    """The server does not accept this type of body."""

    status = 415


class SlowBody(Invalid):
    status = 408


class Unreadable(Invalid):
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
    """Return the response for an error."""
    more = dict(headers or {})
    if error.status in {429, 503}:
        more["Retry-After"] = str(error.details.get("retry_after", _RETRY_SECONDS))
    if error.status == 401:
        more["WWW-Authenticate"] = 'Bearer realm="torc"'
    return Response(json.dumps(problem(error)), error.status, more, MEDIA_TYPE)


async def on_error(_request: Request, error: Exception) -> Response:
    """Render a TorcError."""
    assert isinstance(error, TorcError)
    return response(error)


def invalid(error: ValidationError) -> Invalid:
    """Describe what is wrong with the fields of a request, each with its location."""
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
