"""Find logs by their names, and read their ends. Reads files on this machine; whose they are is known to `torc.api`.

Links below a log folder are not followed, because jobs could create them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from torc.api.base import Torc
from torc.api.jobs import Job
from torc.api.provenance import GetProvenance
from torc.api.runs import ListResults
from torc.api.workflows import Workflow
from torc.planning.scheduler_types import SCHEDULER_TYPES, SchedulerName
from torc.runner import tail
from torc.runner.tail import FileTail

Kind = Literal["job", "runner", "worker", SchedulerName, "action", "other"]
#: number of bytes read from the end of a log
END_BYTES = 256 << 10
#: preceding lines are counted in files up to this size
_MOST_COUNTED_BYTES = 256 << 20
_JOB = re.compile(r"job_wf(?P<workflow>\d+)_j(?P<job>\d+)_r(?P<run>\d+)_a(?P<attempt>\d+)\.(?P<stream>[oe])")
_OTHERS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("runner", re.compile(r"job_runner_.+_wf(?P<workflow>\d+)_r\d+\.log")),
    ("worker", re.compile(r"torc_worker_wf(?P<workflow>\d+)_.+\.log")),
    *((each.name, re.compile(each.log_prefix + r"wf(?P<workflow>\d+)_.+\.[oe]")) for each in SCHEDULER_TYPES.values()),
    ("action", re.compile(r"action_wf(?P<workflow>\d+)_.+\.[oe]")),
)
_LOG_SUFFIXES = frozenset({".log", ".out", ".err", ".o", ".e", ".txt", ".stderr", ".stdout"})
_MOST_FILES = 200_000
_MOST_RUNNERS = 10_000


@dataclass(frozen=True, slots=True)
class LogPath:
    """A log file, and what its name says about it."""

    path: Path
    kind: Kind
    workflow: int | None = None
    job: int | None = None
    attempt: int | None = None
    is_error: bool = False


def named(path: Path) -> LogPath:
    """Parse the name of a log file."""
    found = _JOB.fullmatch(path.name)
    if found is not None:
        return LogPath(
            path, "job", int(found["workflow"]), int(found["job"]), int(found["attempt"]), found["stream"] == "e"
        )
    for kind, pattern in _OTHERS:
        if (other := pattern.fullmatch(path.name)) is not None:
            return LogPath(path, kind, int(other["workflow"]), is_error=path.suffix == ".e")
    return LogPath(path, "other")


def walk(folder: Path) -> Iterator[LogPath]:
    """Yield the logs below a folder, ordered by name; links are not followed."""
    seen = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            found = named(path)
            if (found.kind != "other" or path.suffix in _LOG_SUFFIXES) and path.is_file() and not path.is_symlink():
                seen += 1
                if seen > _MOST_FILES:
                    return
                yield found


def folders(torc: Torc, workflow: Workflow, given: Path | None, default: Path) -> list[Path]:
    """Return the local folders that may contain logs of a workflow, most likely first.

    `given` is the user's choice, and then the only folder; otherwise those that runners have reported, and `default` below the
    workflow's directory or here.
    """
    if given is not None:
        return [path for path in (given.absolute(), Path(workflow.directory, given)) if path.is_dir()][:1]
    told = torc.send(GetProvenance(workflow_id=workflow.id, limit=_MOST_RUNNERS)).runners
    recorded = [Path(runner.output_dir) for runner in reversed(told) if runner.output_dir]
    likely = dict.fromkeys([*recorded, Path(workflow.directory, default), default.absolute()])
    return [path for path in likely if path.is_dir()]


def of_attempt(found: Sequence[Path], workflow_id: int, job_id: int, attempt: int, run_id: int | None) -> list[LogPath]:
    """Return the logs of an attempt, standard output first, from the first folder that has any of them."""
    for folder in found:
        for place in (folder / "job_stdio", folder, *_machines(folder)):
            if place != folder and place.is_symlink():
                continue
            files = _in_place(place, f"job_wf{workflow_id}_j{job_id}_r", f"_a{attempt}", run_id)
            if files:
                return files
    return []


def run_of(torc: Torc, job: Job, attempt: int, present: int) -> int | None:
    """Return the run to which an attempt belongs; `present` is the workflow's current run. None if unknown."""
    results = torc.send(ListResults(workflow_id=job.workflow_id, job_id=job.id, limit=1000)).items
    ended = next((result.run_id for result in results if result.attempt == attempt), None)
    return ended if ended is not None else present if attempt == job.attempt else None


def _machines(folder: Path) -> list[Path]:
    """Return the folders of machines whose logs were collected here."""
    try:
        return [
            Path(entry.path, "job_stdio")
            for entry in os.scandir(folder)
            if entry.is_dir(follow_symlinks=False) and entry.name != "job_stdio"
        ]
    except OSError:
        return []


def _in_place(place: Path, stem: str, end: str, run_id: int | None) -> list[LogPath]:
    if run_id is not None:
        paths: Iterable[Path] = (place / f"{stem}{run_id}{end}.{stream}" for stream in "oe")
    else:  # a folder may contain a million files: search it only if the run is unknown
        paths = reversed(sorted(place.glob(f"{stem}*{end}.[oe]")))
    return [named(path) for path in paths if path.is_file() and not path.is_symlink()]


def where_else(
    torc: Torc, workflow_id: int, job_id: int, attempt: int, here: str, runner_id: int | None = None
) -> tuple[str, str | None] | None:
    """Return the machine, other than this one, and the folder of an attempt's logs; None if local or unknown.

    `runner_id`: the runner that holds the job, if any.
    """
    results = torc.send(ListResults(workflow_id=workflow_id, job_id=job_id, limit=1000)).items
    runner_id = next((result.runner_id for result in results if result.attempt == attempt), runner_id)
    for runner in torc.send(GetProvenance(workflow_id=workflow_id, limit=_MOST_RUNNERS)).runners:
        if runner.runner_id == runner_id and runner.host != here:
            return runner.host, runner.output_dir
    return None


def end_of(path: Path, most_bytes: int = END_BYTES) -> FileTail | None:
    """Return the end of a file as text; None if it is unreadable, empty or not text."""
    end = tail.end_of(path, most_bytes, most_counted_bytes=_MOST_COUNTED_BYTES)
    return None if end is None or end.is_binary else end


def place_of_last_lines(file: BinaryIO, number: int) -> int:
    """Return the position at which the last `number` lines of a file start."""
    at = file.seek(0, os.SEEK_END)
    wanted = number + 1
    is_last = True
    while at > 0:
        size = min(1 << 16, at)
        at -= size
        file.seek(at)
        block = file.read(size)
        if is_last and not block.endswith(b"\n"):
            wanted -= 1  # the last line is not terminated
        is_last = False
        if block.count(b"\n") >= wanted:
            place = len(block)
            for _ in range(wanted):
                place = block.rfind(b"\n", 0, place)
            return at + place + 1
        wanted -= block.count(b"\n")
    return 0
