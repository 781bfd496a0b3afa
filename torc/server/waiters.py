"""Who waits for a change of which workflow. Nobody who waits holds a thread.

Runners that wait for work stand in a line: a change wakes the first, and each that was woken wakes the next while ready jobs are
left. So one ready job costs a few questions, not one of each of ten thousand runners. Whoever follows events is woken at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from torc.store.change_feed import ChangeScope

_BARREN_SECONDS = 0.05


class _Line:
    """Those who wait for one workflow."""

    __slots__ = ("followers", "generation", "is_due", "pass_from", "runners", "told")

    def __init__(self) -> None:
        self.generation = 0  # of changes that may concern runners
        self.told = 0  # changes in all
        self.pass_from = 0.0  # no runner is woken before, on the loop's clock
        self.is_due = False  # somebody will be woken then
        self.runners: dict[asyncio.Future[None], int] = {}  # with the generation that each has asked at
        self.followers: set[asyncio.Future[None]] = set()


class Waiters:
    """The lines of all workflows. Belongs to the event loop."""

    def __init__(self) -> None:
        self._lines: dict[int, _Line] = {}
        self.is_closed = False

    @property
    def watched(self) -> list[int]:
        """Return the workflows that somebody waits for."""
        return [number for number, line in self._lines.items() if line.runners or line.followers]

    @property
    def num_waiting(self) -> int:
        """Return how many wait."""
        return sum(len(line.runners) + len(line.followers) for line in self._lines.values())

    def generation(self, workflow_id: int, *, in_line: bool) -> int:
        """Return how many changes there have been; take it before asking, and give it to `wait`."""
        line = self._line(workflow_id)
        return line.generation if in_line else line.told

    async def wait(self, workflow_id: int, seen: int, seconds: float, *, in_line: bool) -> bool:
        """Wait for a change after `seen`; False when there was none in time, or the server ends.

        `in_line`: be woken only when the work that is there may reach this far.
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
        """Note a change: followers learn it, and those runners that it may concern."""
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
        """Note a change of which nobody knows what it concerns."""
        for workflow_id in list(self._lines):
            self.changed(workflow_id, ChangeScope.ALL)

    def wake_next(self, workflow_id: int) -> None:
        """Wake the next in line who has not asked since the last change."""
        line = self._lines.get(workflow_id)
        if line is None:
            return
        for future, seen in line.runners.items():
            if seen != line.generation and not future.done():
                future.set_result(None)
                return

    def barren(self, workflow_id: int) -> None:
        """Note that ready jobs are left that the one who asked could not be given: most likely the next cannot either.

        Each change would have all of the line ask in vain. So the next time it is begun a moment later.
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
        """Let nobody wait any more: the server ends."""
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
