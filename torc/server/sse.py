"""Events of a workflow as server-sent events, which clients resume with `Last-Event-ID` (HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from torc.api.base import Page
from torc.api.events import Event, ListEvents
from torc.api.workflows import GetWorkflow
from torc.errors import Invalid, TorcError
from torc.server import problems
from torc.server.caller import Authenticator
from torc.server.executor import RequestExecutor
from torc.units import whole_number
from torc.workflow.access import Caller

_KEEP_ALIVE_SECONDS = 15.0
_AT_ONCE = 500
#: how long it holds that somebody may listen: nothing is sent to whom it was not asked about since then
_LOOK_SECONDS = 1.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStreams:
    """Follows workflows for many listeners: those at the same position share one query."""

    def __init__(self, answers: RequestExecutor, identity: Authenticator) -> None:
        self._answers, self._identity = answers, identity
        self._asked: dict[tuple[int, int, int], asyncio.Task[bytes]] = {}
        self._looked: dict[tuple[int, Caller], tuple[float, asyncio.Task[object]]] = {}
        self.num_listeners = 0

    async def endpoint(self, http: HttpRequest) -> Response:
        """Answer `GET /workflows/{workflow_id}/events/stream`."""
        try:
            http.scope["torc.kind"] = "StreamEvents"
            caller = await self._identity.identify(http)
            http.scope["torc.actor"] = caller.actor
            workflow_id, after = int(http.path_params["workflow_id"]), _after(http)
            await self._answers.answer(GetWorkflow(workflow_id=workflow_id), caller)
            if after is None:
                newest = ListEvents(workflow_id=workflow_id, newest_first=True, limit=1)
                page, _ = await self._answers.answer(newest, caller)
                after = page.items[0].id if page.items else 0
        except TorcError as error:
            return problems.response(error)
        return StreamingResponse(self._follow(workflow_id, after, caller), 200, _HEADERS, "text/event-stream")

    async def _follow(self, workflow_id: int, after: int, caller: Caller) -> AsyncIterator[bytes]:
        waiting = self._answers.waiting
        self.num_listeners += 1
        try:
            yield b"retry: 1000\n\n"
            while True:
                seen = waiting.generation(workflow_id, in_line=False)
                block = await self._block(workflow_id, after, seen)
                if block:
                    after = _last_id(block)
                    await self._require_access(workflow_id, caller)
                    yield block
                elif not await waiting.wait(workflow_id, seen, _KEEP_ALIVE_SECONDS, in_line=False):
                    if waiting.is_closed:
                        return
                    await self._require_access(workflow_id, caller)
                    yield b": still here\n\n"
        except TorcError:
            return  # the workflow was deleted, or the database is unreachable: the listener reconnects and is told
        finally:
            self.num_listeners -= 1
            self._looked.pop((workflow_id, caller), None)

    async def _require_access(self, workflow_id: int, caller: Caller) -> None:
        """Raise TorcError for whose token was revoked or has expired, or to whom the workflow is shown no more."""
        if caller.is_owner:
            return
        key, now = (workflow_id, caller), asyncio.get_running_loop().time()
        at, task = self._looked.get(key, (0.0, None))
        if task is None or at < now - _LOOK_SECONDS:
            task = asyncio.create_task(self._look(workflow_id, caller))
            self._looked[key] = now, task
        await asyncio.shield(task)

    async def _look(self, workflow_id: int, caller: Caller) -> object:
        return await self._answers.answer(GetWorkflow(workflow_id=workflow_id), caller)

    async def _block(self, workflow_id: int, after: int, seen: int) -> bytes:
        """Return the events after a given one, encoded; queried once for all listeners at the same position."""
        key = (workflow_id, after, seen)
        task = self._asked.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(workflow_id, after))
            self._asked[key] = task
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, workflow_id: int, after: int) -> bytes:
        request = ListEvents(workflow_id=workflow_id, after=after, limit=_AT_ONCE)
        page: Page[Event] = (await self._answers.answer(request, None))[0]
        return await self._answers.read(partial(_written, page.items))


def _after(http: HttpRequest) -> int | None:
    """Return the event after which to continue; None: only new events."""
    text = http.headers.get("last-event-id") or http.query_params.get("after")
    if text is None:
        return None
    if whole_number(text) is None:
        raise Invalid(f"`{text[:40]}` is not an event id", hint="send the id of the last event that you have")
    return int(text)


def _written(events: list[Event]) -> bytes:
    return b"".join(
        f"id: {event.id}\nevent: {event.type}\ndata: {json.dumps(event.model_dump(mode='json'))}\n\n".encode()
        for event in events
    )


def _last_id(block: bytes) -> int:
    at = block.rindex(b"id: ", 0, block.rindex(b"\nevent: ") + 1)
    return int(block[at + 4 : block.index(b"\n", at)])
