"""Notifies clients of changes to resources that they have subscribed to, in both versions of the protocol.

Polls once a second, as long as there are subscribers, what the subscriber may see.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp.server.subscriptions import ResourceUpdated, SubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from mcp_server.context import ToolContext, context, find_workflow
from mcp_server.errors import of_error
from mcp_server.resources import WORKFLOWS, job_number
from torc.api.jobs import GetJob
from torc.api.workflows import GetWorkflow, ListWorkflows, Workflow
from torc.errors import NotFound, TorcError

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_MOST_URIS = 50
Tell = Callable[[str], Awaitable[None]]
Look = Callable[[], Any]


def _look_at(uri: str, here: ToolContext) -> Look | None:
    """Return a function that describes a resource: equal results mean no change. None: it never changes. Raises NotFound."""
    if uri == WORKFLOWS:
        return lambda: [_shape(each) for each in here.torc.send(ListWorkflows(limit=50)).items]
    kind, _, rest = uri.removeprefix("torc://").partition("/")
    named = rest.partition("/")[0]
    if kind == "workflows" and named:
        number = find_workflow(named).id
        return lambda: _shape(here.torc.send(GetWorkflow(workflow_id=number)))
    if kind == "jobs":
        job_id = job_number(named)
        here.torc.send(GetJob(job_id=job_id))
        return lambda: _job_shape(here, job_id)
    if kind in {"schema", "guide", "profiles"}:
        return None
    raise NotFound(f"there is no resource {uri[:200]}", hint="resources/templates/list names them")


def _shape(workflow: Workflow) -> Any:
    return workflow.id, workflow.state, workflow.version, workflow.run_id, workflow.counts


def _job_shape(here: ToolContext, job_id: int) -> Any:
    job = here.torc.send(GetJob(job_id=job_id))
    return job.state, job.attempt, job.return_code


class WatchedResources:
    """Subscribed resources with their last known states."""

    def __init__(self, looks: dict[str, Look], seen: dict[str, Any]) -> None:
        self._looks, self._seen = looks, seen

    async def tell_changes(self, tell: Tell) -> None:
        """Report changes of resources, until canceled or the client is gone."""
        try:
            while self._seen:
                await anyio.sleep(_LOOK_SECONDS)
                for uri in list(self._seen):
                    await self._look(uri, tell)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            _LOG.info("%s: no longer watched: the client is gone", ", ".join(self._seen))

    async def _look(self, uri: str, tell: Tell) -> None:
        try:
            found = await anyio.to_thread.run_sync(self._looks[uri])
        except TorcError as error:  # it is gone, or the store is unreachable: the next poll will tell
            _LOG.info("cannot look at %s: %s", uri, error.message)
            return
        if found != self._seen[uri]:
            self._seen[uri] = found
            await tell(uri)


async def begin_to_watch(here: ToolContext, uris: Iterable[str]) -> WatchedResources:
    """Record the current state of resources. Raises MCPError if one does not exist."""
    looks: dict[str, Look] = {}
    seen: dict[str, Any] = {}
    for uri in list(uris)[:_MOST_URIS]:
        try:
            look = await anyio.to_thread.run_sync(_look_at, uri, here)
            if look is not None:
                seen[uri] = await anyio.to_thread.run_sync(look)
                looks[uri] = look
        except TorcError as error:
            raise MCPError(INVALID_PARAMS, of_error(error)) from None
    return WatchedResources(looks, seen)


@asynccontextmanager
async def while_listening(bus: SubscriptionBus, params: Any) -> AsyncIterator[None]:
    """Watch what a `subscriptions/listen` requests, as long as it lasts."""
    wanted = ((params or {}).get("notifications") or {}).get("resourceSubscriptions") or []

    async def tell(uri: str) -> None:
        await bus.publish(ResourceUpdated(uri=uri))

    watched = await begin_to_watch(context(), [str(uri) for uri in wanted]) if wanted else WatchedResources({}, {})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched.tell_changes, tell)
        yield
        tasks.cancel_scope.cancel()


class OlderSubscriptions:
    """`resources/subscribe` and `resources/unsubscribe` for clients of protocol versions before 2026."""

    def __init__(self) -> None:
        self._watched: dict[tuple[int, str], anyio.CancelScope] = {}

    async def subscribe(self, ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
        """Start to watch a resource for a session."""
        tasks: TaskGroup = ctx.lifespan_context
        watched = await begin_to_watch(context(), [str(params.uri)])
        tasks.start_soon(self._watch, ctx.session, str(params.uri), watched)
        return EmptyResult()

    async def unsubscribe(self, ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
        """Stop watching a resource."""
        scope = self._watched.pop((id(ctx.session), str(params.uri)), None)
        if scope is not None:
            scope.cancel()
        return EmptyResult()

    async def _watch(self, session: Any, uri: str, watched: WatchedResources) -> None:
        with anyio.CancelScope() as scope:
            self._watched[id(session), uri] = scope
            await watched.tell_changes(session.send_resource_updated)
