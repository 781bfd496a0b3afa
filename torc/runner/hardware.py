"""The resources of this node, and the identity of this process."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from torc.processes import boot_id, pid_namespace, start_ticks
from torc.workflow.resources import Capacity

#: reserved for the system and for the runner, which must survive a job in order to report on it
_HEADROOM = 0.03
_MOST_HEADROOM = 512 << 20
_NVIDIA_SECONDS = 10
_GPU_NAME = re.compile(r"[0-9]+|(GPU|MIG)-[0-9A-Za-z/-]+")
_PROC, _CGROUPS = Path("/proc/self"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Identifies a process even after its pid is reused."""

    host: str
    pid: int
    process_started: str  # TICKS@NAMESPACE: start in clock ticks since boot, and its pid namespace
    boot_id: str


def node() -> tuple[Capacity, tuple[str, ...]]:
    """Return what this process may use of the node: CPUs by affinity and cgroup quota, memory, and GPU names."""
    gpus = gpu_names()
    return Capacity(_num_cpus(), _memory_bytes(), len(gpus)), gpus


def identity() -> ProcessIdentity:
    return ProcessIdentity(
        socket.gethostname(), os.getpid(), f"{start_ticks(os.getpid())}@{pid_namespace()}", boot_id()
    )


def mark(pid: int, process_started: str, runner_id: int | None = None) -> str:
    """Return a name for a process, or for one of its runners, that is put into the environment of what it starts."""
    return f"{pid}.{process_started}." + ("" if runner_id is None else f"{runner_id}-")


def _num_cpus() -> int:
    count = len(os.sched_getaffinity(0))
    for quota in _cgroup_cpus():
        count = min(count, max(1, int(quota)))
    return count


def memory_limit() -> int:
    """Return the memory limit in bytes that this process shares with the others in its control groups."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_cgroup_memory()])


def _memory_bytes() -> int:
    total = memory_limit()
    return total - min(int(total * _HEADROOM), _MOST_HEADROOM)


def _cgroup_cpus() -> Iterator[float]:
    """Yield the CPU limits of this process's control groups (cgroups(7); version 2: cpu.max, version 1: CFS quota)."""
    for line in _cgroup_files("cpu.max"):
        quota, _, period = line.partition(" ")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)
    quotas, periods = (_cgroup_files(f"cpu.cfs_{name}_us", "cpu") for name in ("quota", "period"))
    for quota, period in zip(quotas, periods, strict=False):
        if quota.isdigit() and period.isdigit():  # -1: no limit
            yield int(quota) / int(period)


def _cgroup_memory() -> list[int]:
    """Return the memory limits of this process's control groups in bytes; limits above the machine's memory are left out."""
    found = [*_cgroup_files("memory.max"), *_cgroup_files("memory.limit_in_bytes", "memory")]
    return [int(limit) for limit in found if limit.isdigit()]


def oom_kills() -> int | None:
    """Return the number of OOM kills in this process's control group; None if there is no group or no count."""
    for line in _lines_of(_PROC / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if path == "/":
            continue
        if controllers == "":
            table = _lines_of(_CGROUPS / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            table = _lines_of(_CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control")
        else:
            continue
        for name, _, number in (entry.partition(" ") for entry in table):
            if name == "oom_kill" and number.isdigit():
                return int(number)
    return None


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _cgroup_files(name: str, controller: str = "") -> Iterator[str]:
    """Yield a file's content for this process's group and each ancestor; the strictest limit holds. `controller`: of version 1."""
    try:
        lines = (_PROC / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        root = _CGROUPS / controller
        group = root / path.lstrip("/")
        if not group.is_dir():  # inside a container its own group appears as the root
            group = root
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                with contextlib.suppress(OSError):
                    yield (folder / name).read_text(encoding="ascii").strip()


def gpu_names() -> tuple[str, ...]:
    """Return the NVIDIA GPUs that this process may use, from CUDA_VISIBLE_DEVICES or else nvidia-smi.

    Indexes, and names of GPUs and of GPU slices; as in CUDA, the list ends at the first invalid entry
    (https://docs.nvidia.com/cuda/cuda-c-programming-guide/#env-vars).
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return tuple(dict.fromkeys(takewhile(_GPU_NAME.fullmatch, names)))
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line for line in done.stdout.split() if line.isdigit())
