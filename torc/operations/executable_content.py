"""Reads all that would run of a workflow as it is now: the commands of jobs and everything beside them that is executed.

Reading (`stored`) comes apart from making of it what is shown, for that takes longer and needs no transaction. Names stand in the
place of ids, so that what is read before a change is undone is the same as after it was made. What is
shown of it, and its digest, are `torc.workflow.executable_content`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import RowMapping

from torc.operations.dispatch import Tx
from torc.operations.row_mapping import classes_of, workflow_row
from torc.planning.scheduler_types import ROW_KINDS
from torc.spec.executable_content import EXECUTING_SETTINGS, class_in_words, environment, fields_of, parts_of
from torc.store import executable, files, spec_rows, user_data
from torc.store.executable import ExecutableJob
from torc.store.files import GivenFile
from torc.store.json_columns import loads
from torc.store.requirements import StoredClass
from torc.store.spec_rows import ActionRecord, MentionRecord, NamedRecord
from torc.store.user_data import MentionedData
from torc.workflow.executable_content import (
    ExecutableContent,
    Parts,
    RequestedResources,
    SharedExecutable,
    ShownJob,
    visible,
)

_LONGEST_DATA = 2000
_WORD = re.compile(r"[^\s'\"`=:;,|&<>(){}\[\]$]+")
#: after these, no job of the workflow begins because of the change itself
_ENDING = frozenset({"on_workflow_complete", "on_worker_complete"})


class StoredJobs(NamedTuple):
    """What jobs run, as it stands in the tables, and the names of the user data that commands mention by their ids."""

    rows: Sequence[Any] = ()
    mentions: Mapping[tuple[int, str], Sequence[MentionRecord]] = {}
    data_names: Mapping[int, str] = {}


class StoredContent(NamedTuple):
    """What would run, as it stands in the tables."""

    workflow: RowMapping
    jobs: StoredJobs
    actions: Sequence[ActionRecord]
    named: Sequence[NamedRecord] = ()
    files: Sequence[GivenFile] = ()
    data: Sequence[MentionedData] = ()
    classes: Mapping[int, StoredClass] = {}
    with_jobs: bool = True


def stored(tx: Tx, workflow_id: int, *, due_only: bool = True, with_jobs: bool = True) -> StoredContent:
    """Read what would run: of the jobs that are due, of all of them, or what the end of a run fires alone."""
    row = workflow_row(tx, workflow_id)
    actions = spec_rows.actions(tx.db, tx.dialect, workflow_id)
    if not with_jobs:
        return StoredContent(row, StoredJobs(), actions, with_jobs=False)
    return StoredContent(
        row,
        stored_jobs(tx, workflow_id, due_only=due_only),
        actions,
        spec_rows.named(tx.db, tx.dialect, workflow_id),
        files.given(tx.db, tx.dialect, workflow_id),
        user_data.mentioned(tx.db, tx.dialect, workflow_id),
        classes_of(tx, workflow_id),
    )


def stored_jobs(tx: Tx, workflow_id: int, *, due_only: bool = False) -> StoredJobs:
    """Read what jobs run."""
    mentions = spec_rows.mentions(tx.db, tx.dialect, workflow_id)
    names = user_data.names(tx.db, tx.dialect, workflow_id) if mentions else {}
    return StoredJobs(executable.rows_of_jobs(tx.db, tx.dialect, workflow_id, due_only=due_only), mentions, names)


def content_of(found: StoredContent) -> ExecutableContent:
    """Return what would run."""
    if not found.with_jobs:
        return ExecutableContent((), _actions(found.actions, ending=True), ())
    made = executable.jobs(found.jobs.rows)
    jobs = _jobs(made, found.jobs)
    used = {number for job in made for number in (job.failure_handler_id, job.scheduler_id) if number is not None}
    shared = [
        *_actions(found.actions),
        *_of_workflow(found.workflow),
        *_named(found.named, used),
        *_scripts(found.files, jobs),
        *_user_data(found.data, {job.id for job in made}),
    ]
    counts = Counter(job.requirement_id for job in made)
    asked = [
        RequestedResources(class_in_words(found.classes[number].name, found.classes[number].request), counts[number])
        for number in sorted(counts, key=lambda number: found.classes[number].name)
    ]
    return ExecutableContent(jobs, shared, asked)


def shown_jobs(found: StoredJobs) -> dict[str, ShownJob]:
    """Return what jobs run, by name."""
    return {job.name: job for job in _jobs(executable.jobs(found.rows), found)}


def _jobs(jobs: Sequence[ExecutableJob], found: StoredJobs) -> list[ShownJob]:
    known: dict[Any, Parts] = {}

    def env_parts(env: Any) -> Parts:
        key = env if isinstance(env, str | None) else json.dumps(env, sort_keys=True)
        if key not in known:
            known[key] = environment(loads(env, {}))
        return known[key]

    made = []
    for job in jobs:
        texts = job.texts
        if found.mentions:
            texts = {
                field: text and _with_names(text, found.mentions.get((job.id, field), ()), found.data_names)
                for field, text in texts.items()
            }
        parts = parts_of(texts, env_parts(job.env))
        retried = job.recovery_script
        made.append(ShownJob(job.name, (*parts, ("recovery_script", retried)) if retried else parts))
    return made


def _with_names(command: str, mentions: Iterable[MentionRecord], names: Mapping[int, str]) -> str:
    for at, number in reversed(list(mentions)):
        command = f"{command[:at]}${{user_data {names[number]}}}{command[at + len(str(number)) :]}"
    return command


def _actions(actions: Sequence[ActionRecord], *, ending: bool = False) -> list[SharedExecutable]:
    made = []
    for action in actions:
        trigger = action.trigger_type
        if ending and trigger not in _ENDING:
            continue
        often = ", by each runner" if action.persistent or trigger.startswith("on_worker_") else ""
        parts = [("command", command) for command in action.commands]
        parts += fields_of(action.settings)
        title = f"action {action.position + 1}: {action.action_type} {trigger}{often}"
        made.append(SharedExecutable(title, tuple(parts)))
    return made


def _of_workflow(row: RowMapping) -> list[SharedExecutable]:
    env = environment(loads(row["env"], {}))
    settings = loads(row["settings"], {})
    made = [SharedExecutable("environment of every job", env)] if env else []
    for name in EXECUTING_SETTINGS:
        if fields := settings.get(name):
            made.append(SharedExecutable(f"how jobs are executed: {name}", tuple(fields_of(fields))))
    return made


def _named(rows: Sequence[NamedRecord], used: set[int]) -> list[SharedExecutable]:
    """Return the failure handlers that jobs have, and the schedulers, which actions name too."""
    nouns = {"failure_handler": "failure handler", **{kind: each.noun for kind, each in ROW_KINDS.items()}}
    return [
        SharedExecutable(f"{nouns[item.kind]} {visible(item.name)}", tuple(fields_of(item.fields)))
        for item in sorted(rows, key=attrgetter("kind", "name"))
        if item.kind in ROW_KINDS or (item.kind in nouns and item.id in used)
    ]


def _scripts(rows: Sequence[GivenFile], jobs: Sequence[ShownJob]) -> list[SharedExecutable]:
    """Return the files that commands name and no job writes, with what is stored of their content."""
    known = {file.path: file for file in rows}
    if not known:
        return []
    named = {word for job in jobs for _, part in job.parts for word in _WORD.findall(part) if word in known}
    if not named:
        return []
    parts = []
    for path in sorted(named):
        size, digest = known[path].size_bytes, known[path].sha256
        told = f"sha256 {digest}" if digest else "its content was not looked at yet"
        parts.append((path, told if size is None else f"{size} bytes, {told}"))
    return [SharedExecutable("files that commands name", tuple(parts))]


def _user_data(rows: Sequence[MentionedData], jobs: set[int]) -> list[SharedExecutable]:
    """Return the user data that commands of these jobs name and no job writes: a command can execute it."""
    found = {item.name: item.data for item in rows if item.job_id in jobs}
    if not found:
        return []
    parts = []
    for name in sorted(found):
        data: str = found[name]
        if len(data) > _LONGEST_DATA:
            digest = hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()
            data = f"{data[:_LONGEST_DATA]}\nand {len(data) - _LONGEST_DATA:,} more characters; sha256 of all: {digest}"
        parts.append((name, data))
    return [SharedExecutable("user data that commands name", tuple(parts))]
