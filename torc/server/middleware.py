"""What every request passes first: access log, host check, origin check and body limit."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from torc import __version__
from torc.errors import Forbidden
from torc.server import problems
from torc.server.metrics import Metrics
from torc.units import whole_number
from torc.urls import split_url

_LOG = logging.getLogger("torc.access")
VERSION_HEADER = "Torc-Version"


class AccessLog:
    """Writes a JSON line for each request, counts it, and adds the server's version to replies to known callers."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, sent = time.monotonic(), 500, 0

        async def note(message: Any) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if scope.get("torc.actor") is not None:
                    headers[VERSION_HEADER] = __version__
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            else:
                sent += len(message.get("body", b""))
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, note)
        finally:
            seconds = time.monotonic() - began
            kind = scope.get("torc.kind", "other")
            self.metrics.in_flight.dec()
            self.metrics.requests.labels(kind, str(status)).inc()
            self.metrics.seconds.labels(kind).observe(seconds)
            if _LOG.isEnabledFor(logging.INFO):
                _LOG.info("%s", _line(scope, kind, status, seconds, sent))


def _line(scope: Any, kind: str, status: int, seconds: float, sent: int) -> str:
    """Format a log line: without query, headers and body, which may contain secrets."""
    client = scope.get("client")
    return json.dumps(
        {
            "time": round(time.time(), 3),
            "client": client[0] if client else None,
            "actor": scope.get("torc.actor"),
            "method": scope["method"],
            "path": scope["path"],
            "request": kind,
            "status": status,
            "ms": round(1000 * seconds, 2),
            "bytes": sent,
        }
    )


class Hosts:
    """Rejects requests to host names other than the server's: another site's DNS may have sent a browser here."""

    def __init__(self, app: Any, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and "*" not in self.hosts:
            named = _without_port(Headers(scope=scope).get("host", ""))
            if named not in self.hosts:
                refused = problems.BadHost(
                    f"this server is not called {named[:100]!r}",
                    hint="start it with --allowed-host NAME to accept this name",
                )
                await problems.response(refused)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _without_port(host: str) -> str:
    return host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0].lower()


class SameOrigin:
    """Rejects requests that pages of other sites cause a browser to send, by the browser's Origin header."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            parts = None if origin is None else split_url(origin)
            is_other = origin is not None and (parts is None or parts.netloc != headers.get("host"))
            if is_other or headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
                refused = Forbidden(
                    "pages of other sites may not call this server",
                    hint="call it from a program, or from its own pages",
                )
                await problems.response(refused)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class BodyLimit:
    """Rejects bodies above a size before they are in memory."""

    def __init__(self, app: Any, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = Headers(scope=scope).get("content-length", "0")
        refused = problems.BodyTooLarge(f"the body is larger than {self.most} bytes", hint="send less at once")
        size = whole_number(told)
        if size is None or size > self.most:
            await problems.response(refused)(scope, receive, send)
            return
        received = 0

        async def count() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.most:
                raise refused
            return message

        await self.app(scope, count, send)
