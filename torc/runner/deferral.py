"""Attempt ends that are not reported yet because their meaning is still unclear, and starts that wait for their inputs.

A shared file system may show a file seconds after another node wrote it. And whatever ends an allocation signals its jobs and
its runner at the same time: the runner may see a job end before it learns that everything is ending, and a job interrupted
this way has not failed. Nothing blocks here: the loop polls when something is due.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from math import inf
from typing import Generic, TypeVar

from torc.backoff import longer
from torc.runner.outputs import missing, not_written, unsettled_seconds
from torc.runner.state import Exited, StartAttempt
from torc.workflow.exit_codes import counted

#: interval between checks for what is missing, growing up to the longest
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
        """Schedule the next check, with growing intervals, at the latest at `until`."""
        self.pause = longer(self.pause, _LONGEST_SECONDS)
        self.look_at = min(now + self.pause, self.until)


class DeferredEnds:
    """Holds ends back for this long; zero seconds: not at all."""

    def __init__(self, visibility_delay_seconds: float, signal_seconds: float) -> None:
        self._see_seconds, self._signal_seconds = visibility_delay_seconds, signal_seconds
        self._kept: list[_Waiting[Exited]] = []
        self._held: list[_Waiting[StartAttempt]] = []

    @property
    def due(self) -> float:
        """Return when to call `ready` again, on the monotonic clock."""
        return min([kept.look_at for kept in self._kept] + [held.look_at for held in self._held], default=inf)

    def holds(self, start: StartAttempt, now: float) -> bool:
        """Return True and keep a start whose inputs do not show here yet; False means start it now.

        Outputs that changed very recently are waited for too, until a further change would be visible.
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
        """Forget a start that was held; return whether there was one."""
        before = len(self._held)
        self._held = [held for held in self._held if held.what.assignment.job_id != job_id]
        return len(self._held) < before

    def starts(self, now: float) -> list[StartAttempt]:
        """Return the starts that are ready or have waited long enough: the job itself will report what is missing."""
        ready: list[StartAttempt] = []
        for held in [held for held in self._held if held.look_at <= now]:
            if now >= held.until or not missing(held.what.assignment.inputs):
                self._held.remove(held)
                ready.append(held.what)
            else:
                held.look_later(now)
        return ready

    def keeps(self, exited: Exited, now: float, *, is_stopping: bool) -> bool:
        """Return True and keep an end to report later; False means report it now."""
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
        """Return the ends to report now."""
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
