"""Processes that come to a runner: what jobs may leave running, and what a spawner that died has left.

The runner is a subreaper (prctl(2)), as its spawners are, which end what jobs leave behind. It ends only what is its own, told by the
session of an attempt or by TORC_RUNNER in the environment: a program that runs workflows may have children besides. Not for
runners that died: `dead_runners` ends what those left.
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
    """Tells what of this process's children was left behind by the attempts of one runner."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._ended: set[int] = set()  # sessions
        self._order: deque[int] = deque()
        self._ours: set[int] = set()  # pids
        self._kept: set[int] = set()  # pids
        self._seen: list[bytes] = []  # children at the last look, and at the last one before the events before
        self._seen_before_events: list[bytes] = []
        self._others: list[bytes] = []
        try:  # orphans come to the main thread of their subreaper while that lives
            self._children_fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN
            self._children_fd = -1
        self._seen = self._seen_before_events = self._others = self._children()

    def began(self, session: int) -> None:
        """Note that a session runs: its number may have been another's before."""
        self._ended.discard(session)

    def ended(self, session: int) -> None:
        """Note that the attempt of a session has ended."""
        self._ended.add(session)
        self._order.append(session)
        if len(self._order) > _MOST_SESSIONS:
            self._ended.discard(self._order.popleft())

    def keep(self, pids: Collection[int]) -> None:
        """Note processes that stay, and that this process is to wait for."""
        self._kept.update(pids)

    def close(self) -> None:
        """Give back the descriptor that children are read from."""
        if self._children_fd >= 0:
            os.close(self._children_fd)

    def number(self) -> int:
        """Count the children of this process, quickly."""
        self._seen = self._children()
        return len(self._seen)

    def before_events(self) -> None:
        """Note that events of spawners are about to be asked for.

        The end of a spawner is among the events that are asked for next after its children have come here: a child that was here
        before the events before was not its own.
        """
        self._others, self._seen_before_events = self._seen_before_events, self._seen

    def end_orphans(self, known: Collection[int], kept: Collection[tuple[bytes, bytes]]) -> set[int]:
        """Kill all that a spawner has left that died, and what it leaves in turn; gives what cannot be killed.

        Beside what `sweep` finds, that is whatever came here since and is in a session of its own, as all is that a job has
        started. `kept` are attempts whose processes stay.
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
        """Kill and reap what was left behind; tell whether there was any.

        `known` are pids that somebody waits for: they and their sessions stay, and so do children whose environment names
        one of `attempts` (job id, attempt).
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
        return pid in self._ours  # a zombie has no environment any more


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def environ_of(pid: int) -> dict[bytes, bytes]:
    """Return the variables of a process that Torc set; none where they cannot be read."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return {name: value for name, _, value in (entry.partition(b"=") for entry in entries if entry[:5] == b"TORC_")}
