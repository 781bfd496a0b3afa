"""The transactions that store a large workflow, and those that remove one that was stored only partly.

The caller decides when to run them: a server runs other requests in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, Protocol

from sqlalchemy.exc import IntegrityError

from torc.operations.sliced_storage import WorkflowLoad, begin, contradiction
from torc.operations.transaction import ReservedIds, Tx
from torc.store import sliced_storage
from torc.store.sliced_storage import Batch, sliced

Step = Callable[[], Any]
Kind = Literal["read", "write", "load"]


class RunTransaction(Protocol):
    def __call__(self, work: Callable[[Tx], Any], kind: Kind, /) -> Any:
        """`load`: for rows whose references are not checked."""
        ...


class SlicedCreation:
    """A workflow being stored. `finish` is called with the ticket and answers the request in the last transaction."""

    def __init__(
        self, load: WorkflowLoad, transact: RunTransaction, finish: Callable[[ReservedIds], Any], *, is_sliced: bool
    ) -> None:
        self._load, self._transact, self._finish, self._is_sliced = load, transact, finish, is_sliced
        self._ticket: ReservedIds | None = None
        self.reply: Any = None
        #: nothing is to be kept
        self.is_dry = load.is_dry

    def steps(self) -> Iterator[Step]:
        """Yield the transactions in order; what each writes is prepared when it is requested."""
        yield self._begin
        assert self._ticket is not None
        if self._is_sliced:
            for batches in sliced(self._load.batches(self._ticket)):
                yield partial(self._write, batches)
            yield self._settle
        yield self._end

    def removal(self) -> Iterator[Step]:
        """Yield the transactions that remove what was written."""
        return removal(self._ticket.workflow_id, self._transact) if self._ticket is not None else iter(())

    def _begin(self) -> None:
        self._ticket = self._transact(lambda tx: begin(tx, self._load), "write")

    def _write(self, batches: Sequence[Batch]) -> None:
        assert self._ticket is not None
        workflow_id = self._ticket.workflow_id
        try:
            self._transact(lambda tx: sliced_storage.write(tx.db, tx.dialect, workflow_id, batches, tx.now), "load")
        except IntegrityError as error:
            raise contradiction(error.orig or error) from None

    def _settle(self) -> None:
        ticket = self._ticket
        assert ticket is not None
        self._transact(lambda tx: self._load.settle(tx, ticket), "load")
        self._transact(lambda tx: self._load.verify(tx, ticket), "read")

    def _end(self) -> None:
        assert self._ticket is not None
        ticket = ReservedIds(self._ticket.workflow_id, self._ticket.ids, is_written=self._is_sliced)
        self.reply = self._finish(ticket)


def removal(workflow_id: int, transact: RunTransaction) -> Iterator[Step]:
    """Yield the transactions that remove what is stored of a workflow without a row of its own."""
    is_more = True

    def step() -> None:
        nonlocal is_more
        is_more = transact(lambda tx: sliced_storage.remove(tx.db, tx.dialect, workflow_id), "load")

    while is_more:
        yield step
