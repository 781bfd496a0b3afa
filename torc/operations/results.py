"""How attempts ended, how a run went, and what happened."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, text

from torc.api.base import Page
from torc.api.events import Event, GetEvent, ListEvents
from torc.api.runs import GetResult, ListResults, Result, RunSummary, SummarizeRun, Usage
from torc.core.states import State
from torc.errors import NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.rows import decode_cursor, encode_cursor, loads, workflow_of, workflow_row

_RESULT = "SELECT a.*, j.name AS job_name FROM attempt a JOIN job j ON j.id = a.job_id "


def result_of(row: RowMapping) -> Result:
    """Make the value of a result."""
    keys = (
        "id", "workflow_id", "job_id", "job_name", "run_id", "attempt", "runner_id", "return_code", "reason", "detail",
        "started_at", "ended_at", "wall_seconds", "stderr_tail",
    )  # fmt: skip
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
        where.append("a.attempt = j.attempt")
    query = f"{_RESULT} WHERE {' AND '.join(where)} ORDER BY a.id LIMIT :n"
    rows = tx.db.execute(text(query), values).mappings().all()
    items = [result_of(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(GetResult)
def get_result(tx: Tx, request: GetResult) -> Result:
    """Get one result."""
    row = tx.db.execute(text(f"{_RESULT} WHERE a.id = :id"), {"id": request.result_id}).mappings().first()
    if row is None:
        raise NotFound(f"there is no result {request.result_id}", hint="`torc results list` shows what there is")
    return result_of(row)


@answers(SummarizeRun)
def summarize_run(tx: Tx, request: SummarizeRun) -> RunSummary:
    """Sum up the current run."""
    row = workflow_row(tx, request.workflow_id)
    key = {"id": row["id"], "run": row["run_id"]}
    sums = tx.db.execute(
        text(
            "SELECT coalesce(sum(user_cpu_seconds + system_cpu_seconds), 0), coalesce(max(peak_memory_bytes), 0), "
            "count(*), count(*) - count(DISTINCT job_id) FROM attempt WHERE workflow_id = :id AND run_id = :run"
        ),
        key,
    ).one()
    unsuccessful = (
        "a.workflow_id = :id AND a.attempt = j.attempt AND j.state IN ('failed', 'terminated', 'pending_failed') "
        "AND a.state <> 'completed'"
    )
    failed = tx.db.execute(
        text(f"{_RESULT} WHERE {unsuccessful} ORDER BY a.ended_at, a.id LIMIT :n"), {**key, "n": request.limit}
    ).mappings()
    num_failed = tx.db.execute(
        text("SELECT coalesce(sum(count), 0) FROM job_count WHERE workflow_id = :id "
             "AND state IN ('failed', 'terminated', 'pending_failed')"),
        {"id": row["id"]},
    ).scalar_one()  # fmt: skip
    blocked = tx.db.execute(
        text(
            "SELECT q.name, count(*) FROM job j JOIN gate_prerequisite p ON p.gate_id = j.gate_id JOIN job q "
            "ON q.id = p.job_id WHERE j.workflow_id = :id AND j.state = 'blocked' AND NOT q.counted "
            "AND q.state <> 'blocked' GROUP BY q.id, q.name ORDER BY 2 DESC, 1 LIMIT 10"
        ),
        {"id": row["id"]},
    ).all()
    wall = None if row["started_at"] is None else (row["ended_at"] or tx.now) - row["started_at"]
    return RunSummary(
        workflow=workflow_of(tx, row),
        wall_seconds=wall,
        cpu_seconds=sums[0],
        peak_memory_bytes=sums[1],
        num_attempts=sums[2],
        num_retries=sums[3],
        failed=[result_of(found) for found in failed],
        num_failed=int(num_failed),
        blocked_by={name: count for name, count in blocked},
    )


def _event(row: RowMapping) -> Event:
    return Event(
        id=row["id"], workflow_id=row["workflow_id"], time=row["time"], type=row["type"], actor=row["actor"],
        job_id=row["job_id"], data=loads(row["data"], {}),
    )  # fmt: skip


@answers(ListEvents)
def list_events(tx: Tx, request: ListEvents) -> Page[Event]:
    """List events, oldest first unless asked otherwise."""
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    where = ["workflow_id = :workflow_id", "id > :after"]
    values: dict[str, Any] = {"workflow_id": request.workflow_id, "after": request.after or 0, "n": request.limit + 1}
    if request.newest_first:
        where.append("id < :before")
        values["before"] = key[0] if key else 2**62
    elif key:
        values["after"] = max(key[0], values["after"])
    for name in ("type", "job_id"):
        if getattr(request, name) is not None:
            where.append(f"{name} = :{name}")
            values[name] = getattr(request, name)
    order = "DESC" if request.newest_first else "ASC"
    query = f"SELECT * FROM event WHERE {' AND '.join(where)} ORDER BY id {order} LIMIT :n"
    rows = tx.db.execute(text(query), values).mappings().all()
    items = [_event(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(GetEvent)
def get_event(tx: Tx, request: GetEvent) -> Event:
    """Get one event."""
    row = tx.db.execute(text("SELECT * FROM event WHERE id = :id"), {"id": request.event_id}).mappings().first()
    if row is None:
        raise NotFound(f"there is no event {request.event_id}", hint="`torc events list` shows what there is")
    return _event(row)
