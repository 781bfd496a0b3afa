"""Reads all that would run of a workflow as it is now: the commands of jobs and everything beside them that is executed.

Names stand in the place of ids, so that what is read before a change is undone is the same as after it was made. What is
shown of it, and its digest, are `torc.workflow.executable_content`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import RowMapping, text

from torc.operations.dispatch import Tx
from torc.operations.row_mapping import classes_of, workflow_row
from torc.spec.executable_content import EXECUTING_SETTINGS, class_in_words, environment, fields_of, parts_of
from torc.store.json_columns import loads
from torc.workflow.executable_content import (
    ExecutableContent,
    Parts,
    RequestedResources,
    SharedExecutable,
    ShownJob,
    visible,
)
from torc.workflow.states import FINISHED

_JOBS = (
    "SELECT id, name, command, invocation_script, env, requirement_id, failure_handler_id, scheduler_id, recovery FROM job "
    "WHERE workflow_id = :id{where} ORDER BY id"
)
#: what a run goes on with, too: jobs that the end of an allocation interrupted
_DUE = (
    f" AND (state NOT IN ({', '.join(repr(state.value) for state in sorted(FINISHED))}) "
    "OR (state = 'terminated' AND NOT counted))"
)
_MENTIONS = (
    "SELECT m.job_id, m.field, m.at, u.id, u.name FROM mention m JOIN user_data u ON u.id = m.user_data_id "
    "WHERE u.workflow_id = :id ORDER BY m.job_id, m.field, m.at"
)
_ACTIONS = text(
    "SELECT position, trigger_type, action_type, commands, settings, persistent FROM action WHERE workflow_id = :id ORDER BY position"
)
_NAMED = text("SELECT id, kind, name, fields FROM named WHERE workflow_id = :id ORDER BY kind, name")
_FILES = "SELECT path, size_bytes, sha256 FROM file WHERE workflow_id = :id AND producer_job_id IS NULL ORDER BY path"
#: what no job writes: it is the same until somebody changes it
_READ_DATA = (
    "SELECT DISTINCT m.job_id, u.name, u.data FROM mention m JOIN user_data u ON u.id = m.user_data_id "
    "WHERE u.workflow_id = :id AND u.producer_job_id IS NULL AND u.data IS NOT NULL"
)
_LONGEST_DATA = 2000
_WORD = re.compile(r"[^\s'\"`=:;,|&<>(){}\[\]$]+")
#: after these, no job of the workflow begins because of the change itself
_ENDING = frozenset({"on_workflow_complete", "on_worker_complete"})


def content_of(tx: Tx, workflow_id: int, *, due_only: bool = True, with_jobs: bool = True) -> ExecutableContent:
    """Read what would run: of the jobs that are due, of all of them, or what the end of a run fires alone."""
    row = workflow_row(tx, workflow_id)
    if not with_jobs:
        return ExecutableContent((), _actions(tx, workflow_id, ending=True), ())
    rows = tx.dialect.fetch(tx.db, _JOBS.format(where=_DUE if due_only else ""), {"id": workflow_id})
    jobs = _jobs(tx, workflow_id, rows)
    used = {number for found in rows for number in (found[6], found[7]) if number is not None}
    shared = [
        *_actions(tx, workflow_id),
        *_of_workflow(row),
        *_named(tx, workflow_id, used),
        *_scripts(tx, workflow_id, jobs),
        *_user_data(tx, workflow_id, {found[0] for found in rows}),
    ]
    classes = classes_of(tx, workflow_id)
    counts = Counter(found[5] for found in rows)
    asked = [
        RequestedResources(class_in_words(classes[number].name, classes[number].request), counts[number])
        for number in sorted(counts, key=lambda number: classes[number].name)
    ]
    return ExecutableContent(jobs, shared, asked)


def all_jobs(tx: Tx, workflow_id: int) -> dict[str, ShownJob]:
    """Read every job of a workflow, by name."""
    rows = tx.dialect.fetch(tx.db, _JOBS.format(where=""), {"id": workflow_id})
    return {job.name: job for job in _jobs(tx, workflow_id, rows)}


def _jobs(tx: Tx, workflow_id: int, rows: Sequence[Any]) -> list[ShownJob]:
    mentions: dict[tuple[int, str], list[tuple[int, int, str]]] = defaultdict(list)
    for job, field, at, number, name in tx.dialect.fetch(tx.db, _MENTIONS, {"id": workflow_id}):
        mentions[job, field].append((at, number, name))
    known: dict[Any, Parts] = {}

    def env_parts(env: Any) -> Parts:
        key = env if isinstance(env, str | None) else json.dumps(env, sort_keys=True)
        if key not in known:
            known[key] = environment(loads(env, {}))
        return known[key]

    made = []
    for number, name, command, script, env, _, _, _, recovery in rows:
        named = _with_names(command, mentions.get((number, "command"), ())) if mentions else command
        wrapped = (
            _with_names(script, mentions.get((number, "invocation_script"), ())) if script and mentions else script
        )
        parts = parts_of(named, wrapped, env_parts(env))
        retried = loads(recovery, {}).get("script") if recovery else None
        made.append(ShownJob(name, (*parts, ("recovery_script", retried)) if retried else parts))
    return made


def _with_names(command: str, mentions: Iterable[tuple[int, int, str]]) -> str:
    for at, number, name in reversed(list(mentions)):
        command = f"{command[:at]}${{user_data {name}}}{command[at + len(str(number)) :]}"
    return command


def _actions(tx: Tx, workflow_id: int, *, ending: bool = False) -> list[SharedExecutable]:
    made = []
    for position, trigger, kind, commands, settings, persistent in tx.db.execute(_ACTIONS, {"id": workflow_id}):
        if ending and trigger not in _ENDING:
            continue
        often = ", by each runner" if persistent or trigger.startswith("on_worker_") else ""
        parts = [("command", command) for command in loads(commands, [])]
        parts += fields_of(loads(settings, {}))
        made.append(SharedExecutable(f"action {position + 1}: {kind} {trigger}{often}", tuple(parts)))
    return made


def _of_workflow(row: RowMapping) -> list[SharedExecutable]:
    env = environment(loads(row["env"], {}))
    settings = loads(row["settings"], {})
    made = [SharedExecutable("environment of every job", env)] if env else []
    for name in EXECUTING_SETTINGS:
        if fields := settings.get(name):
            made.append(SharedExecutable(f"how jobs are executed: {name}", tuple(fields_of(fields))))
    return made


def _named(tx: Tx, workflow_id: int, used: set[int]) -> list[SharedExecutable]:
    """Return the failure handlers that jobs have, and the Slurm schedulers, which actions name too."""
    nouns = {"failure_handler": "failure handler", "slurm_scheduler": "Slurm scheduler"}
    return [
        SharedExecutable(f"{nouns[kind]} {visible(name)}", tuple(fields_of(loads(fields, {}))))
        for number, kind, name, fields in tx.db.execute(_NAMED, {"id": workflow_id})
        if kind == "slurm_scheduler" or (kind in nouns and number in used)
    ]


def _scripts(tx: Tx, workflow_id: int, jobs: Sequence[ShownJob]) -> list[SharedExecutable]:
    """Return the files that commands name and no job writes, with what is stored of their content."""
    known = {row[0]: (row[1], row[2]) for row in tx.dialect.fetch(tx.db, _FILES, {"id": workflow_id})}
    if not known:
        return []
    named = {word for job in jobs for _, part in job.parts for word in _WORD.findall(part) if word in known}
    if not named:
        return []
    parts = []
    for path in sorted(named):
        size, digest = known[path]
        told = f"sha256 {digest}" if digest else "its content was not looked at yet"
        parts.append((path, told if size is None else f"{size} bytes, {told}"))
    return [SharedExecutable("files that commands name", tuple(parts))]


def _user_data(tx: Tx, workflow_id: int, jobs: set[int]) -> list[SharedExecutable]:
    """Return the user data that commands of these jobs name and no job writes: a command can execute it."""
    found = {name: data for job, name, data in tx.dialect.fetch(tx.db, _READ_DATA, {"id": workflow_id}) if job in jobs}
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
