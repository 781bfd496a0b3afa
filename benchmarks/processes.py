"""Run a command and take the kernel's account of it: wall time, CPU time, peak memory.

Not for commands that are meant to fail: a benchmark of a broken command would be a fast lie.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PYTHON = sys.executable
#: the program as a user starts it
TORC = (str(Path(sys.executable).with_name("torc")),)
MAX_RSS_UNIT = 1024  # Linux counts ru_maxrss in KiB


@dataclass(frozen=True, slots=True)
class Account:
    """What a finished command took. CPU and memory include the children that it waited for (memory: the largest)."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


class CommandFailed(Exception):
    """A command that is measured ended with another exit code than 0."""


def run(argv: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> Account:
    """Run a command in a folder, its output to a file there, and account for it. Raises CommandFailed."""
    log = folder / "output.log"
    with log.open("wb") as output:
        began = time.perf_counter()
        child = subprocess.Popen(
            argv,
            cwd=folder,
            env=None if env is None else {**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall_seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise CommandFailed(f"{' '.join(argv)} ended with {child.returncode}:\n{tail}")
    return Account(wall_seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * MAX_RSS_UNIT)


def own_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a live process without its children. Format: proc(5), fields 14 and 15 of stat."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Return the pids of a process's children, whichever of its threads started them; none when it has ended."""
    try:
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text(encoding="utf-8").split()
        ]
    except FileNotFoundError:
        return []


def resident_bytes(pid: int) -> int:
    """Return the memory of a live process that is in RAM, in bytes (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
