"""What process trees use while they run, read from /proc for all jobs of a runner at once.

A job's tree is its session plus what left that session with the job's environment (as `mpirun` and daemons do). A sample lists
/proc and reads the session of each process, which costs a third of a microsecond each; only processes of jobs are read further.
Memory means what cannot be reclaimed, as in a control group (`cgroup`): pages that map disk files are page cache and do not
count. The kernel's accounting at the end (`spawner`) is exact for processes, with one exception: a process starts as a copy of
its parent and keeps that peak through exec (setmax_mm_hiwater_rss in exec_mmap, fs/exec.c), so no job has a peak below the
spawner's 10 MB. Samples sum over the whole tree; `monitor` keeps the sums, and the loop enforces the limits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from torc.runner.orphan_processes import environ_of

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_MOST_STAT, _MOST_STATM, _MOST_IO, _MOST_STATUS = 1024, 256, 512, 4096
#: pages that map files are distinguished from shared memory only above this: libraries alone are smaller
_MOST_OF_LIBRARIES = (16 << 20) // _PAGE


@dataclass(slots=True)
class TreeSample:
    """Current and accumulated use of a tree (CPU time, bytes). The use of processes that were never waited for is lost."""

    pids: list[int] = field(default_factory=list)
    memory_bytes: int = 0  # shared memory counts once per process
    mapped_bytes: int = 0  # disk files mapped by one process: the largest value
    cpu_seconds: float = 0.0
    read_bytes: int = 0  # from and to storage, as in the kernel's accounting
    written_bytes: int = 0


class ProcessTrees:
    """Samples the trees of attempts. A job's session id is the pid of its first process."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._kin: dict[int, int] = {}  # maps a foreign session to the session of its attempt; 0: not ours

    def look(self, sessions: Mapping[int, tuple[int, int]]) -> dict[int, TreeSample]:
        """Return a sample for each session; `sessions` maps session ids to (job id, attempt)."""
        found = {session: TreeSample() for session in sessions}
        kin: dict[int, int] = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            pid = int(name)
            try:
                session = os.getsid(pid)
            except OSError:
                continue
            sample = found.get(session)
            if sample is None:
                if session not in kin:
                    kin[session] = self._owner(session, pid, sessions)
                sample = found.get(kin[session])
            if sample is not None:
                _read_process(name, pid, sample)
        self._kin = kin
        return found

    def _owner(self, session: int, pid: int, sessions: Mapping[int, tuple[int, int]]) -> int:
        known = self._kin.get(session)
        if known is not None:
            return known
        environ = environ_of(pid)
        if self._mark not in environ.get(b"TORC_RUNNER", b"").split():
            return 0
        name = (environ.get(b"TORC_JOB_ID", b""), environ.get(b"TORC_ATTEMPT_ID", b""))
        return next((each for each, (job, attempt) in sessions.items() if name == (b"%d" % job, b"%d" % attempt)), 0)


def proportional_bytes(sample: TreeSample) -> int:
    """Return a tree's memory with shared memory counted once (Pss in /proc/PID/smaps_rollup, proc(5)).

    This costs milliseconds per GiB. Where the kernel does not provide it, return the plain sum.
    """
    total = 0
    for pid in sample.pids:
        text = _content(f"/proc/{pid}/smaps_rollup", _MOST_STATUS)
        total += _kib(text, b"\nPss_Anon:") + _kib(text, b"\nPss_Shmem:") or _kib(text, b"\nPss:")
    return 1024 * total or sample.memory_bytes


def _read_process(name: str, pid: int, sample: TreeSample) -> None:
    """Add fields 14 to 17 of /proc/PID/stat and /proc/PID/io (proc(5)), including waited-for children, and the memory."""
    fields = _content(f"/proc/{name}/stat", _MOST_STAT).rpartition(b")")[2].split()
    if len(fields) < 22:
        return
    sample.pids.append(pid)
    sample.cpu_seconds += (int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])) / _TICKS
    pages = _content(f"/proc/{name}/statm", _MOST_STATM).split()
    if len(pages) > 2:
        memory, shared = (int(pages[1]) - int(pages[2])) * _PAGE, int(pages[2])
        if shared > _MOST_OF_LIBRARIES:
            of_memory = 1024 * _kib(_content(f"/proc/{name}/status", _MOST_STATUS), b"\nRssShmem:")
            memory += of_memory
            sample.mapped_bytes = max(sample.mapped_bytes, shared * _PAGE - of_memory)
        sample.memory_bytes += memory
    counted = _content(f"/proc/{name}/io", _MOST_IO).split()
    if len(counted) >= 12:
        sample.read_bytes += int(counted[9])
        sample.written_bytes += int(counted[11])


def _kib(text: bytes, name: bytes) -> int:
    """Return the value of a line in KiB; 0 if there is none."""
    at = text.find(name)
    return int(text[at + len(name) :].split(None, 1)[0]) if at >= 0 else 0


def _content(path: str, most: int) -> bytes:
    """Return the beginning of a file; empty if it cannot be read. A third faster than `open`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, most)
    except OSError:
        return b""
    finally:
        os.close(fd)
