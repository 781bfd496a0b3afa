"""A Torc that answers from a database in this process."""

from __future__ import annotations

import time
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

import torc.operations  # noqa: F401 - enters every handler
from torc.api.base import Request
from torc.api.events import ListEvents
from torc.api.runs import Exchange
from torc.errors import Unavailable
from torc.operations.dispatch import DryRun, Tx, answer
from torc.store.open import Store

R = TypeVar("R")

#: how long a request is tried again while somebody else holds the database
PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.25


class Embedded:
    """Answers each request in one transaction; waits outside of it."""

    def __init__(self, store: Store, actor: str) -> None:
        self.store, self.actor = store, actor
        self.notes = store.notes

    def send(self, request: Request[R], /) -> R:
        """Answer one request. Raises TorcError, or one of its children."""
        if isinstance(request, Exchange | ListEvents) and request.wait_seconds > 0:
            reply: R = self._wait(request)
        else:
            reply = self._answer(request)
        return reply

    def close(self) -> None:
        """Give back connections."""
        self.store.close()

    def _answer(self, request: Request[Any]) -> Any:
        dialect, engine = self.store.dialect, self.store.engine
        begin = dialect.begin_read if request.access == "read" else dialect.begin_write
        end = time.monotonic() + PATIENCE_SECONDS
        pause = _POLL_SECONDS
        while True:
            try:
                with begin(engine) as db:
                    return answer(Tx(db, dialect, time.time(), self.actor), request)
            except DryRun as dry:  # rolled back
                return dry.reply
            except DBAPIError as error:
                if not dialect.is_transient(error):
                    raise
                if time.monotonic() + pause > end:
                    raise Unavailable(
                        f"the database cannot be used now: {str(error.orig).strip().splitlines()[0]}",
                        hint="another process may hold it, or its disk may be full; nothing was changed",
                    ) from None
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_POLL_SECONDS)

    def _wait(self, request: Exchange | ListEvents) -> Any:
        """Ask until there is something to say; only the first asking of an Exchange reports."""
        end = time.monotonic() + request.wait_seconds
        pause = _POLL_SECONDS
        reply = self._answer(request)
        if isinstance(request, Exchange):
            request = request.model_copy(update={"started": [], "finished": [], "released": [], "actions_finished": []})
        while not _says_something(reply) and time.monotonic() < end:
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
            pause = min(pause * 1.5, _LONGEST_POLL_SECONDS)
            reply = self._answer(request)
        return reply


def _says_something(reply: object) -> bool:
    return any(
        bool(getattr(reply, name, None)) for name in ("assignments", "cancel", "actions", "done", "stuck", "items")
    )
