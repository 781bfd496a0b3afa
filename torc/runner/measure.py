"""What process trees use while they run: one pass over /proc for all jobs of a runner.

The kernel's own account at the end (`spawner`) is exact for processes, but for one thing: a process starts out as its parent,
and keeps that peak through exec (setmax_mm_hiwater_rss in exec_mmap, fs/exec.c). So no job has a peak below that of the
spawner, 10 MB. A sample sees the sum of a whole tree. Not for time series, which are written elsewhere.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from torc.api.runs import Usage

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: sampling takes at most this share of the time
_SHARE = 0.005


@dataclass(slots=True)
class _Track:
    memory: int = 0
    peak: int = 0
    total: int = 0
    samples: int = 0
    processes: int = 0


class Sampler:
    """Sums memory over sessions. A job's session has the pid of its first process."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.due = 0.0  # on the monotonic clock
        self._tracks: dict[int, _Track] = {}

    def memory_of(self, session: int) -> int:
        """Give the memory of a session in bytes when it was last looked at."""
        track = self._tracks.get(session)
        return 0 if track is None else track.memory

    def sample(self, sessions: Collection[int], now: float) -> None:
        """Look at all sessions. The next look is due after the interval, or later where looking takes long."""
        started = time.thread_time()
        memory: dict[int, int] = defaultdict(int)
        processes: dict[int, int] = defaultdict(int)
        for name in os.listdir("/proc"):
            if name.isdigit():
                found = _session_and_memory(name)
                if found is not None and found[0] in sessions:
                    memory[found[0]] += found[1]
                    processes[found[0]] += 1
        for session in sessions:
            track = self._tracks.setdefault(session, _Track())
            track.memory = memory[session]
            track.peak = max(track.peak, track.memory)
            track.total += track.memory
            track.samples += 1
            track.processes = max(track.processes, processes[session])
        self.due = now + max(self.interval, (time.thread_time() - started) / _SHARE)

    def close(self, session: int, usage: Usage) -> Usage:
        """Add what was seen of an attempt to the kernel's account of it."""
        track = self._tracks.pop(session, None)
        if track is None or not track.samples:
            return usage
        return usage.model_copy(
            update={
                "peak_memory_bytes": max(usage.peak_memory_bytes, track.peak),
                "average_memory_bytes": track.total // track.samples,
                "max_processes": track.processes,
            }
        )


def _session_and_memory(pid: str) -> tuple[int, int] | None:
    """Read /proc/PID/stat (proc(5)): field 6 is the session, field 24 the resident pages."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[3]), int(fields[21]) * _PAGE
