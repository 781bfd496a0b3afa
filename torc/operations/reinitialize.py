"""Make due again just what changed since it completed, and all that is behind it."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import text

from torc.api.workflows import GetGraph, ReinitializeReply, ReinitializeWorkflow
from torc.core.changes import MISSING, FileFact, Jobs, Tracked, find_reruns
from torc.core.graph import graph_of
from torc.operations.dispatch import DryRun, Tx, answers
from torc.operations.fingerprints import fingerprints
from torc.operations.reset import all_states, reset_jobs
from torc.operations.rows import workflow_row
from torc.operations.workflows import get_graph, refuse_while_running


@answers(ReinitializeWorkflow)
def reinitialize_workflow(tx: Tx, request: ReinitializeWorkflow) -> ReinitializeReply:
    """Find what changed and reset it, or say which hashes are needed to tell."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    if not request.force:
        refuse_while_running(tx, row["id"], "reinitialized")
    graph = get_graph(tx, GetGraph(workflow_id=row["id"]))
    tracked, file_at = _tracked(tx, request)
    jobs = _jobs(tx, row["id"], [job.id for job in graph.jobs], [job.name for job in graph.jobs], file_at)
    found = find_reruns(
        graph_of([tuple(gate) for gate in graph.gates], [job.gate for job in graph.jobs]), jobs, tracked
    )
    if found.needs_hash:
        return ReinitializeReply(needs_hash=list(found.needs_hash))
    reasons = {graph.jobs[at].id: reason for at, reason in found.reasons.items()}
    before = all_states(tx, row["id"])
    try:
        return ReinitializeReply(result=reset_jobs(tx, row["id"], list(reasons), before, reasons, request))
    except DryRun as dry:
        raise DryRun(ReinitializeReply(result=dry.reply)) from None


def _tracked(tx: Tx, request: ReinitializeWorkflow) -> tuple[list[Tracked], dict[int, int]]:
    now = {fact.path: FileFact(fact.exists, fact.size_bytes, fact.mtime_ns, fact.sha256) for fact in request.files}
    rows = tx.db.execute(
        text("SELECT id, path, size_bytes, mtime_ns, sha256 FROM file WHERE workflow_id = :id ORDER BY id"),
        {"id": request.workflow_id},
    ).all()
    tracked = [
        Tracked(row[1], None if row[2] is None else FileFact(True, *row[2:5]), now.get(row[1], MISSING)) for row in rows
    ]
    return tracked, {row[0]: at for at, row in enumerate(rows)}


def _jobs(tx: Tx, workflow_id: int, ids: list[int], names: list[str], file_at: dict[int, int]) -> Jobs:
    key = {"id": workflow_id}
    states = all_states(tx, workflow_id)
    current = fingerprints(tx, workflow_id)
    rows = tx.db.execute(
        text("SELECT fingerprint, input_set_id FROM job WHERE workflow_id = :id ORDER BY id"), key
    ).all()
    sets: dict[int, list[int]] = defaultdict(list)
    read = text(
        "SELECT i.input_set_id, i.file_id FROM input_file i JOIN file f ON f.id = i.file_id WHERE f.workflow_id = :id"
    )
    for input_set, file in tx.db.execute(read, key):
        sets[input_set].append(file_at[file])
    set_at = {number: at for at, number in enumerate(sets)}
    written: dict[int, list[int]] = defaultdict(list)
    for file, job in tx.db.execute(
        text("SELECT id, producer_job_id FROM file WHERE workflow_id = :id AND producer_job_id IS NOT NULL"), key
    ):
        written[job].append(file_at[file])
    return Jobs(
        names=names,
        states=[states[job] for job in ids],
        recorded=[row[0] for row in rows],
        current=[current[job] for job in ids],
        input_set_of=[None if row[1] is None else set_at.get(row[1]) for row in rows],
        input_sets=list(sets.values()),
        outputs=[written.get(job, []) for job in ids],
    )
