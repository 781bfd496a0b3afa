"""What the figures were measured on: absolute times mean nothing without it."""

from __future__ import annotations

import os
import platform
import sqlite3
from pathlib import Path


def describe() -> dict[str, str]:
    """Describe processor, memory, system, Python and how busy the machine was."""
    return {
        "processor": _first_value(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "cpus usable": str(len(os.sched_getaffinity(0))),
        "memory": _first_value(Path("/proc/meminfo"), "MemTotal") or "unknown",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _first_value(path: Path, key: str) -> str | None:
    if not path.exists():
        return None
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
