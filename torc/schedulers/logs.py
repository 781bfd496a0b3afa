"""What the cluster and the runners wrote beside the jobs: `slurm_output_wf{W}_sl{S}.o/.e`, read for what went wrong.

Not for the output of jobs: that is in `job_stdio/`, and `torc workflows diagnose` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torc.errors import NotFound
from torc.failures.diagnosis import Log, LogFinding, tellings
from torc.files import open_log
from torc.planning.scheduler_types import SCHEDULER_TYPES

_PREFIXES = tuple(each.log_prefix for each in SCHEDULER_TYPES.values())
_NAME = re.compile(rf"^(?:{'|'.join(_PREFIXES)})wf(\d+)_sl([\w.]+)\.[oe]\Z")
_LONGEST_LINE = 300
_MOST_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class AllocationLogs:
    """The files of one allocation, and what they tell. `job`: the cluster's id; None where the name does not say."""

    job: str | None
    files: tuple[str, ...]
    tellings: tuple[LogFinding, ...]


def find_logs(folder: Path, workflow_id: int | None) -> list[Path]:
    """Find the files in the output directory of a workflow. Raises NotFound."""
    found = [
        path
        for prefix in _PREFIXES
        for path in sorted(folder.glob(f"{prefix}wf*_sl*"))
        if (match := _NAME.match(path.name)) and workflow_id in {None, int(match[1])}
    ]
    if not found:
        of = "" if workflow_id is None else f" of workflow {workflow_id}"
        raise NotFound(
            f"there is no output of allocations{of} in {folder}",
            hint="name its folder with --output-dir, or a file with --file",
        )
    return found


def read_logs(paths: Iterable[Path]) -> list[AllocationLogs]:
    """Read files for what they tell; those of one allocation together. Raises NotFound."""
    groups: dict[tuple[str | None, str], list[Path]] = {}
    for path in paths:
        match = _NAME.match(path.name)
        key = (match[2], "") if match else (None, str(path))
        groups.setdefault(key, []).append(path)
    return [
        AllocationLogs(job, tuple(map(str, files)), tellings(tuple(map(_log, files))))
        for (job, _), files in groups.items()
    ]


def last_lines(folder: Path, workflow_id: int, job: str, most: int = 6) -> list[str]:
    """Return the last lines that an allocation has written, errors first; none where it has written nothing, or none can be read."""
    stems = [f"{prefix}wf{workflow_id}_sl{job.partition('@')[0]}" for prefix in _PREFIXES]
    for path in (folder / f"{stem}{suffix}" for stem in stems for suffix in (".e", ".o")):
        try:
            text = _log(path).text
        except NotFound:
            continue
        lines = [line.rstrip()[:_LONGEST_LINE] for line in text.splitlines() if line.strip()]
        if lines:
            return lines[-most:]
    return []


def _log(path: Path) -> Log:
    try:
        with open_log(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _MOST_BYTES))
            text = file.read(_MOST_BYTES).decode(errors="replace")
            first = 1 if size <= _MOST_BYTES else None
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from None
    return Log(path.name, text, first)
