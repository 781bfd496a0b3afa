"""Identifies processes beyond their pids, which are used again, and boots of this machine (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (/proc/PID/stat, field 22); None: it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def pid_namespace() -> str:
    """Return an id that distinguishes the pids of containers on one machine; empty when unknown."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def boot_id() -> str:
    """Return an id that distinguishes one boot of this machine from another; empty when unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
