"""What jobs of a stored workflow execute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from torc.spec.plan import JOB_TEXTS
from torc.store.dialect import Dialect
from torc.store.json_columns import loads
from torc.workflow.states import FINISHED

_JOBS = (
    f"SELECT id, name, requirement_id, failure_handler_id, scheduler_id, recovery, env, {', '.join(text.name for text in JOB_TEXTS)} "
    "FROM job WHERE workflow_id = :id{where} ORDER BY id"
)
#: what a run goes on with, too: jobs that the end of an allocation interrupted
_DUE = (
    f" AND (state NOT IN ({', '.join(repr(state.value) for state in sorted(FINISHED))}) "
    "OR (state = 'terminated' AND NOT counted))"
)


class ExecutableJob(NamedTuple):
    """What a job executes, and what it refers to."""

    id: int
    name: str
    requirement_id: int
    failure_handler_id: int | None
    scheduler_id: int | None
    recovery_script: str | None  # that the retry runs first which is due
    env: Any  # JSON, as it is stored: jobs that share it are many
    texts: dict[str, str | None]  # by name of the field


def rows_of_jobs(db: Connection, dialect: Dialect, workflow_id: int, *, due_only: bool = False) -> Sequence[Any]:
    """Read the jobs of a workflow, all or those that are due now or later, for `jobs`: making those takes longer than reading."""
    return dialect.fetch(db, _JOBS.format(where=_DUE if due_only else ""), {"id": workflow_id})


def jobs(rows: Sequence[Any]) -> list[ExecutableJob]:
    """Return the jobs in order of id that some rows are of."""
    return [
        ExecutableJob(
            number,
            name,
            requirement,
            handler,
            scheduler,
            loads(recovery, {}).get("script"),
            env,
            {text.name: value for text, value in zip(JOB_TEXTS, texts, strict=True)},
        )
        for number, name, requirement, handler, scheduler, recovery, env, *texts in rows
    ]
