"""Waits for a store that does not answer, says so, and asks again."""

from __future__ import annotations

import logging
import time
from typing import TypeVar

from torc.api.base import Request, Torc
from torc.backoff import backoff
from torc.errors import StoreLost, TorcError, Unauthorized, Unavailable
from torc.units import human_duration

R = TypeVar("R")
_LOG = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 10.0
#: a server that has just restarted may answer before its token is in `server.json`
_TOKEN_SECONDS = 30.0
_REMINDER_SECONDS = 120.0


class PatientTorc:
    """Asks another Torc, again while it does not answer: only what may be carried out twice.

    Each time that it is away is waited for up to `limit_seconds`. `has_asked_again`: something may have been done twice.
    """

    def __init__(self, torc: Torc, limit_seconds: float) -> None:
        self._torc, self._limit = torc, limit_seconds
        self.has_asked_again = False

    def send(self, request: Request[R], /) -> R:
        """Ask. Raises TorcError, or one of its children."""
        if self._limit <= 0:
            return self._torc.send(request)
        wait = StoreWait(self._limit)
        while True:
            try:
                reply = self._torc.send(request)
            except TorcError as error:
                wait.after(error)
                self.has_asked_again = True
            else:
                wait.tell_end()
                return reply

    def close(self) -> None:
        """Leave it open: it is not this one's."""


class StoreWait:
    """How long has been waited, and what was told about it."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._began = self._told = time.monotonic()
        self._pauses = backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
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
        time.sleep(min(left, next(self._pauses)))

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
