"""The MCP server inside `torc server`, as streamable HTTP: every client sends a token and has its rights.

Expensive modules are imported with the first call. Only the owner of the server's process can run anything on its machine or read
files there.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest

from mcp_server.context import AssistantPolicy, ToolContext
from torc.api.base import Request
from torc.errors import NotFound, TorcError
from torc.server import problems
from torc.server.caller import Authenticator
from torc.server.executor import RequestExecutor
from torc.workflow.access import Caller

PATH = "/mcp"
R = TypeVar("R")
_SESSION = b"mcp-session-id"
_MOST_SESSIONS = 10_000


@dataclass(frozen=True, slots=True)
class InProcessTorc:
    """A Torc that sends requests to the surrounding server on behalf of a caller. For threads, not for the event loop."""

    answers: RequestExecutor
    caller: Caller
    loop: asyncio.AbstractEventLoop

    def send(self, request: Request[R], /) -> R:
        """Answer a request. Raises TorcError or a subclass."""
        asked = asyncio.run_coroutine_threadsafe(self.answers.answer(request, self.caller), self.loop)
        reply: R = asked.result()[0]
        return reply

    def close(self) -> None:
        """Do nothing: the server keeps running."""


class HttpMount:
    """The application at /mcp. It identifies callers, and lets nobody into another caller's session.

    `place`: the environment variables with which processes started on this machine find this server, and the file with its token.
    """

    def __init__(
        self,
        identity: Authenticator,
        policy: AssistantPolicy,
        directory: Path,
        output_dir: Path,
        place: Mapping[str, str],
    ) -> None:
        self._identity, self._policy = identity, policy
        self._directory, self._output_dir, self._place = directory, output_dir, place
        self._application: Any = None
        self._beginning = asyncio.Lock()
        self._ending = asyncio.Event()
        self._living: asyncio.Task[None] | None = None
        self._owners: dict[bytes, tuple[Any, ...]] = {}

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Run for the lifetime of the server."""
        yield
        self._ending.set()
        if self._living is not None:
            await self._living

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = HttpRequest(scope)
        scope["torc.kind"] = "mcp"
        try:
            caller = await self._identity.identify(request)
            scope["torc.actor"] = caller.actor
            self._check_session(request, caller)
        except TorcError as error:
            await problems.response(error)(scope, receive, send)
            return
        scope["torc.caller"], scope["torc.answers"] = caller, scope["app"].state.answers
        scope["torc.loop"] = asyncio.get_running_loop()
        await self._begin()
        calling = _Call(self._identity, request, receive, send)
        await self._application(scope, calling.receive, partial(self._note_session, caller, calling.send))

    def _check_session(self, request: HttpRequest, caller: Caller) -> None:
        shown = request.headers.get(_SESSION.decode())
        if shown is not None and self._owners.get(shown.encode()) not in {None, _who(caller)}:
            raise NotFound("there is no such session", hint="start a new one")

    async def _note_session(self, caller: Caller, send: Any, message: Any) -> None:
        if message["type"] == "http.response.start":
            for name, value in message.get("headers", ()):
                if name.lower() == _SESSION:
                    self._owners.setdefault(value, _who(caller))
                    if len(self._owners) > _MOST_SESSIONS:
                        self._owners.pop(next(iter(self._owners)))
        await send(message)

    async def _begin(self) -> None:
        async with self._beginning:
            if self._application is None:
                made = await asyncio.to_thread(self._make)
                ready = asyncio.Event()
                self._living = asyncio.create_task(self._keep(made, ready))
                await ready.wait()
                self._application = made

    def _make(self) -> Any:
        server: Any = importlib.import_module("mcp_server.server")
        security: Any = importlib.import_module("mcp.server.transport_security")
        # host names were already checked
        settings = security.TransportSecuritySettings(enable_dns_rebinding_protection=False)
        return server.TorcMcpServer(self._make_context).streamable_http_app(
            streamable_http_path=PATH, transport_security=settings
        )

    async def _keep(self, application: Any, ready: asyncio.Event) -> None:
        """Hold the sessions, in a single task from start to end."""
        async with application.router.lifespan_context(application):
            ready.set()
            await self._ending.wait()

    def _make_context(self, client: str, request: Any) -> ToolContext:
        scope = request.scope
        caller: Caller = scope["torc.caller"]
        if caller.is_owner:
            caller = replace(caller, actor=f"assistant:{client}")
        torc = InProcessTorc(scope["torc.answers"], caller, scope["torc.loop"])
        return ToolContext(
            torc,
            self._policy,
            client,
            user=_owner(scope["torc.caller"]),
            is_here=caller.is_owner,
            output_dir=self._output_dir,
            directory=self._directory,
            place=self._place,
        )


class _Call:
    """A call whose caller is checked again before the end of its body; a different caller is rejected."""

    def __init__(self, identity: Authenticator, request: HttpRequest, receive: Any, send: Any) -> None:
        self._identity, self._request = identity, request
        self._receive, self._send = receive, send
        self._is_refused = False

    async def receive(self) -> Any:
        """Pass on the body; if the caller is rejected, tell the application that the client has disconnected."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            try:
                self._identity.confirm(self._request)
            except TorcError as error:
                self._is_refused = True
                await problems.response(error)(self._request.scope, self._receive, self._send)
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Any) -> None:
        """Pass on the response, unless the caller was already answered."""
        if not self._is_refused:
            await self._send(message)


def _who(caller: Caller) -> tuple[Any, ...]:
    return caller.account_id, caller.token_id, None if caller.account_id else caller.actor


def _owner(caller: Caller) -> str | None:
    """Return the owner for what the server's owner creates; accounts are known to the store."""
    return caller.actor.partition(":")[2] or None if caller.is_owner else None
