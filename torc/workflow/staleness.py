"""Which finished jobs must run again because something that their results depend on has changed, and why.

A result depends on the command, the invocation script, the environment, the user data and the files that the job read, and its
output files must exist. Resources, priorities and names do not count. Files are compared by size and time first, and by content
only in doubt, so that a mere `touch` reruns nothing. File observations are passed in; this module reads no files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from torc.workflow.graph import JobGraph
from torc.workflow.states import UNSUCCESSFUL, State

_DIGITS = 16  # hex digits of a hash: 64 bits suffice to distinguish versions of one command
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_MOST_NAMED = 8  # user data beyond this many are hashed together


class FileObservation(NamedTuple):
    """What is known of a file, now or at the last run. `exists` False: nothing is there."""

    exists: bool
    size_bytes: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None


MISSING = FileObservation(exists=False)


def to_record(
    recorded: FileObservation | None, now: FileObservation, *, in_use: bool
) -> tuple[FileObservation | None, bool]:
    """Decide what to record about a file after a run: (the new record or None, whether its hash is needed).

    While `in_use`, results that depend on the old content are kept: the record stays, so that the change is noticed later. A new
    time and a missing hash are added if the content is certainly the same.
    """
    if not now.exists:
        return None, False
    looks_same = recorded is not None and recorded[:3] == now[:3]
    if recorded is not None and in_use and not looks_same:
        if recorded.sha256 is None or recorded.size_bytes != now.size_bytes:
            return None, False  # changed, or unknown
        return (now if now.sha256 == recorded.sha256 else None), now.sha256 is None
    digest = now.sha256 or (recorded.sha256 if recorded is not None and looks_same else None)
    new = now._replace(sha256=digest)
    return (None if new == recorded else new), digest is None


@dataclass(frozen=True, slots=True)
class TrackedFile:
    """A file of the workflow: what the last run recorded about it (None: nothing), and its current state."""

    path: str
    recorded: FileObservation | None
    now: FileObservation


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What is known about all jobs, by index."""

    names: Sequence[str]
    states: Sequence[State]
    recorded: Sequence[str | None]  # fingerprints of the last success; None: unchanged since
    current: Sequence[str]  # current fingerprints
    input_set_of: Sequence[int | None]  # index into `input_sets`
    input_sets: Sequence[Sequence[int]]  # the files of each set
    outputs: Sequence[Sequence[int]]  # the files that each job writes
    also: Sequence[str | None] = ()  # other known changes to each job; empty: none to any


@dataclass(frozen=True, slots=True)
class Reruns:
    """The jobs that must run again, each with the reason, in job order.

    While `needs_hash` is not empty, the contents of those files must be hashed before the answer is final.
    """

    reasons: Mapping[int, str]
    needs_hash: tuple[str, ...] = ()


#: what fingerprints call the fields of jobs, in the order in which changes are named; others go by their own names
_PARTS = {"command": "command", "invocation_script": "invocation script", "env": "environment"}
_USER_DATA = "user data"


def fingerprint(executed: Mapping[str, Any], user_data: Mapping[str, Any]) -> str:
    """Return a text that changes exactly when one of these does; `fingerprint_changes` then tells which.

    `executed` has the fields of a job that determine what it runs, with the workflow's variables merged into `env`;
    `user_data` is what the job reads, by name.
    """
    hashes = {name: _hash(data) for name, data in user_data.items()}
    parts = _executed(executed)
    if hashes:
        parts[_USER_DATA] = hashes if len(hashes) <= _MOST_NAMED else _hash(hashes)
    return _encode(parts)


def attempt_fingerprint(name: str, executed: Mapping[str, Any], user_data: str | None) -> str:
    """Return the fingerprint of what one attempt runs, to reject its result if the job has been edited since.

    The name is included because a restored store may assign a job id to another job. `user_data` is the `hash_of_texts` of what the
    job reads.
    """
    parts = _executed(executed)
    parts["job"] = _hash(name)
    if user_data is not None:
        parts[_USER_DATA] = user_data
    return _encode(parts)


def _executed(executed: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _PARTS.get(name, name): _hash(value) for name, value in executed.items() if value is not None and value != {}
    }


def hash_of_texts(texts: Mapping[str, str | None]) -> str:
    """Return a hash of named texts."""
    return _hash({name: None if text is None else _hash(text) for name, text in texts.items()})


def _hash(value: object) -> str:
    return sha256(_encode(value).encode()).hexdigest()[:_DIGITS]


def fingerprint_changes(recorded: str, current: str) -> tuple[str, ...]:
    """Return what differs between two fingerprints: `command changed`, `user data x changed`. Empty: nothing."""
    if recorded == current:
        return ()
    old, new = json.loads(recorded), json.loads(current)
    parts = ["job", *_PARTS.values(), *sorted((old.keys() | new.keys()) - {"job", *_PARTS.values(), _USER_DATA})]
    reasons = [f"{part} changed" for part in parts if old.get(part) != new.get(part)]
    was, now = old.get(_USER_DATA), new.get(_USER_DATA)
    if isinstance(was, dict) and isinstance(now, dict):
        names = sorted(was.keys() | now.keys())
        reasons += [f"user data {name} changed" for name in names if was.get(name) != now.get(name)]
    elif was != now:
        reasons.append("user data changed")
    return tuple(reasons)


@dataclass(slots=True)
class _FileJudge:
    """Compares files, each once, and collects those that must be hashed."""

    files: Sequence[TrackedFile]
    hash_of: Callable[[str], str | None]
    verdicts: dict[int, str | None] = field(default_factory=dict)
    needs_hash: dict[str, None] = field(default_factory=dict)

    def verdict(self, index: int) -> str | None:
        """Return what happened to an input file, or None if it is unchanged."""
        if index not in self.verdicts:
            self.verdicts[index] = self._judge(self.files[index])
        return self.verdicts[index]

    def _judge(self, file: TrackedFile) -> str | None:
        recorded, now = file.recorded, file.now
        if not now.exists:
            return "is missing"
        if recorded is None or not recorded.exists:
            return "is new"
        if recorded.size_bytes != now.size_bytes:
            return "changed"
        if recorded.mtime_ns == now.mtime_ns:
            return None
        content = now.sha256 or self.hash_of(file.path)
        if content is None and recorded.sha256 is not None:
            self.needs_hash[file.path] = None
        return None if content is not None and content == recorded.sha256 else "changed"


def find_reruns(
    graph: JobGraph,
    jobs: JobFacts,
    files: Sequence[TrackedFile],
    hash_of: Callable[[str], str | None] = lambda path: None,
) -> Reruns:
    """Find the jobs that must run again.

    Unsuccessful jobs always run again, disabled ones never; unfinished ones run anyway and are not listed; everything that completed
    downstream of a job that runs (again) runs again. `hash_of(path)` returns the SHA-256 of a file's current content in hex, or None
    if it is not known yet; it is called at most once per file, and only if size and time leave doubt.
    """
    judge = _FileJudge(files, hash_of)
    input_reasons = [_input_reason(judge, members) for members in jobs.input_sets]
    reasons: dict[int, str] = {}
    runs: list[int] = []
    for job, state in enumerate(jobs.states):
        if state in UNSUCCESSFUL:
            reasons[job] = f"it was {state} before" if state is not State.PENDING_FAILED else "it failed before"
        elif state is State.COMPLETED:
            reason = _own_reason(job, jobs, input_reasons, files)
            if reason is not None:
                reasons[job] = reason
        if job in reasons or state not in (State.COMPLETED, State.DISABLED):
            runs.append(job)
    _add_downstream(graph, jobs, reasons, runs)
    return Reruns(dict(sorted(reasons.items())), tuple(judge.needs_hash))


def _input_reason(judge: _FileJudge, members: Sequence[int]) -> str | None:
    changed = [(judge.files[index].path, verdict) for index in members if (verdict := judge.verdict(index))]
    if not changed:
        return None
    path, verdict = changed[0]
    more = f" (and {len(changed) - 1} more inputs)" if len(changed) > 1 else ""
    return f"input file {path} {verdict}{more}"


def _own_reason(
    job: int, jobs: JobFacts, input_reasons: Sequence[str | None], files: Sequence[TrackedFile]
) -> str | None:
    recorded = jobs.recorded[job]
    reasons = [] if recorded is None else list(fingerprint_changes(recorded, jobs.current[job]))
    if jobs.also and jobs.also[job]:
        reasons.append(jobs.also[job] or "")
    input_set = jobs.input_set_of[job]
    reason = None if input_set is None else input_reasons[input_set]
    if reason is not None:
        reasons.append(reason)
    missing = [files[index].path for index in jobs.outputs[job] if not files[index].now.exists]
    if missing:
        more = f" (and {len(missing) - 1} more outputs)" if len(missing) > 1 else ""
        reasons.append(f"output {missing[0]} is missing{more}")
    return "; ".join(reasons) or None


def _add_downstream(graph: JobGraph, jobs: JobFacts, reasons: dict[int, str], runs: list[int]) -> None:
    """Add completed jobs downstream of jobs that run. Visits each gate once."""
    passed = bytearray(len(graph.gates))
    for job in runs:  # grows during the loop
        for gate in graph.gates_held_by(job):
            if passed[gate]:
                continue
            passed[gate] = 1
            for behind in graph.waiters(gate):
                if jobs.states[behind] is State.COMPLETED and behind not in reasons:
                    verb = "reruns" if job in reasons else "has yet to run"
                    reasons[behind] = f"upstream job {jobs.names[job]} {verb}"
                    runs.append(behind)
