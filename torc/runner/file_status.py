"""The state of a workflow's files on this machine's file system, which `reinitialize` compares.

Inputs that no job writes are recorded before a run and must not have changed by its end; files that jobs write for other jobs
are recorded after it. Contents are hashed only where no hash is known yet. Whether a job has written its outputs is checked
by the loop.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from torc.api.base import Torc
from torc.api.data import ListFiles
from torc.api.pagination import items_of
from torc.api.workflows import Changes, FileFact, GetWorkflow, RecordFiles, ReinitializeWorkflow
from torc.errors import Invalid

#: larger files are compared by size and modification time only: reading them could take longer than the run
LARGEST_HASHED_BYTES = 1 << 30
#: recorded as the hash of a file that cannot be read: equals no hash
_UNREADABLE = "unreadable"
_MOST_LISTED = 20
#: entries of a folder that are examined at most
_MOST_ENTRIES = 100_000
_PAGE = 10_000
_AT_ONCE = 100_000  # each request can cover all files of the workflow


@dataclass(frozen=True, slots=True)
class InputStatus:
    """The inputs as they were before the run. `since` is when they were examined, in seconds since the epoch."""

    workflow_id: int
    directory: str
    since: float
    inputs: dict[str, FileFact]


def look_at(directory: str, path: str) -> FileFact:
    """Return whether a path exists, its size and its modification time; for a folder, the total size and the latest time."""
    full = os.path.join(directory, path)
    try:
        info = os.stat(full)
    except (OSError, ValueError):
        return FileFact(path=path, exists=False)
    if stat.S_ISDIR(info.st_mode):
        size, latest = 0, info.st_mtime_ns
        for _, entry in _inside(full):
            size += 0 if stat.S_ISDIR(entry.st_mode) else entry.st_size
            latest = max(latest, entry.st_mtime_ns)
        return FileFact(path=path, exists=True, size_bytes=size, mtime_ns=latest)
    return FileFact(path=path, exists=True, size_bytes=info.st_size, mtime_ns=info.st_mtime_ns)


"""Add the SHA-256 of the content in hex, unless it is very large; for a folder, of all names and contents in it."""


def with_hash(directory: str, fact: FileFact) -> FileFact:
    """Add the SHA-256 of the content, in hex digits, unless it is very large; of a folder, of all names and contents in it."""
    if (fact.size_bytes or 0) > LARGEST_HASHED_BYTES:
        return fact
    full = os.path.join(directory, fact.path)
    try:
        digest = _digest_of_folder(full) if os.path.isdir(full) else _digest(full)
    except (OSError, ValueError):
        digest = _UNREADABLE
    return fact.model_copy(update={"sha256": digest})


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_folder(folder: str) -> str:
    lines = []
    for path, info in _inside(folder):
        content = ""
        if stat.S_ISREG(info.st_mode):
            content = _digest(path)
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        lines.append(f"{stat.S_IFMT(info.st_mode)}\0{os.path.relpath(path, folder)}\0{content}")
    return hashlib.sha256("\0\0".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _inside(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield what is in a folder, at any depth, up to a limit, as far as it is readable. Links are not followed."""
    paths = (os.path.join(root, name) for root, folders, names in os.walk(folder) for name in (*folders, *names))
    for path in islice(paths, _MOST_ENTRIES):
        with contextlib.suppress(OSError):
            yield path, os.lstat(path)


def look_before(torc: Torc, workflow_id: int, directory: str, now: float) -> InputStatus:
    """Record the inputs that no job writes. Raises Invalid, listing all of them, when some are missing."""
    inputs = {
        file.path: look_at(directory, file.path)
        for file in items_of(torc, ListFiles(workflow_id=workflow_id, required_existing=True, limit=_PAGE))
    }
    missing = [path for path, fact in inputs.items() if not fact.exists]
    if missing:
        raise _missing(missing, directory, workflow_id)
    _record(torc, workflow_id, list(inputs.values()), now)
    return InputStatus(workflow_id, directory, now, inputs)


def look_after(torc: Torc, seen: InputStatus) -> None:
    """Record what jobs have read: inputs that have not changed since before the run, and what jobs wrote for each other."""
    facts: dict[str, FileFact] = {}
    for file in items_of(torc, ListFiles(workflow_id=seen.workflow_id, read=True, limit=_PAGE)):
        fact = look_at(seen.directory, file.path)
        if file.producer is not None or seen.inputs.get(file.path) == fact:
            facts[file.path] = fact
    needed = _record(torc, seen.workflow_id, list(facts.values()), seen.since)
    hashed = [with_hash(seen.directory, facts[path]) for path in needed]
    _record(torc, seen.workflow_id, [fact for fact in hashed if fact.sha256 not in {None, _UNREADABLE}], seen.since)


def reinitialize(torc: Torc, request: ReinitializeWorkflow) -> Changes:
    """Send the request with the file facts that the server asks for until it returns the changes."""
    return answered(torc, request)[1]


def answered(torc: Torc, request: ReinitializeWorkflow) -> tuple[ReinitializeWorkflow, Changes]:
    """Like `reinitialize`, and also return the request with all facts, so that another client can send it."""
    directory = torc.send(GetWorkflow(workflow_id=request.workflow_id)).directory
    facts = {fact.path: fact for fact in request.files}
    while True:
        asked = request.model_copy(update={"files": list(facts.values())})
        reply = torc.send(asked)
        if reply.result is not None:
            return asked, reply.result
        facts |= {path: look_at(directory, path) for path in reply.needs_files}
        facts |= {path: with_hash(directory, facts[path]) for path in reply.needs_hash}


def _record(torc: Torc, workflow_id: int, facts: Sequence[FileFact], since: float) -> list[str]:
    needed: list[str] = []
    for start in range(0, len(facts), _AT_ONCE):
        part = list(facts[start : start + _AT_ONCE])
        reply = torc.send(RecordFiles(workflow_id=workflow_id, files=part, since=since))
        needed += reply.needs_hash
    return needed


def _missing(missing: Sequence[str], directory: str, workflow_id: int) -> Invalid:
    shown = "".join(f"\n  {path}" for path in missing[:_MOST_LISTED])
    more = f"\n  and {len(missing) - _MOST_LISTED} more" if len(missing) > _MOST_LISTED else ""
    one = len(missing) == 1
    return Invalid(
        f"{len(missing)} input file{' is' if one else 's are'} missing, and no job writes {'it' if one else 'them'}:"
        f"{shown}{more}",
        hint=f"put {'it' if one else 'them'} there (paths are relative to {directory}) and continue with: torc run {workflow_id}; "
        "or correct the paths in the spec and run it again",
        missing=list(missing),
    )
