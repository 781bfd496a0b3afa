"""How attempts ended."""

from __future__ import annotations

from sqlalchemy import RowMapping

from torc.api.attempts import AttemptLine, ListAttempts
from torc.api.base import Page
from torc.api.runs import GetResult, ListResults, Result, Usage
from torc.errors import NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import decode_cursor, encode_cursor, workflow_row
from torc.store import attempts
from torc.store.json_columns import loads
from torc.workflow.states import State


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
    which = attempts.ResultFilter(
        request.run_id, request.job_id, request.state, request.failed_only, request.latest_only
    )
    after = key[0] if key else 0
    rows = attempts.page(tx.db, request.workflow_id, which, after=after, limit=request.limit + 1)
    items = [result_of(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(GetResult)
def get_result(tx: Tx, request: GetResult) -> Result:
    """Get one result."""
    row = attempts.get(tx.db, request.result_id)
    if row is None:
        raise NotFound(f"there is no result {request.result_id}", hint="`torc results list` shows what there is")
    return result_of(row)


@answers(ListAttempts)
def list_attempts(tx: Tx, request: ListAttempts) -> Page[AttemptLine]:
    """List attempts, a short line each."""
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    after = key[0] if key else 0
    rows = attempts.short_page(
        tx.db, tx.dialect, request.workflow_id, request.run_id, after=after, limit=request.limit + 1
    )
    page = rows[: request.limit]
    items = [AttemptLine(**{name: getattr(row, name) for name in _LINE_FIELDS}) for row in page]
    return Page(items=items, cursor=encode_cursor(page[-1].id) if len(rows) > request.limit else None)


_LINE_FIELDS = tuple(AttemptLine.model_fields)
