"""Limits how many large bodies are read, and how many large workflows are created, at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from torc.api.base import SMALL
from torc.errors import Unavailable
from torc.server.problems import TooMany
from torc.workflow.access import Caller

_MOST_BODIES = 4
_MOST_HEAVY = 2
_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """What each account may have: stored jobs, and large workflows being created at once. None: unlimited."""

    max_jobs: int | None = 10_000_000
    max_creations: int | None = 2


class ConcurrencyLimits:
    """Limits concurrent work that needs much memory; the rest waits its turn."""

    def __init__(self, most_pending: int | None) -> None:
        self.bodies = asyncio.Semaphore(_MOST_BODIES)
        self.heavy = asyncio.Semaphore(_MOST_HEAVY)
        self.most_pending = most_pending
        self.pending: Counter[str] = Counter()

    def admit(self, caller: Caller) -> Admission:
        """Return an object that counts one request of a caller against the limits."""
        return Admission(self, caller)


class Admission:
    """What one request occupies of the limits until its `async with` ends."""

    def __init__(self, limits: ConcurrencyLimits, caller: Caller) -> None:
        self._limits, self._caller = limits, caller
        self._held: list[asyncio.Semaphore] = []
        self._is_pending = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for semaphore in self._held:
            semaphore.release()
        if self._is_pending:
            self._limits.pending[self._caller.actor] -= 1
            self._limits.pending += Counter()  # removes entries that are 0

    @property
    def is_heavy(self) -> bool:
        """Return whether the request may create a large workflow."""
        return self._is_pending

    async def read(self, size: int | None, *, makes_workflow: bool) -> None:
        """Wait until a body of this size may be read (None: unknown size). Raises TooMany or Unavailable."""
        if size is not None and size <= SMALL:
            return
        if makes_workflow:
            await self.become_heavy()
        else:
            await self._take(self._limits.bodies)

    async def become_heavy(self) -> None:
        """Wait until a large workflow may be created, and hold that slot until the request ends. Raises TooMany or Unavailable."""
        if self._is_pending:
            return
        limits, actor = self._limits, self._caller.actor
        most = None if self._caller.is_owner else limits.most_pending
        if most is not None and limits.pending[actor] >= most:
            raise TooMany(
                f"{limits.pending[actor]} of your large workflows are already being created",
                hint="wait until one is complete",
                retry_after=10,
            )
        limits.pending[actor] += 1
        self._is_pending = True
        await self._take(limits.heavy)

    async def _take(self, semaphore: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await semaphore.acquire()
        except TimeoutError:
            raise Unavailable("the server is busy with other large requests", hint="try again in a minute") from None
        self._held.append(semaphore)
