"""How attempts ended."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, text

from torc.api.attempts import AttemptLine, ListAttempts
from torc.api.base import Page
from torc.api.runs import GetResult, ListResults, Result, Usage
from torc.errors import NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import decode_cursor, encode_cursor, workflow_row
from torc.store.json_columns import loads
from torc.store.workflows import IN_WORKFLOW
from torc.workflow.states import State

RESULT = "SELECT a.*, j.name AS job_name FROM attempt a JOIN job j ON j.id = a.job_id "


def result_of(row: RowMapping) -> Result:
    """Make the value of a result."""
    keys = (
        "id",
        "workflow_id",
        "job_id",
        "job_name",
        "run_id",
        "attempt",
        "runner_id",
        "return_code",
        "reason",
        "detail",
        "started_at",
        "ended_at",
        "wall_seconds",
        "stderr_tail",
        "stderr_line",
        "stdout_tail",
        "stdout_line",
        "slurm_state",
    )
    return Result(
        **{key: row[key] for key in keys},
        state=State(row["state"]),
        is_current=bool(row["is_current"]),
        usage=Usage(
            user_cpu_seconds=row["user_cpu_seconds"],
            system_cpu_seconds=row["system_cpu_seconds"],
            peak_memory_bytes=row["peak_memory_bytes"],
            **loads(row["usage"], {}),
        ),
    )


@answers(ListResults)
def list_results(tx: Tx, request: ListResults) -> Page[Result]:
    """List results, oldest first."""
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    where = ["a.workflow_id = :workflow_id", "a.id > :after"]
    values: dict[str, Any] = {"workflow_id": request.workflow_id, "after": key[0] if key else 0, "n": request.limit + 1}
    for name in ("run_id", "job_id", "state"):
        value = getattr(request, name)
        if value is not None:
            where.append(f"a.{name} = :{name}")
            values[name] = value.value if isinstance(value, State) else value
    if request.failed_only:
        where.append("a.state <> 'completed'")
    if request.latest_only:
        in_run = "" if request.run_id is None else " AND b.run_id = a.run_id"
        where.append(f"a.attempt = (SELECT max(b.attempt) FROM attempt b WHERE b.job_id = a.job_id{in_run})")
    query = f"{RESULT} WHERE {' AND '.join(where)} ORDER BY a.id LIMIT :n"
    rows = tx.db.execute(text(query), values).mappings().all()
    items = [result_of(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(GetResult)
def get_result(tx: Tx, request: GetResult) -> Result:
    """Get one result."""
    row = (
        tx.db.execute(text(f"{RESULT} WHERE a.id = :id AND {IN_WORKFLOW.format('a')}"), {"id": request.result_id})
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"there is no result {request.result_id}", hint="`torc results list` shows what there is")
    return result_of(row)


_LINES = (
    "SELECT a.id, a.job_id, j.name, a.attempt, a.run_id, r.name, a.state, a.return_code, coalesce(a.detail, a.reason), a.runner_id, "
    "a.started_at, a.ended_at, a.wall_seconds, a.user_cpu_seconds + a.system_cpu_seconds, a.peak_memory_bytes "
    "FROM attempt a JOIN job j ON j.id = a.job_id JOIN requirement r ON r.id = coalesce(a.requirement_id, j.requirement_id) "
    "WHERE a.workflow_id = :workflow_id AND a.id > :after{run} ORDER BY a.id LIMIT :n"
)


@answers(ListAttempts)
def list_attempts(tx: Tx, request: ListAttempts) -> Page[AttemptLine]:
    """List attempts, a short line each."""
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    values = {"workflow_id": request.workflow_id, "after": key[0] if key else 0, "n": request.limit + 1}
    if request.run_id is not None:
        values["run_id"] = request.run_id
    query = _LINES.format(run="" if request.run_id is None else " AND a.run_id = :run_id")
    rows = tx.dialect.fetch(tx.db, query, values)
    items = [AttemptLine(**dict(zip(_LINE_FIELDS, row[1:], strict=True))) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(rows[request.limit - 1][0]) if len(rows) > request.limit else None)


_LINE_FIELDS = tuple(AttemptLine.model_fields)
