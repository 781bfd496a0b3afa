"""Make due again just what changed since it completed, and all that is behind it; take in an edited spec."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from torc.api.workflows import Changes, GetGraph, ReinitializeReply, ReinitializeWorkflow
from torc.operations.creation import compile_text
from torc.operations.dispatch import DryRun, PreparationBounds, Tx, answers, prepares
from torc.operations.graph import get_graph
from torc.operations.input_hashes import changed_fingerprints
from torc.operations.provenance import record_spec
from torc.operations.reset import all_states, changes_of, make_due
from torc.operations.row_mapping import workflow_row
from torc.operations.sliced_storage import check_quota
from torc.operations.spec_replacement import ReplacedJobs, amend, settle
from torc.operations.workflows import refuse_while_running
from torc.spec.expansion.paths import placing
from torc.spec.plan import Plan
from torc.store import workflows
from torc.store.transitions import Transitions
from torc.workflow.graph import graph_of
from torc.workflow.staleness import FileObservation, JobFacts, TrackedFile, find_reruns
from torc.workflow.states import State


@prepares(ReinitializeWorkflow, bounded=True)
def compile_edited(request: ReinitializeWorkflow, bounds: PreparationBounds = PreparationBounds()) -> Plan | None:
    """Compile the edited spec, where there is one."""
    if request.spec is None:
        return None
    place = placing(request.directory, request.links)
    return compile_text(request.spec, request.format, request.name, request.spec_files, place=place, bounds=bounds)


@answers(ReinitializeWorkflow)
def reinitialize_workflow(tx: Tx, request: ReinitializeWorkflow) -> ReinitializeReply:
    """Find what changed and reset it, or say which files have to be looked at to tell."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    if request.spec is not None or not request.force:
        refuse_while_running(tx, row["id"], "reinitialized", force=request.spec is None)
    facts = {
        fact.path: FileObservation(fact.exists, fact.size_bytes, fact.mtime_ns, fact.sha256) for fact in request.files
    }
    amended: ReplacedJobs | None = None
    if request.spec is not None:
        plan: Plan = tx.prepared
        needed = _unknown((file.path for file in plan.files), facts)
        if needed:
            return ReinitializeReply(needs_files=needed)
        check_quota(tx, row["user"], len(plan.jobs) - workflows.num_jobs(tx.db, row["id"]))
        amended = amend(tx, row, plan)
        record_spec(tx, row["id"], request.spec, request.name, request.format, request.spec_files)
    tracked, file_at = _tracked(tx, row["id"], facts)
    needed = _unknown((file.path for file in tracked), facts)
    if needed:
        raise DryRun(ReinitializeReply(needs_files=needed))
    reasons, needs_hash = _find(tx, row["id"], tracked, file_at, {} if amended is None else amended.reasons)
    if needs_hash:
        raise DryRun(ReinitializeReply(needs_hash=list(needs_hash)))
    changes = _apply(tx, row["id"], reasons, amended, request)
    if request.dry_run:
        raise DryRun(ReinitializeReply(result=changes))
    return ReinitializeReply(result=changes)


def _unknown(paths: Iterable[str], facts: Mapping[str, FileObservation]) -> list[str]:
    return [path for path in dict.fromkeys(paths) if path not in facts]


def _apply(
    tx: Tx, workflow_id: int, reasons: Mapping[int, str], amended: ReplacedJobs | None, request: ReinitializeWorkflow
) -> Changes:
    before = all_states(tx, workflow_id)
    added = [] if amended is None else amended.added
    removed = [] if amended is None else amended.removed
    if reasons or added or (amended is not None and amended.new_actions):
        make_due(tx, workflow_id, list(reasons), before)
    Transitions(tx.db, tx.dialect, workflow_id).close_lost(list(before))  # what they read or run may have changed too
    if amended is not None:
        settle(tx, workflow_id, added)
    why = {**dict.fromkeys(added, "new in the spec"), **reasons}
    changes = changes_of(tx, workflow_id, before, why, request.limit, applied=not request.dry_run)
    changes = changes.model_copy(
        update={"changes": [*removed, *changes.changes][: request.limit], "total": changes.total + len(removed)}
    )
    if reasons or amended is not None:
        tx.event(workflow_id, "workflow_reinitialized", num_jobs=changes.total, with_spec=amended is not None)
    return changes


def _tracked(
    tx: Tx, workflow_id: int, facts: Mapping[str, FileObservation]
) -> tuple[list[TrackedFile], dict[int, int]]:
    rows = tx.dialect.fetch(
        tx.db,
        "SELECT id, path, size_bytes, mtime_ns, sha256 FROM file WHERE workflow_id = :id ORDER BY id",
        {"id": workflow_id},
    )
    tracked = [
        TrackedFile(
            path,
            None if size is None else FileObservation(True, size, mtime, digest),
            facts.get(path, FileObservation(False)),
        )
        for _, path, size, mtime, digest in rows
    ]
    return tracked, {row[0]: at for at, row in enumerate(rows)}


def _find(
    tx: Tx, workflow_id: int, tracked: Sequence[TrackedFile], file_at: Mapping[int, int], also: Mapping[int, str]
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Return the jobs that must run again with the reasons, and paths whose hashes are needed first."""
    graph = get_graph(tx, GetGraph(workflow_id=workflow_id))
    prints = changed_fingerprints(tx, workflow_id)
    sets, set_of = _input_sets(tx, workflow_id, file_at)
    written = _written(tx, workflow_id, file_at)
    ids = [job.id for job in graph.jobs]
    jobs = JobFacts(
        names=[job.name for job in graph.jobs],
        states=[job.state for job in graph.jobs],
        recorded=[prints[job][0] if job in prints else None for job in ids],
        current=[prints[job][1] if job in prints else "" for job in ids],
        input_set_of=[set_of.get(job) for job in ids],
        input_sets=sets,
        outputs=[written.get(job, ()) for job in ids],
        also=[also.get(job) for job in ids] if also else (),
    )
    links = graph_of([tuple(gate) for gate in graph.gates], [job.gate for job in graph.jobs])
    found = find_reruns(links, jobs, tracked)
    return {ids[at]: reason for at, reason in found.reasons.items()}, found.needs_hash


def _input_sets(tx: Tx, workflow_id: int, file_at: Mapping[int, int]) -> tuple[list[list[int]], dict[int, int]]:
    """Return the files of each input set, and the index of the set of each job that completed and has one."""
    members: dict[int, list[int]] = defaultdict(list)
    read = (
        "SELECT i.input_set_id, i.file_id FROM input_file i JOIN input_set s ON s.id = i.input_set_id "
        "WHERE s.workflow_id = :id ORDER BY i.input_set_id, i.file_id"
    )
    for input_set, file in tx.dialect.fetch(tx.db, read, {"id": workflow_id}):
        members[input_set].append(file_at[file])
    set_at = {number: at for at, number in enumerate(members)}
    of_jobs = "SELECT id, input_set_id FROM job WHERE workflow_id = :id AND state = :state"
    rows = tx.dialect.fetch(tx.db, of_jobs, {"id": workflow_id, "state": State.COMPLETED.value})
    return list(members.values()), {job: set_at[number] for job, number in rows if number in set_at}


def _written(tx: Tx, workflow_id: int, file_at: Mapping[int, int]) -> dict[int, list[int]]:
    written: dict[int, list[int]] = defaultdict(list)
    query = "SELECT id, producer_job_id FROM file WHERE workflow_id = :id AND producer_job_id IS NOT NULL"
    for file, job in tx.dialect.fetch(tx.db, query, {"id": workflow_id}):
        written[job].append(file_at[file])
    return written
