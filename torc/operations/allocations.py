"""Allocations: recorded before submission and followed to their end, and what their end means for their runners and jobs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping

from torc.api import allocations as api
from torc.api.base import Page
from torc.operations.access import require_visible
from torc.operations.actions import take_scheduling
from torc.operations.allocation_rows import allocation_row, allocations_of
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import decode_cursor, encode_cursor, workflow_row
from torc.operations.runs import cannot_start, give_up
from torc.planning.allocation_outcomes import OF_NODES, end_explains_attempt
from torc.planning.allocations import (
    DEFERRED,
    FORGOTTEN,
    NOT_SUBMITTED,
    REQUEUED,
    AllocationChange,
    AllocationState,
    AllocationStatus,
    Observation,
    busy_seconds,
    deferred,
    given_up,
    is_forgotten,
    node_seconds,
    nodes_to_exclude,
    observe,
)
from torc.store import allocations as stored_allocations
from torc.store import runners as runner_rows
from torc.store.allocations import AllocationFilter
from torc.store.id_blocks import take_ids
from torc.workflow.lifecycle import may_start_jobs

_COPIED = (
    "name",
    "scheduler",
    "num_nodes",
    "walltime_seconds",
    "partition",
    "account",
    "qos",
    "cpus_per_node",
    "memory_bytes_per_node",
    "gpus_per_node",
)
#: seconds by which runners on nodes that failed fell silent before the others
_SILENT_BEFORE = 5.0


@answers(api.RecordAllocations)
def record_allocations(tx: Tx, request: api.RecordAllocations) -> list[api.Allocation]:
    """Record allocations to be submitted."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    firing, number = request.firing_id, len(request.allocations)
    if firing is not None and not take_scheduling(tx, row["id"], firing, number):
        return []
    if not may_start_jobs(row):
        raise cannot_start(row)
    first = take_ids(tx.db, "allocation", len(request.allocations))
    for at, new in enumerate(request.allocations):
        number = first + at
        values: dict[str, Any] = {name: getattr(new, name) for name in _COPIED}
        values |= {
            "id": number,
            "workflow_id": row["id"],
            "run_id": row["run_id"],
            "firing_id": request.firing_id,
            "created_at": tx.now,
            "mark": f"torc-wf{row['id']}-al{number}-{secrets.token_hex(4)}",
            "request": json.dumps(new.request),
        }
        stored_allocations.insert(tx.db, values)
    tx.event(row["id"], "allocations_recorded", first=first, number=len(request.allocations))
    rows = stored_allocations.block(tx.db, first, len(request.allocations))
    return allocations_of(tx, rows)


@answers(api.ReportSubmissions)
def report_submissions(tx: Tx, request: api.ReportSubmissions) -> list[api.Allocation]:
    """Apply the results of submissions."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    for item in request.submissions:
        row = allocation_row(tx, item.allocation_id, workflow["id"])
        standing = stored_allocations.status(row)
        if item.deferred is not None:
            if row["cluster_job_id"] is None and standing.state is AllocationState.SUBMITTING:
                _defer(tx, row, standing, item.deferred)
        elif item.error is not None:
            if row["cluster_job_id"] is None:
                _end(tx, workflow, row, given_up(standing, NOT_SUBMITTED, item.error, tx.now))
        elif item.cluster_job_id is not None and row["cluster_job_id"] is None:
            _submitted(tx, row, standing, item.cluster_job_id, item.cluster)
    ids = [item.allocation_id for item in request.submissions]
    return allocations_of(tx, [allocation_row(tx, number) for number in ids])


def _defer(tx: Tx, row: RowMapping, standing: AllocationStatus, why: str) -> None:
    put_off = deferred(standing, why)
    stored_allocations.write_status(tx.db, row["id"], put_off, seen_at=tx.now)
    if put_off.reason != standing.reason:
        tx.event(row["workflow_id"], "allocation_deferred", allocation_id=row["id"], reason=why)


def _submitted(tx: Tx, row: RowMapping, standing: AllocationStatus, cluster_job_id: str, cluster: str | None) -> None:
    if standing.state is AllocationState.SUBMITTING:
        standing = AllocationStatus(AllocationState.PENDING, "PENDING")
    more = {"cluster_job_id": cluster_job_id, "submitted_at": row["submitted_at"] or tx.now, "seen_at": tx.now}
    stored_allocations.write_status(tx.db, row["id"], standing, cluster=cluster or row["cluster"], **more)
    tx.event(row["workflow_id"], "allocation_submitted", allocation_id=row["id"], cluster_job_id=cluster_job_id)


@answers(api.ObserveAllocations)
def observe_allocations(tx: Tx, request: api.ObserveAllocations) -> api.Observed:
    """Apply what the cluster reports."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    changed: list[int] = []
    ended = lost = 0
    for item in request.observations:
        row = allocation_row(tx, item.allocation_id, workflow["id"])
        standing = stored_allocations.status(row)
        if row["cluster_job_id"] is None and item.cluster_job_id is not None:
            _submitted(tx, row, standing, item.cluster_job_id, None)
            row = allocation_row(tx, row["id"])
            standing = stored_allocations.status(row)
        fields = item.model_dump(exclude={"allocation_id", "cluster_job_id"})
        change = observe(standing, Observation(**{**fields, "nodes": tuple(item.nodes)}), tx.now)
        if change.standing != standing:
            runners, jobs = _take(tx, workflow, row, change)
            ended, lost = ended + runners, lost + jobs
            changed.append(row["id"])
        else:
            stored_allocations.update(tx.db, row["id"], {"seen_at": tx.now})
    for number in request.silent:
        row = allocation_row(tx, number, workflow["id"])
        if _is_over(tx, row):
            word = FORGOTTEN if row["cluster_job_id"] is not None else NOT_SUBMITTED
            is_put_off = row["cluster_state"] == DEFERRED and row["cluster_job_id"] is None
            why = "it was cancelled before the cluster took it" if is_put_off else "the cluster does not know it"
            gone = given_up(stored_allocations.status(row), word, why, tx.now)
            runners, jobs = _take(tx, workflow, row, AllocationChange(gone))
            ended, lost = ended + runners, lost + jobs
            changed.append(number)
    rows = [allocation_row(tx, number) for number in dict.fromkeys(changed)]
    return api.Observed(changed=allocations_of(tx, rows), runners_ended=ended, jobs_lost=lost)


def _is_over(tx: Tx, row: RowMapping) -> bool:
    """Return whether an allocation that the cluster did not mention when asked is over."""
    if row["cluster_state"] == DEFERRED and row["cluster_job_id"] is None:
        return row["cancel_requested_at"] is not None  # it waits for room there, however long that takes
    return is_forgotten(
        stored_allocations.status(row),
        known_to_cluster=row["cluster_job_id"] is not None,
        last_seen_at=row["seen_at"] or row["created_at"],
        walltime_seconds=row["walltime_seconds"],
        now=tx.now,
    )


def _take(tx: Tx, workflow: RowMapping, row: RowMapping, change: AllocationChange) -> tuple[int, int]:
    """Write a change and end the runners of ended allocations. Returns (runners, jobs) that were lost."""
    was_over = row["state"] == AllocationState.ENDED.value
    if change.ended:
        return _end(tx, workflow, row, change.standing, tell=not was_over)
    lost = (0, 0)
    if change.requeued:
        lost = _end_runners(tx, workflow, row["id"], REQUEUED)
        _tell_attempts(tx, row["id"], REQUEUED)
        tx.event(workflow["id"], "allocation_requeued", allocation_id=row["id"])
    standing = change.standing
    used = node_seconds(standing.started_at, standing.ended_at, row["num_nodes"], tx.now)
    stored_allocations.write_status(tx.db, row["id"], standing, seen_at=tx.now, node_seconds_used=used)
    if standing.state.value != row["state"]:
        tx.event(
            workflow["id"], f"allocation_{standing.state.value}", allocation_id=row["id"], nodes=list(standing.nodes)
        )
    return lost


def _end(
    tx: Tx, workflow: RowMapping, row: RowMapping, standing: AllocationStatus, *, tell: bool = True
) -> tuple[int, int]:
    word = standing.cluster_state or ""
    failed = _failed_nodes(tx, row, standing) if word in OF_NODES else []
    lost = _end_runners(tx, workflow, row["id"], word)
    _tell_attempts(tx, row["id"], word)
    used = node_seconds(standing.started_at, standing.ended_at, row["num_nodes"], tx.now)
    wasted = max(0.0, used - _busy(tx, row))
    more = {"seen_at": tx.now, "node_seconds_used": used, "node_seconds_wasted": wasted}
    stored_allocations.write_status(
        tx.db, row["id"], standing, failed_nodes=json.dumps(failed) if failed else None, **more
    )
    if tell:
        tx.event(
            workflow["id"],
            "allocation_ended",
            allocation_id=row["id"],
            cluster_job_id=row["cluster_job_id"],
            state=word,
            reason=standing.reason,
            runners=lost[0],
            jobs_lost=lost[1],
        )
    return lost


def _tell_attempts(tx: Tx, allocation_id: int, word: str) -> None:
    """Update attempts reported earlier with what the end of their allocation reveals about them."""
    found = stored_allocations.unexplained_attempts(tx.db, allocation_id)
    told = [row["id"] for row in found if end_explains_attempt(word, row["reason"], row["return_code"])]
    stored_allocations.explain_attempts(tx.db, told, word)


def _busy(tx: Tx, row: RowMapping) -> float:
    """Return the node-seconds in which something ran; each runner stands for its share of the nodes."""
    busy: dict[int, list[tuple[float, float]]] = {}
    for attempt in stored_allocations.attempts(tx.db, row["id"]):
        busy.setdefault(attempt["runner_id"], []).append((attempt["started_at"], attempt["ended_at"]))
    runners = runner_rows.number_in_allocation(tx.db, row["id"])
    share = max(1.0, float(row["num_nodes"]) / max(1, runners))
    return float(share * sum(map(busy_seconds, busy.values())))


def _end_runners(tx: Tx, workflow: RowMapping, allocation_id: int, word: str) -> tuple[int, int]:
    runners = runner_rows.active_in_allocation(tx.db, allocation_id)
    jobs = sum(give_up(tx, workflow, runner, f"allocation ended: {word}", cluster_state=word) for runner in runners)
    return len(runners), jobs


def _failed_nodes(tx: Tx, row: RowMapping, standing: AllocationStatus) -> list[str]:
    """Return the nodes one of which failed: those whose runners fell silent before the others, or else all."""
    spoke = runner_rows.last_leases(tx.db, row["id"])
    if not spoke:
        return list(standing.nodes)
    latest = spoke[-1]["lease_expires_at"]
    silent = [runner["node"] for runner in spoke if latest - runner["lease_expires_at"] > _SILENT_BEFORE]
    return silent or [runner["node"] for runner in spoke]


@answers(api.CancelAllocations)
def cancel_allocations(tx: Tx, request: api.CancelAllocations) -> list[api.Allocation]:
    """Mark allocations to be cancelled."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    rows = list(stored_allocations.not_ended(tx.db, workflow["id"]))
    if request.allocation_ids is not None:
        wanted = set(request.allocation_ids)
        for number in wanted:
            allocation_row(tx, number, workflow["id"])
        rows = [row for row in rows if row["id"] in wanted]
    if request.queued_only:
        rows = [row for row in rows if row["state"] != AllocationState.RUNNING.value]
    fresh = [row["id"] for row in rows if row["cancel_requested_at"] is None]
    if fresh:
        stored_allocations.request_cancel(tx.db, fresh, tx.now)
        tx.event(workflow["id"], "allocations_cancel_requested", allocation_ids=fresh[:1000], number=len(fresh))
    return allocations_of(tx, [allocation_row(tx, row["id"]) for row in rows])


@answers(api.ListAllocations)
def list_allocations(tx: Tx, request: api.ListAllocations) -> Page[api.Allocation]:
    """List allocations, newest first."""
    if request.workflow_id is not None:
        require_visible(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    wanted = AllocationFilter(request.workflow_id, request.active_only, tx.now if request.to_follow else None)
    before = key[0] if key else None
    rows = stored_allocations.newest(tx.db, tx.rights, wanted, before=before, limit=request.limit + 1)
    more = len(rows) > request.limit
    rows = rows[: request.limit]
    return Page(items=allocations_of(tx, rows), cursor=encode_cursor(rows[-1]["id"]) if more else None)


@answers(api.GetAllocation)
def get_allocation(tx: Tx, request: api.GetAllocation) -> api.Allocation:
    """Get one allocation."""
    return allocations_of(tx, [allocation_row(tx, request.allocation_id)])[0]


@answers(api.ListFailedNodes)
def list_failed_nodes(tx: Tx, request: api.ListFailedNodes) -> list[api.FailedNode]:
    """List the nodes that failed, the worst first."""
    workflow_row(tx, request.workflow_id)
    failures = stored_allocations.failed_nodes(tx.db, request.workflow_id)
    return _told(failures, nodes_to_exclude(failures, tx.now))


def _told(failures: list[tuple[str, float]], excluded: tuple[str, ...]) -> list[api.FailedNode]:
    times: Mapping[str, list[float]] = {node: [at for name, at in failures if name == node] for node, _ in failures}
    return [
        api.FailedNode(node=node, num_failures=len(seen), last_failed_at=max(seen), is_excluded=node in excluded)
        for node, seen in sorted(times.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
