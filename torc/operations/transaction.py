"""The transaction that an answer is given in: where, when, on whose behalf, and with which rights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from torc.store.dialect import Dialect
from torc.store.events import EventRecord, add_events
from torc.workflow.access import Caller, Rights


@dataclass(frozen=True, slots=True)
class Quota:
    """What one account may have stored. None: as much as it likes."""

    max_jobs: int | None = None


@dataclass(frozen=True, slots=True)
class ReservedIds:
    """The ids of a workflow that is stored in several transactions. `is_written`: all its rows are there but its own."""

    workflow_id: int
    ids: Any
    is_written: bool = False


@dataclass(frozen=True, slots=True)
class Tx:
    """A transaction: where, when and on whose behalf. Handlers neither commit nor read a clock."""

    db: Connection
    dialect: Dialect
    now: float  # seconds since the epoch
    actor: str  # user:NAME, runner:ID ...
    prepared: Any = None  # what `prepare` gave for the request
    caller: Caller | None = None  # who asks over the network
    rights: Rights | None = None  # of an account; without, everything is allowed
    ticket: ReservedIds | None = None
    quota: Quota = Quota()

    def with_rights(self, rights: Rights) -> Tx:
        """Return the same transaction with the rights of its caller."""
        # every request does it: `dataclasses.replace` takes twice the time
        return Tx(
            self.db, self.dialect, self.now, self.actor, self.prepared, self.caller, rights, self.ticket, self.quota
        )

    def event(self, workflow_id: int, kind: str, *, job_id: int | None = None, **data: Any) -> None:
        """Append to the log."""
        add_events(self.db, self.dialect, workflow_id, self.now, self.actor, [EventRecord(kind, data, job_id)])


class DryRun(Exception):
    """Carries the reply out of a transaction whose changes are not to be kept."""

    def __init__(self, reply: Any) -> None:
        super().__init__("dry run")
        self.reply = reply
