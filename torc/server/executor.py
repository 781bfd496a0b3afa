"""Turns requests into replies without blocking the event loop: reads run on several threads, writes on one if the database allows one.

Waiting requests (`Exchange`, `ListEvents`) wait in `waiters`, between transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from torc.api.base import Request
from torc.api.data import SetUserData
from torc.api.events import ListEvents
from torc.api.jobs import CreateJob
from torc.api.runs import EndRunner, Exchange, RegisterRunner, StartRun
from torc.api.transfer import ImportWorkflow
from torc.api.workflows import CreateWorkflow, RecordFiles, ReinitializeWorkflow
from torc.client.embedded import Check, Embedded, is_worth_sending, without_reports
from torc.client.sliced_storage import SlicedCreation, Step
from torc.errors import Unavailable
from torc.operations.dispatch import TooHeavy, is_prepared, removes
from torc.operations.runs import renew_leases
from torc.operations.transaction import Quota
from torc.server.concurrency import AccountLimits, Admission, ConcurrencyLimits
from torc.server.waiters import Waiters
from torc.store.change_feed import ChangeFeed, ChangeScope
from torc.store.engine import Store
from torc.store.sliced_storage import SLICE
from torc.workflow.access import Caller

T = TypeVar("T")
Gone = Callable[[], Awaitable[bool]]
_LOG = logging.getLogger(__name__)
_READERS = 4
#: threads for parsing large bodies and compiling specs
_WORKERS = 4
#: number of jobs, files or parameter values up to which a workflow is created at once
_LIGHT = SLICE
_CLEAN_SECONDS = 60.0
#: requests that may need much memory while they are answered
MAKES_WORKFLOWS = frozenset({CreateWorkflow, ImportWorkflow, ReinitializeWorkflow})
_WRITERS = {"sqlite": 1, "postgresql": 1}
#: how often to check for commits by other processes
_LOOK_SECONDS = {"sqlite": 0.05, "postgresql": 0.1}


async def never() -> bool:
    """Report that the caller is still there."""
    return False


class RequestExecutor:
    """Answers requests from a store, for many callers at once."""

    def __init__(self, store: Store, account_limits: AccountLimits = AccountLimits()) -> None:
        self.store = store
        self.waiting = Waiters()
        self._embedded = Embedded(store, "server", Quota(account_limits.max_jobs))
        self.limits = ConcurrencyLimits(account_limits.max_creations)
        self._readers = ThreadPoolExecutor(_READERS, "torc-read")
        self._workers = ThreadPoolExecutor(_WORKERS, "torc-work")
        self._writers = ThreadPoolExecutor(_WRITERS[store.dialect.name], "torc-write")
        self._tasks: list[asyncio.Task[None]] = []
        self._left_over = asyncio.Event()

    def begin(self) -> None:
        """Start watching for changes by other processes; call it in the event loop."""
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._clean())]

    async def resume(self) -> None:
        """Extend the leases of runners that were silent only because no server was running."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writers, partial(self._embedded.transact, renew_leases, None, writes=True))
        except Unavailable as error:  # those who send requests will see the error too
            _LOG.warning("%s", error.message)

    async def end(self) -> None:
        """Release everything."""
        self.waiting.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in (self._readers, self._workers, self._writers):
            await asyncio.to_thread(pool.shutdown)

    async def answer(
        self,
        request: Request[Any],
        caller: Caller | None,
        check: Check | None = None,
        is_gone: Gone = never,
        admission: Admission | None = None,
    ) -> tuple[Any, bytes]:
        """Answer a request; return the reply and its JSON. Raises TorcError.

        `is_gone` tells whether the caller can no longer receive the work assigned to a waiting runner.
        """
        if isinstance(request, Exchange | ListEvents) and request.wait_seconds > 0:
            return await self._wait(request, caller, check, is_gone)
        return await self._answer(request, caller, check, admission)

    async def admit(self, kind: type[Request[Any]], path: Mapping[str, Any], caller: Caller) -> None:
        """Refuse a request that the caller may not send, judging by its kind and path. Raises TorcError or a subclass."""
        await self.read(partial(self._embedded.admit, kind, path, caller))

    async def work(self, job: Callable[[], T]) -> T:
        """Run something slow that needs no database on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, job)

    async def read(self, question: Callable[[], T]) -> T:
        """Run something that reads from the database on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, question)

    async def _answer(
        self, request: Request[Any], caller: Caller | None, check: Check | None, admission: Admission | None = None
    ) -> tuple[Any, bytes]:
        is_read = not request.writes
        loop = asyncio.get_running_loop()
        prepared = None
        if type(request) in MAKES_WORKFLOWS and admission is not None:
            prepared = await self._compile(request, caller, admission)
            if (storing := self._embedded.storing(request, caller, prepared)) is not None:
                await admission.become_heavy()
                reply = await self._store(storing)
                self._tell(request, reply)
                return reply, await self.work(partial(type(request).reply().dump_json, reply))
        elif is_prepared(type(request)):  # slow: no writer should wait for it
            prepared = await self.read(partial(self._embedded.prepare, request, caller))
        is_removing = removes(type(request))
        pool = self._readers if is_read else self._writers
        if is_removing and not self.store.dialect.is_sliced:
            pool = self._workers
        work = partial(self._work, request, caller, check, prepared)
        reply, body = await loop.run_in_executor(pool, work)
        if not is_read:
            self._tell(request, reply)
        if is_removing:
            self._left_over.set()
        return reply, body

    async def _compile(self, request: Request[Any], caller: Caller | None, admission: Admission) -> Any:
        """Prepare a workflow. Large ones wait their turn, because they take seconds and much memory."""
        if not admission.is_heavy:
            try:
                return await self.work(partial(self._embedded.prepare, request, caller, _LIGHT))
            except TooHeavy:
                await admission.become_heavy()
        return await self.work(partial(self._embedded.prepare, request, caller))

    async def _store(self, storing: SlicedCreation) -> Any:
        """Store a workflow in many transactions, each queued with those of others."""
        try:
            await self._run(storing.steps())
        except BaseException:
            await self._run(storing.removal())
            raise
        if storing.is_dry:
            await self._run(storing.removal())
        return storing.reply

    async def _run(self, steps: Iterator[Step]) -> None:
        pool = self._writers if self.store.dialect.is_sliced else self._workers
        while (step := await self.work(partial(next, steps, None))) is not None:
            await asyncio.get_running_loop().run_in_executor(pool, step)

    async def _clean(self) -> None:
        """Remove, now and at intervals, the rest of workflows that were deleted or whose creation was abandoned."""
        while True:
            self._left_over.clear()
            try:
                for workflow_id in await self.read(self._embedded.left_over):
                    await self._run(self._embedded.removal(workflow_id))
            except (DBAPIError, Unavailable) as error:
                _LOG.info("cannot remove the rest of deleted or incomplete workflows: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLEAN_SECONDS):
                    await self._left_over.wait()

    def _work(
        self, request: Request[Any], caller: Caller | None, check: Check | None, prepared: Any
    ) -> tuple[Any, bytes]:
        reply = self._embedded.answer(request, caller=caller, check=check, prepared=prepared)
        return reply, type(request).reply().dump_json(reply)

    def _tell(self, request: Request[Any], reply: Any) -> None:
        """Wake waiting requests that the change may concern."""
        workflow_id = getattr(request, "workflow_id", None) or getattr(reply, "workflow_id", None)
        if workflow_id is None:
            self.waiting.changed_somewhere()
        else:
            self.waiting.changed(workflow_id, _reach(request, reply))

    async def _wait(
        self, request: Exchange | ListEvents, caller: Caller | None, check: Check | None, is_gone: Gone
    ) -> tuple[Any, bytes]:
        """Repeat a request after each change until its reply is worth sending or the time is over."""
        loop, workflow_id = asyncio.get_running_loop(), request.workflow_id
        end = loop.time() + request.wait_seconds
        in_line = isinstance(request, Exchange)
        while True:
            seen = self.waiting.generation(workflow_id, in_line=in_line)
            reply, body = await self._answer(request, caller, check)
            request = without_reports(request)
            if in_line and reply.waiting:
                if not reply.assignments:
                    self.waiting.barren(workflow_id)
                self.waiting.wake_next(workflow_id)
            if is_worth_sending(reply):
                return reply, body
            if not await self.waiting.wait(workflow_id, seen, end - loop.time(), in_line=in_line):
                return reply, body
            if await is_gone():  # nobody would receive the assigned work
                self.waiting.wake_next(workflow_id)
                return reply, body

    async def _watch(self) -> None:
        """Watch for commits by other processes while any request is waiting."""
        feed = ChangeFeed(self.store)
        seconds = _LOOK_SECONDS[self.store.dialect.name]
        try:
            while True:
                await asyncio.sleep(seconds)
                watched = self.waiting.watched
                if not watched:
                    continue
                try:
                    found = await self.read(partial(feed.changes, watched))
                except (DBAPIError, Unavailable) as error:  # the database is unreachable, which callers are told
                    _LOG.info("cannot look for changes: %s", error)
                    self.waiting.changed_somewhere()
                    continue
                for workflow_id, reach in found.items():
                    self.waiting.changed(workflow_id, reach)
        finally:
            feed.close()


def _reach(request: Request[Any], reply: Any) -> ChangeScope:
    """Return which runners a change may concern."""
    if isinstance(request, RegisterRunner | SetUserData | RecordFiles):
        return ChangeScope.NOBODY
    if isinstance(request, EndRunner | StartRun | CreateJob):
        return ChangeScope.FIRST
    if not isinstance(request, Exchange) or reply.done:
        return ChangeScope.ALL
    ended = request.finished or request.released or request.actions_finished or request.stopping
    return ChangeScope.FIRST if ended and reply.waiting else ChangeScope.NOBODY
