"""The routes of the REST interface, generated from the table of requests: one endpoint class serves them all.

Path fields come from the path, the others from the query (GET, DELETE) or from a JSON body.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cache, partial
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

import torc.api  # noqa: F401 - enters every request
from torc.api.base import Request
from torc.api.registry import REQUESTS
from torc.errors import Invalid, NotFound, TorcError
from torc.operations.dispatch import Tx, answer
from torc.operations.handlers import load
from torc.server import problems
from torc.server.caller import Authenticator
from torc.server.concurrency import Admission
from torc.server.executor import MAKES_WORKFLOWS, RequestExecutor
from torc.server.json_limits import check_structure
from torc.workflow.access import Caller

PREFIX = "/api/v1"
_BODY_SECONDS = 30.0
_IN_QUERY = {"GET", "DELETE"}
_IF_MATCH = re.compile(r'\*|"[0-9a-f]+"(, *"[0-9a-f]+")*')
_LARGEST_ID = 2**63 - 1
#: bytes of a body that are read before the caller's rights are checked, and that are parsed in the event loop
_READ_AT_ONCE = 64 << 10
Kind = type[Request[Any]]


class _Id(IntegerConvertor):
    """Rejects ids with thousands of digits, which Python does not convert."""

    regex = "[0-9]{1,1000}"


register_url_convertor("id", _Id())


@cache
def by_path() -> dict[str, dict[str, Kind]]:
    """Return the kinds of requests by path and method."""
    found: dict[str, dict[str, Kind]] = defaultdict(dict)
    for kind in REQUESTS.values():
        found[kind.http_path][kind.http_method] = kind
    return found


def path_fields(kind: Kind) -> list[str]:
    """Return the names of a request's path fields."""
    return [part[1:-1] for part in kind.http_path.split("/") if part.startswith("{")]


def routes(answers: RequestExecutor, identity: Authenticator) -> list[Route]:
    """Create the routes. Paths without parameters come first, so that no other path hides them."""
    for kind in REQUESTS.values():
        load(kind)  # now, rather than while a caller waits
    made = []
    for path, kinds in sorted(by_path().items(), key=lambda item: item[0].count("{")):
        endpoint = _Endpoint(kinds, answers, identity)
        pattern = PREFIX + path.replace("_id}", "_id:id}")
        made.append(Route(pattern, endpoint, methods=None, include_in_schema=False))
    return made


class _Endpoint:
    """Serves all methods of one path. It is an ASGI application, so that Starlette passes it every method."""

    def __init__(self, kinds: Mapping[str, Kind], answers: RequestExecutor, identity: Authenticator) -> None:
        self._kinds, self._answers, self._identity = kinds, answers, identity
        twin = kinds.get("GET")
        self._twin = twin if twin is not None and any(kind.http_method != "GET" for kind in kinds.values()) else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        http = HttpRequest(scope, receive, send)
        try:
            response = await self._respond(http)
        except TorcError as error:
            response = problems.response(error)
        await response(scope, receive, send)

    async def _respond(self, http: HttpRequest) -> Response:
        method = "GET" if http.method == "HEAD" else http.method
        kind = self._kinds.get(method)
        if kind is not None:
            http.scope["torc.kind"] = kind.__name__
        caller = await self._identity.identify(http)
        http.scope["torc.actor"] = caller.actor
        if kind is None:
            allowed = ", ".join(sorted({*self._kinds, *(("HEAD",) if "GET" in self._kinds else ())}))
            if method == "OPTIONS":
                return Response(status_code=204, headers={"Allow": allowed})
            wrong = problems.WrongMethod(
                f"{http.method} is not an action of {http.url.path}", hint=f"there are {allowed}"
            )
            return problems.response(wrong, {"Allow": allowed})
        if kind.http_method in _IN_QUERY:
            _check_ids(http)
            request = from_query(kind, http)
            self._identity.confirm(http)
            return await self._answer(kind, request, caller, http)
        return await self._respond_to_body(kind, caller, http)

    async def _respond_to_body(self, kind: Kind, caller: Caller, http: HttpRequest) -> Response:
        """Answer a request with a body: large bodies are read only for authorized callers, and few at a time."""
        _check_ids(http)
        told = announced(http)
        check_size(kind, told)
        if told is None or told > _READ_AT_ONCE:
            await self._answers.admit(kind, http.path_params, caller)
        async with self._answers.limits.admit(caller) as admission:
            await admission.read(told, makes_workflow=kind in MAKES_WORKFLOWS)
            try:
                request = await self._request(kind, http)
            except Invalid:  # unauthorized callers are told only that
                await self._answers.admit(kind, http.path_params, caller)
                raise
            self._identity.confirm(http)
            return await self._answer(kind, request, caller, http, admission)

    async def _request(self, kind: Kind, http: HttpRequest) -> Request[Any]:
        body = await read_body(http, kind)
        if len(body) <= _READ_AT_ONCE:
            return from_body(kind, http.path_params, body)
        return await self._answers.work(partial(_from_large_body, kind, http.path_params, body))

    async def _answer(
        self, kind: Kind, request: Request[Any], caller: Caller, http: HttpRequest, admission: Admission | None = None
    ) -> Response:
        check = None
        wanted = http.headers.get("if-match")
        if self._twin is not None and has_versions(kind) and wanted is not None:
            check = partial(_unchanged, self._twin, dict(http.path_params), _wanted_tags(wanted))
        _, body = await self._answers.answer(request, caller, check, http.is_disconnected, admission)
        if kind.reply_type is None or kind.reply_type is type(None):
            return Response(status_code=204)
        headers = {}
        if self._twin is kind:
            headers["ETag"] = tag = etag(body)
            if tag in _tags(http.headers.get("if-none-match", "")):
                return Response(status_code=304, headers=headers)
        return Response(body, status_of(kind), headers, "application/json")


def status_of(kind: Kind) -> int:
    """Return the status code for success."""
    if kind.reply_type is None or kind.reply_type is type(None):
        return 204
    return 201 if kind.http_method == "POST" and kind.__name__.startswith(("Create", "Register")) else 200


def _check_ids(http: HttpRequest) -> None:
    if any(value > _LARGEST_ID for value in http.path_params.values() if isinstance(value, int)):
        raise NotFound("there is no id as large as this", hint="check the id")


def announced(http: HTTPConnection) -> int | None:
    """Return the length of the body according to its header; None for a chunked body."""
    told = http.headers.get("content-length")
    if told is None:
        return None if "transfer-encoding" in http.headers else 0
    return int(told)  # the parser has checked that it is a number


def check_size(kind: Kind, size: int | None) -> None:
    """Reject a body that is larger than this kind of request can need. Raises BodyTooLarge."""
    if size is not None and size > kind.largest_body:
        raise problems.BodyTooLarge(
            f"the body of {kind.__name__} may have at most {kind.largest_body} bytes",
            hint="send less at once",
            largest_body=kind.largest_body,
        )


def from_query(kind: Kind, connection: HTTPConnection) -> Request[Any]:
    """Build a request from path and query. Raises Invalid, also for unknown names."""
    fields = set(kind.model_fields) - set(path_fields(kind))
    values: dict[str, Any] = {}
    for name, value in connection.query_params.multi_items():
        if name not in fields:
            raise Invalid(
                f"`{name}` is not a parameter of this request", hint=f"there are {', '.join(sorted(fields)) or 'none'}"
            )
        if name in values:
            raise Invalid(f"`{name}` is given twice", hint="give it once")
        values[name] = value
    try:
        return kind.model_validate({**values, **connection.path_params})
    except ValidationError as error:
        raise problems.invalid(error) from None


async def read_body(http: HttpRequest, kind: Kind) -> bytes:
    """Read a JSON body. Raises Invalid if it has another type, is too large, or does not arrive."""
    media = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (coding := http.headers.get("content-encoding", "identity").strip().lower()) != "identity":
        raise problems.WrongMedia(f"the body has the content coding {coding[:40]}", hint="send it without compression")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in http.stream():
                size += len(part)
                check_size(kind, size)
                if part and media != "application/json":
                    raise problems.WrongMedia(
                        f"the body has the content type {media or '(none)'}",
                        hint="send JSON, with the header Content-Type: application/json",
                    )
                parts.append(part)
    except TimeoutError:
        raise problems.SlowBody(
            f"the body did not arrive within {_BODY_SECONDS:.0f} s", hint="send it without delay"
        ) from None
    except ClientDisconnect:
        raise Invalid("the client disconnected") from None
    return b"".join(parts)


def _from_large_body(kind: Kind, path: Mapping[str, Any], body: bytes) -> Request[Any]:
    check_structure(body)
    return from_body(kind, path, body)


def from_body(kind: Kind, path: Mapping[str, Any], body: bytes) -> Request[Any]:
    """Build a request from path and body. Raises Invalid."""
    rest = body.strip() or b"{}"
    if not rest.startswith(b"{"):
        try:
            from_json(rest)
        except ValueError:
            raise problems.Unreadable("the body is not JSON", hint="send one JSON object") from None
        raise Invalid("the body is not an object", hint="send one JSON object with the fields of the request")
    inside = rest[1:].lstrip()
    prefix = json.dumps(dict(path))[:-1].encode()
    separator = b", " if path and not inside.startswith(b"}") else b""
    try:
        request = kind.model_validate_json(prefix + separator + inside, strict=True)
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] == "json_invalid":
            raise problems.Unreadable(
                f"the body is not JSON: {error.errors()[0]['msg']}", hint="send one JSON object"
            ) from None
        raise problems.invalid(error) from None
    for name, value in path.items():
        if getattr(request, name) != value:
            raise Invalid(
                f"`{name}` is {value} in the path and {getattr(request, name)} in the body",
                hint="leave it out of the body",
            )
    return request


def etag(body: bytes) -> str:
    """Return a tag that distinguishes states of a resource."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def has_versions(kind: Kind) -> bool:
    """Return whether a request changes a resource that GET returns at the same path: then `If-Match` is supported."""
    return kind.http_method in {"PATCH", "PUT", "DELETE"} and "GET" in by_path()[kind.http_path]


def _wanted_tags(header: str) -> set[str]:
    if not _IF_MATCH.fullmatch(header):
        raise Invalid("`If-Match` contains no version", hint="send the `ETag` that you received, including its quotes")
    return _tags(header)


def _tags(header: str) -> set[str]:
    return {part.strip().removeprefix("W/") for part in header.split(",")}


def _unchanged(twin: Kind, path: Mapping[str, Any], wanted: Collection[str], tx: Tx) -> None:
    """Refuse if a resource is not in the state that the caller knows; runs in the transaction that changes it."""
    request = twin.model_validate(dict(path))
    reply = answer(tx, request)
    workflow_id = getattr(reply, "workflow_id", None) or getattr(reply, "id", None)
    if workflow_id is not None:
        tx.dialect.lock_workflow(tx.db, workflow_id)
        reply = answer(tx, request)
    found = etag(twin.reply().dump_json(reply))
    if "*" not in wanted and found not in wanted:
        raise problems.Changed("it has changed since you read it", hint="get it again, then decide", etag=found)
