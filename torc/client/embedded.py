"""A Torc that answers from a database within this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy.exc import DataError, DBAPIError

from torc.api.base import Request
from torc.api.events import ListEvents
from torc.api.runs import EndRunner, Exchange
from torc.backoff import backoff
from torc.client.sliced_storage import Kind, SlicedCreation, Step, removal
from torc.errors import Invalid, NotFound, Unavailable
from torc.operations.access import admit, admit_kind, subject_of
from torc.operations.dispatch import DryRun, PreparationBounds, Tx, answer, draft, is_prepared, prepare, removes
from torc.operations.sliced_storage import large_load, room_for
from torc.operations.transaction import Quota, ReservedIds
from torc.store import sliced_storage
from torc.store.engine import Store
from torc.workflow.access import Caller

R = TypeVar("R")
Check = Callable[[Tx], None]

#: how long a request is retried while another process holds the database
PATIENCE_SECONDS = 10.0
_RETRY_SECONDS = 0.02
_LONGEST_RETRY_SECONDS = 0.25
#: how often a waiting request checks for changes: some 10 us each time on SQLite
_POLL_SECONDS = 0.005
_LONGEST_POLL_SECONDS = 0.05
#: pause before the next transaction of many, as a share of the last one's time: processes waiting for SQLite only poll
_GAP = 0.15


class Embedded:
    """Answers each request in one transaction; waiting happens between transactions."""

    def __init__(self, store: Store, actor: str, quota: Quota = Quota()) -> None:
        self.store, self.actor, self.quota = store, actor, quota
        self.notes = store.notes

    def send(self, request: Request[R], /) -> R:
        """Answer a request. Raises TorcError or a subclass."""
        if isinstance(request, Exchange | ListEvents) and request.wait_seconds > 0:
            waited: R = self._wait(request)
            return waited
        reply = self.answer(request)
        if removes(type(request)):
            self._remove_left_over()
        if isinstance(request, EndRunner):  # what it has stored should be visible to others too
            self.store.look_inside()
        return reply

    def close(self) -> None:
        """Close connections."""
        self.store.close()

    def answer(
        self,
        request: Request[R],
        *,
        caller: Caller | None = None,
        check: Check | None = None,
        prepared: Any = None,
        ticket: ReservedIds | None = None,
    ) -> R:
        """Answer a request at once, if the caller (if any) may send it.

        `check` may refuse it within the transaction; `prepared` is the result of `prepare` if already called; `ticket` identifies a
        workflow whose rows are already stored.
        """
        # prepare every request: its implementation is imported here, and not while others wait for the database
        if is_prepared(type(request)) and prepared is None:
            prepared = self.prepare(request, caller)
        if ticket is None and (storing := self.storing(request, caller, prepared)) is not None:
            return self._store(storing)  # type: ignore[no-any-return]

        def work(tx: Tx) -> R:
            if check is not None:
                check(tx)
            if ticket is None:
                return answer(tx, request)
            sliced_storage.renew(tx.db, ticket.workflow_id, tx.now)
            reply = answer(replace(tx, ticket=ticket), request)
            sliced_storage.end(tx.db, ticket.workflow_id)
            return reply

        with _made_clear(request):
            try:
                return self.transact(
                    work, caller, writes=request.writes, prepared=prepared, loads=removes(type(request))
                )
            except DryRun as dry:  # rolled back
                reply: R = dry.reply
                return reply

    def storing(self, request: Request[Any], caller: Caller | None, prepared: Any) -> SlicedCreation | None:
        """Return the transactions for a request that stores too much for one; None if it does not."""
        load = large_load(request, prepared)
        if load is None:
            return None

        def transact(work: Callable[[Tx], Any], kind: Kind, /) -> Any:
            def admitted(tx: Tx) -> Any:
                return work(admit(tx, request) if caller is not None and kind == "write" else tx)

            return self.transact(admitted, caller, writes=kind != "read", loads=kind == "load")

        def finish(ticket: ReservedIds) -> Any:
            return self.answer(request, caller=caller, prepared=prepared, ticket=ticket)

        return SlicedCreation(load, transact, finish, is_sliced=self.store.dialect.is_sliced)

    def left_over(self) -> list[int]:
        """Return workflows that were left partly stored and that nothing is storing now."""
        return self.transact(lambda tx: sliced_storage.left_over(tx.db, tx.now), None, writes=False)

    def removal(self, workflow_id: int) -> Iterator[Step]:
        """Yield the transactions that remove the rest of a workflow."""

        def transact(work: Callable[[Tx], Any], kind: Kind, /) -> Any:
            return self.transact(work, None, writes=kind != "read", loads=kind == "load")

        return removal(workflow_id, transact)

    def _store(self, storing: SlicedCreation) -> Any:
        self._remove_left_over()
        try:
            _run(storing.steps())
        except BaseException:
            _run(storing.removal())
            raise
        if storing.is_dry:
            _run(storing.removal())
        return storing.reply

    def _remove_left_over(self) -> None:
        for workflow_id in self.left_over():
            _run(self.removal(workflow_id))

    def transact(
        self,
        work: Callable[[Tx], R],
        caller: Caller | None,
        *,
        writes: bool,
        prepared: Any = None,
        loads: bool = False,
    ) -> R:
        """Run `work` in one transaction, retrying while others are in the way. Raises Unavailable, and what `work` raises."""
        dialect, engine = self.store.dialect, self.store.engine
        if writes or loads:
            self.store.refuse_to_write()
        begin = dialect.begin_load if loads else dialect.begin_write if writes else dialect.begin_read
        actor = self.actor if caller is None else caller.actor
        end = time.monotonic() + PATIENCE_SECONDS
        pauses = backoff(_RETRY_SECONDS, _LONGEST_RETRY_SECONDS)
        while True:
            try:
                with begin(engine) as db:
                    return work(Tx(db, dialect, time.time(), actor, prepared, caller, quota=self.quota))
            except DBAPIError as error:
                if not dialect.is_transient(error):
                    raise
                pause = next(pauses)
                if time.monotonic() + pause > end:
                    raise Unavailable(
                        f"the database cannot be used now: {str(error.orig).strip().splitlines()[0]}",
                        hint="nothing was changed; it may be locked by another process or read-only, or its disk may be full",
                    ) from None
                time.sleep(pause)

    def admit(self, kind: type[Request[Any]], path: Mapping[str, Any], caller: Caller) -> None:
        """Refuse a request that the caller may not send, judging by its kind and path. Raises TorcError or a subclass."""
        if not caller.is_owner:
            subject = subject_of(kind)
            number = None if subject is None else path[subject.field]
            self.transact(lambda tx: admit_kind(tx, kind, number), caller, writes=False)

    def prepare(self, request: Request[Any], caller: Caller | None, first: int | None = None) -> Any:
        """Do the work of a request that precedes its transaction, if the caller may send it.

        Raises TorcError or a subclass, and TooHeavy if it creates more jobs (or the like) than `first`.
        """
        if caller is None or caller.is_owner:
            left = None
        else:  # a spec takes seconds, which not everybody may cause

            def look(tx: Tx) -> int | None:
                return room_for(admit(tx, request), request)

            left = self.transact(look, caller, writes=False)
        if first is not None and (left is None or first < left):
            return prepare(request, PreparationBounds(first, is_first=True))
        prepared = prepare(request, PreparationBounds(left))

        def transact(work: Callable[[Tx], Any], *, writes: bool) -> Any:
            def admitted(tx: Tx) -> Any:
                return work(tx if caller is None else admit(tx, request))

            with _made_clear(request):
                try:
                    return self.transact(admitted, caller, writes=writes)
                except DryRun as dry:  # rolled back
                    return dry.reply

        return draft(request, prepared, transact)

    def _ask(self, request: Request[Any]) -> Any:
        return self.answer(request)

    def _wait(self, request: Exchange | ListEvents) -> Any:
        """Repeat a request after each change until its reply is worth sending or the time is over.

        Only the first attempt of an Exchange reports; the last one also notices what happened by time alone (expired leases).
        """
        end = time.monotonic() + request.wait_seconds
        pause = _POLL_SECONDS
        try:
            with self.store.dialect.watch(self.store.engine, request.workflow_id) as version:
                seen = version()
                reply = self._ask(request)
                request = without_reports(request)
                while not is_worth_sending(reply) and time.monotonic() < end:
                    time.sleep(min(pause, max(0.0, end - time.monotonic())))
                    pause = min(pause * 1.3, _LONGEST_POLL_SECONDS)
                    now = version()
                    if now != seen or time.monotonic() >= end:
                        seen, pause = now, _POLL_SECONDS
                        reply = self._ask(request)
        except DBAPIError:  # the database cannot be watched now; whether it can be queried shows next
            reply = self._ask(request)
        return reply


@contextlib.contextmanager
def _made_clear(request: Request[Any]) -> Iterator[None]:
    """Say what a database cannot hold."""
    try:
        yield
    except DataError as error:  # PostgreSQL has no text with NUL in it
        raise Invalid(
            f"the database cannot store this {type(request).__name__}: {str(error.orig).splitlines()[0]}",
            hint="remove characters that are not text",
        ) from None
    except OverflowError:  # SQLite has no integers of more than 64 bits, and only ids have no bound of their own
        raise NotFound(f"an id in this {type(request).__name__} is larger than any id", hint="check the id") from None


def _run(steps: Iterable[Step]) -> None:
    """Run transactions one after another, letting other processes in between."""
    for step in steps:
        begun = time.monotonic()
        step()
        time.sleep(_GAP * (time.monotonic() - begun))


def without_reports(request: Exchange | ListEvents) -> Exchange | ListEvents:
    """Return the request to repeat, without the reports that were already applied."""
    if isinstance(request, ListEvents):
        return request
    # what the runner held then may be out of date: it may exchange again meanwhile and receive work
    reported: dict[str, Any] = {
        "asked_again": True,
        "started": [],
        "finished": [],
        "released": [],
        "actions_finished": [],
    }
    return request.model_copy(update={**reported, "held": None, "held_actions": []})


def is_worth_sending(reply: object) -> bool:
    """Return whether a reply is worth sending before the waiting time is over."""
    return any(
        bool(getattr(reply, name, None)) for name in ("assignments", "cancel", "actions", "done", "stuck", "items")
    )
