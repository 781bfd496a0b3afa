"""From a request to whoever answers it, inside one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torc.api.base import Request
from torc.operations import access, audit
from torc.operations.lookup import load
from torc.operations.transaction import DryRun, Tx

__all__ = ["DryRun", "Tx", "answer", "answers", "is_prepared", "prepare", "prepares"]

R = TypeVar("R")
Q = TypeVar("Q", bound=Request[Any])


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


def is_prepared(kind: type[Request[Any]]) -> bool:
    """Tell whether something is done for a kind of request before its transaction. Imports what answers it."""
    _handler(kind)
    return kind in PREPARATIONS


def prepare(request: Request[Any]) -> Any:
    """Do what needs no transaction: nobody else waits for the database meanwhile. Raises TorcError, or one of its children."""
    _handler(type(request))
    preparation = PREPARATIONS.get(type(request))
    return None if preparation is None else preparation(request)


def answer(tx: Tx, request: Request[R]) -> R:
    """Answer a request, if the caller may ask it. Raises TorcError, or one of its children."""
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
