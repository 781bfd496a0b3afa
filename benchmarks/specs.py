"""The specs that are measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def sweep(jobs: int, command: str = "true") -> dict[str, Any]:
    """Return a spec of equal jobs from one template."""
    return {
        "name": f"sweep_{jobs}",
        "jobs": [{"name": "job_{i:07d}", "command": command, "parameters": {"i": f"1:{jobs}"}}],
    }


def barrier(width: int) -> dict[str, Any]:
    """Return a spec in which `width` readers each need the files of `width` writers."""
    both = {"i": f"1:{width}", "j": f"1:{width}"}
    return {
        "name": f"barrier_{width}",
        "parameters": both,
        "files": [{"name": "part_{i}", "path": "parts/{i}.txt", "use_parameters": ["i"]}],
        "jobs": [
            {"name": "write_{i}", "command": "true", "use_parameters": ["i"], "output_files": ["part_{i}"]},
            {"name": "read_{j}", "command": "true", "use_parameters": ["j", "i"], "input_files": ["part_{i}"]},
        ],
    }


def chain(jobs: int) -> dict[str, Any]:
    """Return a spec in which each job waits for the one before it."""
    links: list[dict[str, Any]] = [{"name": "link_0", "command": "true"}]
    links += [{"name": f"link_{n}", "command": "true", "depends_on": [f"link_{n - 1}"]} for n in range(1, jobs)]
    return {"name": f"chain_{jobs}", "jobs": links}


def written_out(jobs: int) -> dict[str, Any]:
    """Return a spec in which every job is written out, as programs that make specs do."""
    return {
        "name": f"written_out_{jobs}",
        "resource_requirements": [{"name": "small", "num_cpus": 1, "memory": "100m", "runtime": "PT10M"}],
        "jobs": [
            {
                "name": f"job_{n}",
                "command": f"python3 simulate.py --case {n} --seed {n * 7}",
                "resource_requirements": "small",
                "priority": n % 10,
                "depends_on": [f"job_{n - 100}"] if n >= 100 else [],
            }
            for n in range(jobs)
        ],
    }


def save(spec: dict[str, Any], folder: Path) -> Path:
    """Write a spec as JSON."""
    path = folder / f"{spec['name']}.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path
