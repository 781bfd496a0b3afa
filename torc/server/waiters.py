"""Requests that wait for changes of workflows, without occupying threads.

Runners that wait for work stand in a queue: a change wakes the first, and each woken runner wakes the next while ready jobs are
left. So one ready job costs a few queries instead of one for each of ten thousand runners. Followers of events are woken at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from torc.store.change_feed import ChangeScope

_BARREN_SECONDS = 0.05


class _Line:
    """The requests that wait for one workflow."""

    __slots__ = ("followers", "generation", "is_due", "pass_from", "runners", "told")

    def __init__(self) -> None:
        self.generation = 0  # number of changes that may concern runners
        self.told = 0  # number of all changes
        self.pass_from = 0.0  # no runner is woken earlier, on the loop's clock
        self.is_due = False  # a wake-up is scheduled for then
        self.runners: dict[asyncio.Future[None], int] = {}  # with the generation at which each one last asked
        self.followers: set[asyncio.Future[None]] = set()


class Waiters:
    """The queues of all workflows. Belongs to the event loop."""

    def __init__(self) -> None:
        self._lines: dict[int, _Line] = {}
        self.is_closed = False

    @property
    def watched(self) -> list[int]:
        """Return the workflows that requests wait for."""
        return [number for number, line in self._lines.items() if line.runners or line.followers]

    @property
    def num_waiting(self) -> int:
        """Return the number of waiting requests."""
        return sum(len(line.runners) + len(line.followers) for line in self._lines.values())

    def generation(self, workflow_id: int, *, in_line: bool) -> int:
        """Return the number of changes so far; read it before the query and pass it to `wait`."""
        line = self._line(workflow_id)
        return line.generation if in_line else line.told

    async def wait(self, workflow_id: int, seen: int, seconds: float, *, in_line: bool) -> bool:
        """Wait for a change after `seen`; return False if there is none in time, or the server shuts down.

        `in_line`: wake only when work may be left for this position in the queue.
        """
        line = self._line(workflow_id)
        if self.is_closed:
            return False
        if (line.generation if in_line else line.told) != seen:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if in_line:
            line.runners[future] = seen
        else:
            line.followers.add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            line.runners.pop(future, None)
            line.followers.discard(future)
            if not line.runners and not line.followers and line.told == 0:
                self._lines.pop(workflow_id, None)
        return not self.is_closed

    def changed(self, workflow_id: int, reach: ChangeScope) -> None:
        """Handle a change: wake all followers, and those runners that it may concern."""
        line = self._lines.get(workflow_id)
        if line is None:
            return
        line.told += 1
        _wake(line.followers)
        if reach is ChangeScope.NOBODY:
            return
        line.generation += 1
        if reach is ChangeScope.ALL:
            _wake(line.runners)
        elif not line.is_due:
            self._begin_pass(workflow_id, line)

    def changed_somewhere(self) -> None:
        """Handle a change of unknown extent."""
        for workflow_id in list(self._lines):
            self.changed(workflow_id, ChangeScope.ALL)

    def wake_next(self, workflow_id: int) -> None:
        """Wake the next runner in the queue that has not asked since the last change."""
        line = self._lines.get(workflow_id)
        if line is None:
            return
        for future, seen in line.runners.items():
            if seen != line.generation and not future.done():
                future.set_result(None)
                return

    def barren(self, workflow_id: int) -> None:
        """Record that ready jobs are left that did not fit the runner that asked: probably they do not fit the next either.

        Each change would make the whole queue ask in vain. So the next pass starts a little later.
        """
        line = self._lines.get(workflow_id)
        if line is not None:
            line.pass_from = asyncio.get_running_loop().time() + _BARREN_SECONDS

    def _begin_pass(self, workflow_id: int, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        line.is_due = line.pass_from > loop.time()
        if line.is_due:
            loop.call_at(line.pass_from, self._begin_pass, workflow_id, line)
        else:
            self.wake_next(workflow_id)

    def close(self) -> None:
        """Release all waiting requests: the server is shutting down."""
        self.is_closed = True
        for line in self._lines.values():
            _wake(line.followers)
            _wake(line.runners)

    def _line(self, workflow_id: int) -> _Line:
        return self._lines.setdefault(workflow_id, _Line())


def _wake(futures: Iterable[asyncio.Future[None]]) -> None:
    for future in list(futures):
        if not future.done():
            future.set_result(None)
