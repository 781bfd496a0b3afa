"""What this node has, and who this process is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from torc.core.resources import Capacity

#: kept for the system and the runner, so that it outlives the job that it must report on
_HEADROOM = 0.03
_MOST_HEADROOM = 512 << 20
_NVIDIA_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, told apart from any other that may get its pid later."""

    host: str
    pid: int
    process_started: str  # TICKS@NAMESPACE: start in clock ticks since boot, and the namespace that its pid belongs to
    boot_id: str


def node() -> tuple[Capacity, tuple[int, ...]]:
    """Give what this process may use of the node: CPUs by affinity and cgroup quota, memory, and GPU indexes."""
    gpus = gpu_indexes()
    return Capacity(_num_cpus(), _memory_bytes(), len(gpus)), gpus


def identity() -> Identity:
    """Tell who this process is."""
    return Identity(socket.gethostname(), os.getpid(), f"{start_ticks(os.getpid())}@{pid_namespace()}", boot_id())


def mark(pid: int, process_started: str) -> str:
    """Name a runner's process, for the environment of what it starts."""
    return f"{pid}.{process_started}"


def start_ticks(pid: int) -> int | None:
    """Give the start of a process in clock ticks since boot (/proc/PID/stat, field 22); None: it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def pid_namespace() -> str:
    """Give what tells the pids of one container from those of another on the same machine; empty: cannot be told."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def boot_id() -> str:
    """Give what tells one boot of this machine from another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _num_cpus() -> int:
    count = len(os.sched_getaffinity(0))
    quota = _cgroup_value("cpu.max")
    if quota and not quota.startswith("max"):
        allowed, period = (int(part) for part in quota.split())
        count = min(count, max(1, allowed // period))
    return count


def _memory_bytes() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _cgroup_value("memory.max")
    if limit and limit.isdigit():
        total = min(total, int(limit))
    return total - min(int(total * _HEADROOM), _MOST_HEADROOM)


def _cgroup_value(name: str) -> str | None:
    """Read a file of this process's cgroup (v2), or None."""
    try:
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::"):
                return (Path("/sys/fs/cgroup") / line[3:].lstrip("/") / name).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None


def gpu_indexes() -> tuple[int, ...]:
    """Give the indexes of the NVIDIA GPUs that this process may use: CUDA_VISIBLE_DEVICES, else what nvidia-smi lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(int(part) for part in visible.split(",") if part.strip().isdigit())
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=_NVIDIA_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(int(line) for line in done.stdout.split() if line.strip().isdigit())
