"""Have a runner that starts while its store is away wait for it: its allocation may have been in the queue for hours."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from torc.api.base import Torc
from torc.cli.connection import closing_at_end, open_torc, workflow_id
from torc.cli.options.amounts import seconds
from torc.cli.session import SESSION
from torc.errors import StoreLost, TorcError, Unauthorized, Unavailable
from torc.units import human_duration

_LOG = logging.getLogger(__name__)
ServerWait = Annotated[
    str | None,
    typer.Option(
        "--server-wait",
        metavar="TIME",
        help="How long to wait at the start for a server or database that does not answer, such as 30m; 0s: not at all. Default: "
        "10m for what Torc starts, 0s for what is started by hand.",
    ),
]
#: a server that is restarted by hand is back within minutes
DEFAULT_SECONDS = 600.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 10.0
#: a server that has just restarted may answer before its token is in `server.json`
_TOKEN_SECONDS = 30.0
_REMINDER_SECONDS = 120.0


def wait_seconds(named: str | None, *, default: float) -> float:
    """Return how long to wait at the start: as the option says, else as set. Raises Invalid."""
    found = seconds(named or SESSION.settings.text("run.server_wait"), "--server-wait")
    return default if found is None else float(found)


@contextmanager
def torc_when_it_answers(workflow: str, limit_seconds: float) -> Iterator[tuple[Torc, int]]:
    """Open the store as soon as it answers, and find a workflow in it. Raises Unavailable when the time is over.

    Everything is read again for each try: the server may have restarted at another address, with another token.
    """
    wait = _Wait(limit_seconds)
    while True:
        opened: Torc | None = None
        try:
            opened = open_torc(create=False)
            number = workflow_id(opened, workflow)
        except TorcError as error:
            if opened is not None:
                opened.close()
            wait.after(error)
            continue
        break
    wait.tell_end()
    with closing_at_end(opened):
        yield opened, number


class _Wait:
    """How long has been waited, and what was told about it."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._began = self._told = time.monotonic()
        self._pause = _FIRST_PAUSE_SECONDS
        self._answered_at: float | None = None
        self._is_waiting = False

    def after(self, error: TorcError) -> None:
        """Wait before the next try, if an error may pass and time is left. Raises the error otherwise."""
        now = time.monotonic()
        left = self._began + self._limit - now
        if not self._may_pass(error, now):
            raise error
        if left <= 0:
            raise self._too_long(error, now) from None
        if not self._is_waiting:
            _LOG.warning("%s. Waiting up to %s for it (--server-wait)", error.message, human_duration(self._limit))
        elif now - self._told >= _REMINDER_SECONDS:
            _LOG.warning("%s. Still waiting, for up to %s", error.message, human_duration(left))
        else:
            now = self._told
        self._is_waiting, self._told = True, now
        # with many nodes, not all of them ask at one moment
        time.sleep(min(left, self._pause * random.uniform(0.5, 1.0)))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    def tell_end(self) -> None:
        """Say that the store answers, if it was waited for."""
        if self._is_waiting:
            _LOG.warning("the store answers, after %s", human_duration(time.monotonic() - self._began))

    def _may_pass(self, error: TorcError, now: float) -> bool:
        if isinstance(error, Unauthorized) and self._is_waiting:
            self._answered_at = now if self._answered_at is None else self._answered_at
            return now - self._answered_at < _TOKEN_SECONDS
        self._answered_at = None
        return isinstance(error, Unavailable) and not isinstance(error, StoreLost)

    def _too_long(self, error: TorcError, now: float) -> TorcError:
        waited = f" (waited {human_duration(now - self._began)})" if self._is_waiting else ""
        hint = f"{error.hint or 'check that it runs'}; --server-wait TIME waits for it{' longer' if waited else ''}"
        return type(error)(error.message + waited, hint=hint, **error.details)
