"""How a run went, summed up in the store."""

from __future__ import annotations

from sqlalchemy import text

from torc.api.runs import RunSummary, SummarizeRun
from torc.operations.dispatch import Tx, answers
from torc.operations.results import RESULT, result_of
from torc.operations.row_mapping import workflow_of, workflow_row

_SUMS = text(
    "SELECT coalesce(sum(user_cpu_seconds + system_cpu_seconds), 0), coalesce(max(peak_memory_bytes), 0), "
    "count(*), count(*) - count(DISTINCT job_id) FROM attempt WHERE workflow_id = :id AND run_id = :run"
)
_FAILED = text(
    f"{RESULT} WHERE a.workflow_id = :id AND a.attempt = j.attempt "
    "AND j.state IN ('failed', 'terminated', 'pending_failed') ORDER BY a.ended_at, a.id LIMIT :n"
)
_NUM_FAILED = text(
    "SELECT coalesce(sum(count), 0) FROM job_count WHERE workflow_id = :id "
    "AND state IN ('failed', 'terminated', 'pending_failed')"
)
#: blocked jobs are counted by gate before the gates are joined: a barrier of M before N jobs costs M + N
_BLOCKED_BY = text(
    "SELECT q.name, sum(b.n) FROM (SELECT gate_id, count(*) AS n FROM job WHERE workflow_id = :id AND state = 'blocked' "
    "GROUP BY gate_id) b JOIN gate_prerequisite p ON p.gate_id = b.gate_id JOIN job q ON q.id = p.job_id "
    "WHERE NOT q.counted AND q.state <> 'blocked' GROUP BY q.id, q.name ORDER BY 2 DESC, q.id LIMIT 10"
)


@answers(SummarizeRun)
def summarize_run(tx: Tx, request: SummarizeRun) -> RunSummary:
    """Sum up the current run."""
    row = workflow_row(tx, request.workflow_id)
    key = {"id": row["id"]}
    cpu_seconds, peak, num_attempts, num_retries = tx.db.execute(_SUMS, {**key, "run": row["run_id"]}).one()
    failed = tx.db.execute(_FAILED, {**key, "n": request.limit}).mappings()
    return RunSummary(
        workflow=workflow_of(tx, row),
        wall_seconds=None if row["started_at"] is None else max(0.0, (row["ended_at"] or tx.now) - row["started_at"]),
        cpu_seconds=cpu_seconds,
        peak_memory_bytes=peak,
        num_attempts=num_attempts,
        num_retries=num_retries,
        failed=[result_of(found) for found in failed],
        num_failed=int(tx.db.execute(_NUM_FAILED, key).scalar_one()),
        blocked_by={name: int(count) for name, count in tx.db.execute(_BLOCKED_BY, key)},
    )
