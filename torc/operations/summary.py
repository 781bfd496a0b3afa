"""How a run went, summed up in the store."""

from __future__ import annotations

from torc.api.runs import RunSummary, SummarizeRun
from torc.operations.dispatch import Tx, answers
from torc.operations.results import result_of
from torc.operations.row_mapping import workflow_of, workflow_row
from torc.store import attempts, jobs
from torc.workflow.states import ENDED_BADLY


@answers(SummarizeRun)
def summarize_run(tx: Tx, request: SummarizeRun) -> RunSummary:
    """Sum up the current run."""
    row = workflow_row(tx, request.workflow_id)
    sums = attempts.sums(tx.db, row["id"], row["run_id"])
    workflow = workflow_of(tx, row)
    return RunSummary(
        workflow=workflow,
        wall_seconds=None if row["started_at"] is None else max(0.0, (row["ended_at"] or tx.now) - row["started_at"]),
        cpu_seconds=sums["cpu_seconds"],
        peak_memory_bytes=sums["peak_memory_bytes"],
        num_attempts=sums["number"],
        num_retries=sums["retries"],
        failed=[result_of(found) for found in attempts.last_of_failed_jobs(tx.db, row["id"], request.limit)],
        num_failed=sum(workflow.counts[state] for state in ENDED_BADLY),
        blocked_by=jobs.blocking(tx.db, tx.dialect, row["id"]),
    )
