"""What this machine's file system says of the files of a workflow, for `reinitialize` to compare.

Inputs that no job writes are looked at before a run and must not have changed by its end; what jobs write for others is
looked at after it. Contents are hashed only where nothing is known of them yet. Not for output files that a job must
have written: the loop checks those.
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

#: larger files are compared by size and time alone: reading them could take longer than the run
LARGEST_HASHED_BYTES = 1 << 30
#: stands for the content of a file that cannot be read: no hash equals it
_UNREADABLE = "unreadable"
_MOST_LISTED = 20
#: of a folder that are looked at
_MOST_ENTRIES = 100_000
_PAGE = 10_000
_AT_ONCE = 100_000  # each request looks at all files of the workflow


@dataclass(frozen=True, slots=True)
class InputStatus:
    """How the inputs looked before the run. `since` is when that was, in seconds since the epoch."""

    workflow_id: int
    directory: str
    since: float
    inputs: dict[str, FileFact]


def look_at(directory: str, path: str) -> FileFact:
    """Look at a file: whether it is there, its size and its time; of a folder, the sum and the latest of all that is in it."""
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
    """Return what is in a folder, at any depth, up to a limit, so far as it can be seen. Links are not followed."""
    paths = (os.path.join(root, name) for root, folders, names in os.walk(folder) for name in (*folders, *names))
    for path in islice(paths, _MOST_ENTRIES):
        with contextlib.suppress(OSError):
            yield path, os.lstat(path)


def look_before(torc: Torc, workflow_id: int, directory: str, now: float) -> InputStatus:
    """Look at the inputs that no job writes and record them. Raises Invalid, with all of them, when some are missing."""
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
    """Record what jobs have read: inputs that are as they were before, and what jobs wrote for each other."""
    facts: dict[str, FileFact] = {}
    for file in items_of(torc, ListFiles(workflow_id=seen.workflow_id, read=True, limit=_PAGE)):
        fact = look_at(seen.directory, file.path)
        if file.producer is not None or seen.inputs.get(file.path) == fact:
            facts[file.path] = fact
    needed = _record(torc, seen.workflow_id, list(facts.values()), seen.since)
    hashed = [with_hash(seen.directory, facts[path]) for path in needed]
    _record(torc, seen.workflow_id, [fact for fact in hashed if fact.sha256 not in {None, _UNREADABLE}], seen.since)


def reinitialize(torc: Torc, request: ReinitializeWorkflow) -> Changes:
    """Answer what a ReinitializeWorkflow asks about files until it gives the changes."""
    return answered(torc, request)[1]


def answered(torc: Torc, request: ReinitializeWorkflow) -> tuple[ReinitializeWorkflow, Changes]:
    """Do so, and give the request with all the answers, too: somebody else may send it."""
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
        hint=f"put {'it' if one else 'them'} there (paths are relative to {directory}) and go on with: torc run {workflow_id}; "
        "or mend the paths in the spec, and run that anew",
        missing=list(missing),
    )
