"""Processes that become children of a runner: those that jobs may leave running, and those that a dead spawner left.

The runner is a subreaper (prctl(2)), like its spawners, which kill what jobs leave behind. It kills only its own processes,
identified by the session of an attempt or by TORC_RUNNER in the environment: a program that embeds a runner may have other
children. What dead runners left is killed by `dead_runners`.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Collection
from pathlib import Path

from torc.runner.spawner import end_children

_MOST_SESSIONS = 10_000


class OrphanProcesses:
    """Identifies the children of this process that attempts of one runner left behind."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._ended: set[int] = set()  # sessions
        self._order: deque[int] = deque()
        self._ours: set[int] = set()  # pids
        self._kept: set[int] = set()  # pids
        self._seen: list[bytes] = []  # children at the last look, and at the one before the previous batch of events
        self._seen_before_events: list[bytes] = []
        self._others: list[bytes] = []
        try:  # orphans become children of the subreaper's main thread while that lives
            self._children_fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN
            self._children_fd = -1
        self._seen = self._seen_before_events = self._others = self._children()

    def began(self, session: int) -> None:
        """Record that a session is running; its id may have been used before."""
        self._ended.discard(session)

    def ended(self, session: int) -> None:
        """Record that the attempt of a session has ended."""
        self._ended.add(session)
        self._order.append(session)
        if len(self._order) > _MOST_SESSIONS:
            self._ended.discard(self._order.popleft())

    def keep(self, pids: Collection[int]) -> None:
        """Record processes that may stay and that this process has to reap."""
        self._kept.update(pids)

    def close(self) -> None:
        """Close the descriptor that children are read from."""
        if self._children_fd >= 0:
            os.close(self._children_fd)

    def number(self) -> int:
        """Return the number of children of this process, cheaply."""
        self._seen = self._children()
        return len(self._seen)

    def before_events(self) -> None:
        """Record the children before spawner events are read.

        A spawner's death is among the events read right after its children have come to this process. So a child that was already
        present before the previous batch of events did not belong to it.
        """
        self._others, self._seen_before_events = self._seen_before_events, self._seen

    def end_orphans(self, known: Collection[int], kept: Collection[tuple[bytes, bytes]]) -> set[int]:
        """Kill everything that a dead spawner left, including its descendants; return what cannot be killed.

        In addition to what `sweep` finds, that is every new child in a session of its own, as everything started by a job is. `kept`
        are attempts whose processes stay.
        """
        others = {int(pid) for pid in self._others}
        own = os.getsid(0)

        def is_left(pid: int) -> bool:
            if pid in known or pid in self._kept or _session_of(pid) == own:
                return False
            environ = environ_of(pid)
            marks = environ.get(b"TORC_RUNNER", b"").split()
            if self._mark in marks:
                if (environ.get(b"TORC_JOB_ID", b""), environ.get(b"TORC_ATTEMPT_ID", b"")) not in kept:
                    return True
                self._kept.add(pid)
                return False
            if _session_of(pid) in self._ended or pid in self._ours:
                return True
            return self._children_fd >= 0 and not marks and pid not in others

        return end_children(is_left)

    def sweep(self, known: Collection[int], attempts: Collection[tuple[bytes, bytes]]) -> bool:
        """Kill and reap leftover processes; return whether there were any.

        `known` are pids that something else waits for: they and their sessions stay, and so do children whose environment names one
        of `attempts` (job id, attempt).
        """
        found = False
        children = [int(pid) for pid in self._children()]
        for pid in children:
            if pid in self._kept:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                continue
            if pid in known or not self._is_left(pid, known, attempts):
                continue
            found = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._ours.intersection_update(children)
        self._kept.intersection_update(children)
        return found

    def _children(self) -> list[bytes]:
        if self._children_fd < 0:
            return []
        found = b""
        while part := os.pread(self._children_fd, 1 << 16, len(found)):
            found += part
        return found.split()

    def _is_left(self, pid: int, known: Collection[int], attempts: Collection[tuple[bytes, bytes]]) -> bool:
        session = _session_of(pid)
        if session in known:
            return False
        if session in self._ended:
            return True
        environ = environ_of(pid)
        if self._mark in environ.get(b"TORC_RUNNER", b"").split():
            self._ours.add(pid)
            return (environ.get(b"TORC_JOB_ID", b""), environ.get(b"TORC_ATTEMPT_ID", b"")) not in attempts
        return pid in self._ours  # zombies have no environment


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def environ_of(pid: int) -> dict[bytes, bytes]:
    """Return the variables that Torc set for a process; empty if they cannot be read."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return {name: value for name, _, value in (entry.partition(b"=") for entry in entries if entry[:5] == b"TORC_")}
