"""The ASGI application: routes, health, metrics and middleware. Sockets are handled by `serve`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from torc.api.users import GetMe
from torc.errors import NotFound, TorcError, Unavailable
from torc.server import openapi, problems
from torc.server.caller import Authenticator
from torc.server.concurrency import AccountLimits
from torc.server.executor import RequestExecutor
from torc.server.metrics import MEDIA_TYPE, Metrics
from torc.server.middleware import AccessLog, BodyLimit, Hosts, SameOrigin
from torc.server.routes import PREFIX, routes
from torc.server.sse import EventStreams
from torc.store import workflows
from torc.store.engine import Store

_LOG = logging.getLogger(__name__)
_GZIP_FROM_BYTES = 1024
_MEASURE_SECONDS = 1.0


class MountedApp(Protocol):
    """Another ASGI application, mounted next to this one with the same lifetime."""

    def live(self) -> AbstractAsyncContextManager[None]:
        """Run for the lifetime of the server."""
        ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


def app(
    store: Store,
    identity: Authenticator,
    *,
    hosts: Collection[str] = ("127.0.0.1", "localhost", "[::1]"),
    largest_body: int = 64 << 20,
    account_limits: AccountLimits = AccountLimits(),
    mounts: Mapping[str, MountedApp] | None = None,
) -> Starlette:
    """Create the application for a store.

    `hosts`: accepted host names; `largest_body`: in bytes; `mounts`: path -> another application.
    """
    answers, metrics = RequestExecutor(store, account_limits), Metrics()
    streams = EventStreams(answers, identity)
    own = _Own(store, identity, answers, streams, metrics, tuple((mounts or {}).values()))
    made = Starlette(
        routes=[
            Route("/healthz", own.health),
            Route("/readyz", own.ready),
            Route("/metrics", own.tell_metrics),
            Route(f"{PREFIX}/openapi.json", own.describe),
            Route(f"{PREFIX}/workflows/{{workflow_id:id}}/events/stream", streams.endpoint),
            *routes(answers, identity),
            *(Route(path, other) for path, other in (mounts or {}).items()),
        ],
        middleware=[
            Middleware(AccessLog, metrics=metrics),
            Middleware(Hosts, hosts=frozenset(hosts)),
            Middleware(SameOrigin),
            Middleware(BodyLimit, most=largest_body),
            Middleware(GZipMiddleware, minimum_size=_GZIP_FROM_BYTES, compresslevel=5),
        ],
        exception_handlers={
            TorcError: problems.on_error,
            404: own.no_such_path,
            405: own.wrong_method,
            Exception: _broken,
        },
        lifespan=own.live,
    )
    made.state.answers = answers
    return made


@dataclass(frozen=True, slots=True)
class _Own:
    """Endpoints about the server itself, and its background tasks."""

    store: Store
    identity: Authenticator
    answers: RequestExecutor
    streams: EventStreams
    metrics: Metrics
    mounted: tuple[MountedApp, ...] = ()

    @asynccontextmanager
    async def live(self, _app: Starlette) -> AsyncIterator[None]:
        """Run for the lifetime of the application."""
        await self.answers.resume()
        self.answers.begin()
        measuring = asyncio.create_task(self._measure())
        async with AsyncExitStack() as others:
            for other in self.mounted:
                await others.enter_async_context(other.live())
            yield
        measuring.cancel()
        await self.answers.end()

    async def _measure(self) -> None:
        while True:  # another process may answer the request for metrics
            self._look_around()
            await asyncio.sleep(_MEASURE_SECONDS)

    def _look_around(self) -> None:
        self.metrics.waiting.set(self.answers.waiting.num_waiting)
        self.metrics.listeners.set(self.streams.num_listeners)

    async def health(self, _request: HttpRequest) -> Response:
        """Report to anybody that the process is alive, and nothing else."""
        return JSONResponse({"status": "alive"})

    async def ready(self, _request: HttpRequest) -> Response:
        """Report to anybody whether the database can be reached, and nothing else."""
        try:
            await self.answers.read(partial(_look, self.store))
        except DBAPIError:
            return JSONResponse({"status": "the database does not answer"}, 503)
        except Unavailable as error:
            return JSONResponse({"status": error.message, "hint": error.hint}, 503)
        return JSONResponse({"status": "ready"})

    async def tell_metrics(self, request: HttpRequest) -> Response:
        """Return the metrics."""
        await self._require_caller(request)
        self._look_around()
        return Response(self.metrics.text(), media_type=MEDIA_TYPE)

    async def describe(self, request: HttpRequest) -> Response:
        """Return the OpenAPI document."""
        await self._require_caller(request)
        return Response(openapi.text(), media_type="application/json")

    async def no_such_path(self, request: HttpRequest, _error: Exception) -> Response:
        """Answer 404 to callers who may know which paths exist."""
        try:
            await self._require_caller(request)
        except TorcError as error:
            return problems.response(error)
        return problems.response(
            NotFound(f"there is nothing at {request.url.path}", hint=f"{PREFIX}/openapi.json describes all paths")
        )

    async def wrong_method(self, request: HttpRequest, error: Exception) -> Response:
        """Answer 405 to callers who may know which paths exist."""
        try:
            await self._require_caller(request)
        except TorcError as refused:
            return problems.response(refused)
        headers = getattr(error, "headers", None) or {}
        return problems.response(
            problems.WrongMethod(f"{request.method} is not supported at {request.url.path}"), headers
        )

    async def _require_caller(self, request: HttpRequest) -> None:
        """Reject unknown callers and invalid tokens. Raises Unauthorized, Forbidden or TooMany."""
        caller = await self.identity.identify(request)
        await self.answers.answer(GetMe(), caller)
        request.scope["torc.actor"] = caller.actor


def _look(store: Store) -> None:
    with store.dialect.begin_read(store.engine) as db:
        workflows.check_readable(db)


async def _broken(request: HttpRequest, error: Exception) -> Response:
    """Report an internal error without details, which are in the server's log."""
    _LOG.error("%s %s broke", request.method, request.url.path, exc_info=error)
    body = problems.problem(TorcError("something broke inside the server", hint="its log has the details"))
    return Response(json.dumps(body), 500, media_type=problems.MEDIA_TYPE)
