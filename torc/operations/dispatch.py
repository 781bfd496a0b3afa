"""From a request to whoever answers it, inside one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from torc.api.base import Request
from torc.store.dialect import Dialect
from torc.store.events import Happening, add_events

R = TypeVar("R")
Q = TypeVar("Q", bound=Request[Any])


@dataclass(frozen=True, slots=True)
class Tx:
    """A transaction: where, when and on whose behalf. Handlers neither commit nor read a clock."""

    db: Connection
    dialect: Dialect
    now: float  # seconds since the epoch
    actor: str  # user:NAME, runner:ID ...
    prepared: Any = None  # what `prepare` gave for the request

    def event(self, workflow_id: int, kind: str, *, job_id: int | None = None, **data: Any) -> None:
        """Append to the log."""
        add_events(self.db, self.dialect, workflow_id, self.now, self.actor, [Happening(kind, data, job_id)])


class DryRun(Exception):
    """Carries the reply out of a transaction whose changes are not to be kept."""

    def __init__(self, reply: Any) -> None:
        super().__init__("dry run")
        self.reply = reply


Handler = Callable[[Tx, Any], Any]
HANDLERS: dict[type[Request[Any]], Handler] = {}


def answers(kind: type[Q]) -> Callable[[Callable[[Tx, Q], R]], Callable[[Tx, Q], R]]:
    """Function decorator: enter who answers a kind of request."""

    def enter(handler: Callable[[Tx, Q], R]) -> Callable[[Tx, Q], R]:
        if kind in HANDLERS:
            raise TypeError(f"two functions answer {kind.__name__}")
        HANDLERS[kind] = handler
        return handler

    return enter


PREPARATIONS: dict[type[Request[Any]], Callable[[Any], Any]] = {}


def prepares(kind: type[Q]) -> Callable[[Callable[[Q], R]], Callable[[Q], R]]:
    """Function decorator: enter what can be done for a kind of request before its transaction, for it takes long."""

    def enter(preparation: Callable[[Q], R]) -> Callable[[Q], R]:
        PREPARATIONS[kind] = preparation
        return preparation

    return enter


def prepare(request: Request[Any]) -> Any:
    """Do what needs no transaction: nobody else waits for the database meanwhile. Raises TorcError, or one of its children."""
    preparation = PREPARATIONS.get(type(request))
    return None if preparation is None else preparation(request)


def answer(tx: Tx, request: Request[R]) -> R:
    """Answer a request. Raises TorcError, or one of its children."""
    reply: R = HANDLERS[type(request)](tx, request)
    return reply
