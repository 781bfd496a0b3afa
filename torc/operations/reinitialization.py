"""Rerun exactly what has changed since it completed, and everything downstream; apply an edited spec."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torc.api.workflows import Changes, GetGraph, ReinitializeReply, ReinitializeWorkflow
from torc.operations.creation import compile_text
from torc.operations.dispatch import DryRun, PreparationBounds, Tx, answers, prepares
from torc.operations.graph import get_graph
from torc.operations.input_hashes import changed_fingerprints
from torc.operations.provenance import record_spec
from torc.operations.reset import changes_of, make_due
from torc.operations.row_mapping import workflow_row
from torc.operations.sliced_storage import check_quota
from torc.operations.spec_replacement import ReplacedJobs, amend, settle
from torc.operations.workflows import refuse_while_running
from torc.spec.expansion.paths import placing
from torc.spec.plan import Plan
from torc.store import files, inputs, spec_rows, workflows
from torc.store import jobs as job_rows
from torc.store.transitions import Transitions
from torc.workflow.graph import graph_of
from torc.workflow.staleness import FileObservation, JobFacts, TrackedFile, find_reruns


@prepares(ReinitializeWorkflow, bounded=True)
def compile_edited(request: ReinitializeWorkflow, bounds: PreparationBounds = PreparationBounds()) -> Plan | None:
    """Compile the edited spec, if there is one."""
    if request.spec is None:
        return None
    place = placing(request.directory, request.links)
    return compile_text(request.spec, request.format, request.name, request.spec_files, place=place, bounds=bounds)


@answers(ReinitializeWorkflow)
def reinitialize_workflow(tx: Tx, request: ReinitializeWorkflow) -> ReinitializeReply:
    """Find and reset what has changed, or return the files that must be examined first."""
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
    known = _known_files(tx, row["id"], facts)
    needed = _unknown((file.path for file in known.tracked), facts)
    if needed:
        raise DryRun(ReinitializeReply(needs_files=needed))
    reasons, needs_hash = _find(tx, row["id"], known, {} if amended is None else amended.reasons)
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
    before = job_rows.states(tx.db, tx.dialect, workflow_id)
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


class _KnownFiles(NamedTuple):
    """The files of a workflow as they were and are, their places among these by id, and the places of what each job writes."""

    tracked: list[TrackedFile]
    at: dict[int, int]
    written: Mapping[int, Sequence[int]]


def _known_files(tx: Tx, workflow_id: int, facts: Mapping[str, FileObservation]) -> _KnownFiles:
    found = files.observed(tx.db, tx.dialect, workflow_id)
    tracked = [TrackedFile(file.path, file.observation, facts.get(file.path, FileObservation(False))) for file in found]
    written: dict[int, list[int]] = defaultdict(list)
    for at, file in enumerate(found):
        if file.producer_job_id is not None:
            written[file.producer_job_id].append(at)
    return _KnownFiles(tracked, {file.id: at for at, file in enumerate(found)}, written)


def _find(
    tx: Tx, workflow_id: int, known: _KnownFiles, also: Mapping[int, str]
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Return the jobs that must run again, with reasons, and the paths whose hashes are needed first."""
    graph = get_graph(tx, GetGraph(workflow_id=workflow_id))
    prints = changed_fingerprints(tx, workflow_id)
    sets, set_of = _input_sets(tx, workflow_id, known.at)
    ids = [job.id for job in graph.jobs]
    jobs = JobFacts(
        names=[job.name for job in graph.jobs],
        states=[job.state for job in graph.jobs],
        recorded=[prints[job][0] if job in prints else None for job in ids],
        current=[prints[job][1] if job in prints else "" for job in ids],
        input_set_of=[set_of.get(job) for job in ids],
        input_sets=sets,
        outputs=[known.written.get(job, ()) for job in ids],
        also=[also.get(job) for job in ids] if also else (),
    )
    links = graph_of([tuple(gate) for gate in graph.gates], [job.gate for job in graph.jobs])
    found = find_reruns(links, jobs, known.tracked)
    return {ids[at]: reason for at, reason in found.reasons.items()}, found.needs_hash


def _input_sets(tx: Tx, workflow_id: int, file_at: Mapping[int, int]) -> tuple[list[list[int]], dict[int, int]]:
    """Return the files of each input set, and the index of the set of each job that completed and has one."""
    found = spec_rows.inputs(tx.db, tx.dialect, workflow_id, "file")
    members = {input_set: [file_at[number] for number in numbers] for input_set, numbers in found.items()}
    set_at = {number: at for at, number in enumerate(members)}
    sets = inputs.sets_of_completed_jobs(tx.db, tx.dialect, workflow_id)
    return list(members.values()), {job: set_at[number] for job, number in sets.items() if number in set_at}
