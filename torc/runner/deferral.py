"""Ends of attempts that are not told yet, because what they mean is not known for a moment, and starts that wait for their inputs.

A shared file system may show a file seconds after it was written on another node. And what ends an allocation signals its jobs
and its runner at once: the runner may see a job end before it learns that all is to end, and a job that was interrupted so
has not failed. Nothing waits here: the loop asks when something is due.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from math import inf
from typing import Generic, TypeVar

from torc.runner.outputs import missing, not_written, unsettled_seconds
from torc.runner.state import Exited, StartAttempt
from torc.workflow.exit_codes import counted

#: looks at what is missing so often, more and more seldom
_FIRST_SECONDS, _LONGEST_SECONDS = 0.05, 1.0
_INTERRUPTED = counted(-signal.SIGTERM)
T = TypeVar("T")


@dataclass(slots=True)
class _Waiting(Generic[T]):
    what: T
    until: float
    look_at: float
    pause: float = _FIRST_SECONDS

    def look_later(self, now: float) -> None:
        """Look again, more and more seldom, and at the end of its time."""
        self.pause = min(2 * self.pause, _LONGEST_SECONDS)
        self.look_at = min(now + self.pause, self.until)


class DeferredEnds:
    """Keeps ends for so long; zero seconds: not at all."""

    def __init__(self, see_seconds: float, signal_seconds: float) -> None:
        self._see_seconds, self._signal_seconds = see_seconds, signal_seconds
        self._kept: list[_Waiting[Exited]] = []
        self._held: list[_Waiting[StartAttempt]] = []

    @property
    def due(self) -> float:
        """Return when to ask `ready` again, on the monotonic clock."""
        return min([kept.look_at for kept in self._kept] + [held.look_at for held in self._held], default=inf)

    def holds(self, start: StartAttempt, now: float) -> bool:
        """Take a start to be made later, when its inputs show here, or leave it to be made now.

        Outputs that have only just been changed are waited for too, until a further change would show.
        """
        if start.after is not None:
            return False
        inputs, outputs = start.assignment.inputs, start.assignment.outputs
        if not inputs or self._see_seconds <= 0 or not missing(inputs):
            seconds = unsettled_seconds(outputs) if outputs else 0.0
            if seconds > 0:
                self._held.append(_Waiting(start, now + seconds, now + seconds))
            return seconds > 0
        self._held.append(_Waiting(start, now + self._see_seconds, now + _FIRST_SECONDS))
        return True

    def drops(self, job_id: int) -> bool:
        """Forget a start that was held; tell whether there was one."""
        before = len(self._held)
        self._held = [held for held in self._held if held.what.assignment.job_id != job_id]
        return len(self._held) < before

    def starts(self, now: float) -> list[StartAttempt]:
        """Return what can start now, or has waited long enough: the job will say what it misses."""
        ready: list[StartAttempt] = []
        for held in [held for held in self._held if held.look_at <= now]:
            if now >= held.until or not missing(held.what.assignment.inputs):
                self._held.remove(held)
                ready.append(held.what)
            else:
                held.look_later(now)
        return ready

    def keeps(self, exited: Exited, now: float, *, is_stopping: bool) -> bool:
        """Take an end to be told later, or leave it to be told now."""
        if exited.return_code == 0 and (exited.missing or exited.old):
            seconds = self._see_seconds
        elif exited.return_code == _INTERRUPTED and not is_stopping:
            seconds = self._signal_seconds
        else:
            return False
        if seconds > 0:
            self._kept.append(_Waiting(exited, now + seconds, now + min(_FIRST_SECONDS, seconds)))
        return seconds > 0

    def ready(self, now: float, *, is_stopping: bool) -> list[Exited]:
        """Return what can be told now."""
        told: list[Exited] = []
        for kept in [kept for kept in self._kept if kept.look_at <= now or is_stopping]:
            if kept.what.missing or kept.what.old:
                absent, old = not_written((*kept.what.missing, *kept.what.old), kept.what.before)
                kept.what = replace(kept.what, missing=absent, old=old)
                is_known = not (absent or old)
            else:
                is_known = is_stopping
            if is_known or now >= kept.until:
                self._kept.remove(kept)
                told.append(kept.what)
            else:
                kept.look_later(now)
        return told
