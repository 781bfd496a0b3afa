"""Dispatches a request to the function that answers it, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torc.api.base import Request
from torc.operations import access, audit
from torc.operations.handlers import load
from torc.operations.transaction import DryRun, Tx

__all__ = [
    "DryRun",
    "PreparationBounds",
    "TooHeavy",
    "TransactionRunner",
    "Tx",
    "answer",
    "answers",
    "draft",
    "drafts",
    "is_prepared",
    "prepare",
    "prepares",
    "removes",
]

R = TypeVar("R")
Q = TypeVar("Q", bound=Request[Any])


Handler = Callable[[Tx, Any], Any]
HANDLERS: dict[type[Request[Any]], Handler] = {}


_REMOVE: set[type[Request[Any]]] = set()


def answers(kind: type[Q], *, removes: bool = False) -> Callable[[Callable[[Tx, Q], R]], Callable[[Tx, Q], R]]:
    """Function decorator: enter who answers a kind of request.

    `removes`: it may leave over rows of workflows that are deleted; references are not checked in its transaction.
    """

    def enter(handler: Callable[[Tx, Q], R]) -> Callable[[Tx, Q], R]:
        if kind in HANDLERS:
            raise TypeError(f"two functions answer {kind.__name__}")
        HANDLERS[kind] = handler
        if removes:
            _REMOVE.add(kind)
        return handler

    return enter


@dataclass(frozen=True, slots=True)
class PreparationBounds:
    """How much a preparation may make. Raises TooHeavy beyond that where `is_first`: it is asked again with more."""

    max_jobs: int | None = None
    is_first: bool = False


class TooHeavy(Exception):
    """A preparation makes more than it was to."""


#: a preparation that takes `bounds` is given them
PREPARATIONS: dict[type[Request[Any]], tuple[Callable[..., Any], bool]] = {}


def prepares(kind: type[Q], *, bounded: bool = False) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Function decorator: enter what can be done for a kind of request before its transaction, for it takes long.

    `bounded`: it takes Bounds as well.
    """

    def enter(preparation: Callable[..., R]) -> Callable[..., R]:
        PREPARATIONS[kind] = preparation, bounded
        return preparation

    return enter


def is_prepared(kind: type[Request[Any]]) -> bool:
    """Return whether something is done for a kind of request before its transaction. Imports what answers it."""
    _handler(kind)
    return kind in PREPARATIONS


def removes(kind: type[Request[Any]]) -> bool:
    """Return whether rows may be left over after a kind of request. Imports what answers it."""
    _handler(kind)
    return kind in _REMOVE


class TransactionRunner(Protocol):
    """Runs something in one transaction; `writes`: it may write, and undo all of it by raising DryRun with the reply."""

    def __call__(self, work: Callable[[Tx], Any], *, writes: bool) -> Any: ...


DRAFTS: dict[type[Request[Any]], Callable[[Any, Any, TransactionRunner], Any]] = {}


def drafts(kind: type[Q]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Function decorator: enter what works out an answer in transactions that change nothing, before the one that keeps it.

    It is given what was prepared, and what it returns takes the place of that. Others may change things in between.
    """

    def enter(draft: Callable[..., R]) -> Callable[..., R]:
        DRAFTS[kind] = draft
        return draft

    return enter


def draft(request: Request[Any], prepared: Any, transact: TransactionRunner) -> Any:
    """Work out what can be before the transaction that answers. Raises TorcError, or one of its children."""
    made = DRAFTS.get(type(request))
    return prepared if made is None else made(request, prepared, transact)


def prepare(request: Request[Any], bounds: PreparationBounds = PreparationBounds()) -> Any:
    """Do what needs no transaction: nobody else waits for the database meanwhile.

    Raises TorcError, or one of its children, and TooHeavy.
    """
    _handler(type(request))
    if type(request) not in PREPARATIONS:
        return None
    preparation, bounded = PREPARATIONS[type(request)]
    return preparation(request, bounds) if bounded else preparation(request)


def answer(tx: Tx, request: Request[R]) -> R:
    """Answer a request, if the caller may send it. Raises TorcError or a subclass."""
    if tx.caller is None:
        reply: R = _handler(type(request))(tx, request)
        return reply
    tx = access.admit(tx, request)
    reply = _handler(type(request))(tx, request)
    if request.writes:
        audit.record_answer(tx, request, reply)
    return reply


def _handler(kind: type[Request[Any]]) -> Handler:
    if kind not in HANDLERS:
        load(kind)
    return HANDLERS[kind]
