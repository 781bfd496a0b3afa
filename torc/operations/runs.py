"""Runs and runners: start or continue a run, register and end runners, and give up their jobs."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import RowMapping

from torc.api.base import Page
from torc.api.runs import (
    EndRunner,
    GetRunner,
    GetRunnerSettings,
    ListRunners,
    NodeCapacity,
    RegisterRunner,
    Runner,
    RunnerSettings,
    StartRun,
)
from torc.api.workflows import Workflow
from torc.errors import Conflict, NotFound
from torc.failures.retry import DIED
from torc.operations.actions import begin_actions, release_firings
from torc.operations.allocation_rows import enter_allocation
from torc.operations.dispatch import Tx, answers
from torc.operations.lost_runners import RunnerLoss, lose
from torc.operations.outputs import refuse_shared_outputs
from torc.operations.provenance import record_surroundings
from torc.operations.row_mapping import decode_cursor, encode_cursor, workflow_of, workflow_row
from torc.operations.spending import end_charge, forget_old_charge
from torc.store import runners as runner_rows
from torc.store import workflows as workflow_rows
from torc.store.id_blocks import take_ids
from torc.store.json_columns import loads
from torc.store.transitions import Transitions
from torc.workflow.lifecycle import start_block
from torc.workflow.states import JobEvent, State

#: a runner that does not renew its lease for this long has lost its jobs
LEASE_SECONDS = 60.0

_PLAIN = ("workflow_id", "kind", "host", "pid", "process_started", "boot_id", "allocation_id", "node", "job_token_hash")


def cannot_start(row: RowMapping) -> Conflict:
    """Return the error that says why no job of a workflow may start now, and what to do."""
    block = start_block(row)
    ways = {
        "archived": f"bring it back: torc workflows archive {row['id']} --undo",
        "canceled": f"reset it first: torc workflows reset {row['id']}",
    }
    return Conflict(f"workflow {row['id']} is {block}", hint=ways[block] if block else "try again")


@answers(StartRun)
def start_run(tx: Tx, request: StartRun) -> Workflow:
    """Start a run, or continue one that was interrupted."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    if (
        start_block(row) == "archived"
    ):  # a workflow that was canceled has nothing to run, unless something was reset since
        raise cannot_start(row)
    expire_leases(tx, row)
    if row["charged_to"] is not None:
        forget_old_charge(tx, row)
    moves = Transitions(tx.db, tx.dialect, row["id"])
    moves.apply(JobEvent.RESUMED, moves.interrupted())
    moves.finish(tx.now, tx.actor, has_job_actions=bool(row["has_job_actions"]))
    states = workflow_rows.job_counts(tx.db, tx.dialect, [row["id"]])[row["id"]]
    is_ready, is_left = State.READY in states, State.READY in states or State.BLOCKED in states
    if is_left:
        refuse_shared_outputs(tx, row)
    if row["is_begun"] and is_ready:
        workflow_rows.reopen_run(tx.db, row["id"], tx.now)
    elif not row["is_begun"] and is_left:
        begin(tx, row["id"])
    return workflow_of(tx, workflow_row(tx, row["id"]))


def begin(tx: Tx, workflow_id: int) -> None:
    """Start a new run."""
    workflow_rows.begin_run(tx.db, workflow_id, tx.now)
    row = workflow_row(tx, workflow_id)
    begin_actions(tx, row)
    tx.event(row["id"], "run_started", run_id=row["run_id"])


@answers(RegisterRunner)
def register_runner(tx: Tx, request: RegisterRunner) -> Runner:
    """Register a runner."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    if not row["is_begun"] and row["run_id"] == 0:
        raise Conflict(f"workflow {row['id']} has not been started", hint="start a run first")
    if start_block(row) == "archived":
        raise cannot_start(row)
    if request.allocation_id is not None:
        enter_allocation(tx, row["id"], request.allocation_id, request.node)
    runner_id = take_ids(tx.db, "runner")  # from here on, no other runner can be entered before this one is
    if not runner_rows.num_active(tx.db, row["id"]):
        refuse_shared_outputs(tx, row)
    values = {
        "id": runner_id,
        "run_id": row["run_id"],
        "capacity": request.capacity.model_dump_json(),
        "labels": json.dumps(request.labels),
        "started_at": tx.now,
        "lease_expires_at": tx.now + LEASE_SECONDS,
        **{name: getattr(request, name) for name in _PLAIN},
    }
    runner_rows.insert(tx.db, values)
    if request.surroundings is not None:
        record_surroundings(tx, row["id"], row["run_id"], runner_id, request.surroundings)
    tx.event(row["id"], "runner_registered", runner_id=runner_id, host=request.host)
    return runner_of(runner_row(tx, runner_id))


@answers(EndRunner)
def end_runner(tx: Tx, request: EndRunner) -> Runner:
    """End a runner and give up what it holds."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    runner = runner_row(tx, request.runner_id, request.workflow_id)
    if runner["is_active"]:
        give_up(tx, workflow, runner, request.reason)
    return runner_of(runner_row(tx, request.runner_id))


def give_up(tx: Tx, workflow: RowMapping, runner: RowMapping, reason: str, *, cluster_state: str | None = None) -> int:
    """End a runner: claimed jobs go back, running ones are lost. Returns how many jobs it held.

    `cluster_state`: the cluster's state of its allocation when it ended.
    """
    moves = Transitions(tx.db, tx.dialect, workflow["id"])
    held = moves.now(runner_rows.held_jobs(tx.db, runner["id"]))
    moves.apply(JobEvent.RELEASED, [job.id for job in held.values() if job.state is State.PENDING])
    lose(tx, workflow, runner["id"], held, moves, RunnerLoss(reason, cluster_state))
    runner_rows.end(tx.db, runner["id"], tx.now, reason)
    release_firings(tx, workflow["id"], runner["id"])
    moves.finish(tx.now, tx.actor, has_job_actions=bool(workflow["has_job_actions"]))
    tx.event(workflow["id"], "runner_ended", runner_id=runner["id"], reason=reason, jobs_held=len(held))
    if workflow["charged_to"] is not None:
        is_over = workflow_row(tx, workflow["id"])["ended_at"] is not None
        end_charge(tx, workflow, run_is_over=is_over)
    return len(held)


def end_runners(tx: Tx, workflow: RowMapping, reason: str, *, holding: Collection[int] | None = None) -> None:
    """End all runners, or those that hold some jobs; they learn it from their next exchange, and stop everything."""
    ids = None if holding is None else runner_rows.holding(tx.db, tx.dialect, holding)
    for runner in runner_rows.active(tx.db, workflow["id"]):
        if ids is None or runner["id"] in ids:
            give_up(tx, workflow, runner, reason)


def expire_leases(tx: Tx, workflow: RowMapping, *, but: int | None = None) -> None:
    """Give up runners with expired leases, except one."""
    for runner in runner_rows.expired(tx.db, workflow["id"], tx.now):
        if runner["id"] != but:
            give_up(tx, workflow, runner, "lease ended")


def end_lost(tx: Tx, workflow: RowMapping, runner_ids: Collection[int]) -> None:
    """Give up runners of a workflow whose processes are known to be gone."""
    for runner in runner_rows.active(tx.db, workflow["id"]) if runner_ids else ():
        if runner["id"] in runner_ids:
            give_up(tx, workflow, runner, DIED)


def renew_leases(tx: Tx, workflow_id: int | None = None) -> None:
    """Extend the leases of runners that were silent because the store was unreachable: of one workflow, or of all."""
    runner_rows.renew_leases(tx.db, tx.now + LEASE_SECONDS, workflow_id)


def runner_row(tx: Tx, runner_id: int, workflow_id: int | None = None) -> RowMapping:
    """Return the row of a runner. Raises NotFound."""
    row = runner_rows.get(tx.db, runner_id)
    if row is None or workflow_id not in {None, row["workflow_id"]}:
        raise NotFound(
            f"there is no runner {runner_id}", hint="`torc compute-nodes list` shows the runners of a workflow"
        )
    return row


def runner_of(row: RowMapping) -> Runner:
    """Make the value of a runner."""
    plain: dict[str, Any] = {
        key: row[key]
        for key in row
        if key not in {"capacity", "labels", "is_active", "job_token_hash", "last_exchange"}
    }
    return Runner(
        **plain,
        is_active=bool(row["is_active"]),
        capacity=NodeCapacity.model_validate(loads(row["capacity"])),
        labels=loads(row["labels"], {}),
    )


@answers(ListRunners)
def list_runners(tx: Tx, request: ListRunners) -> Page[Runner]:
    """List runners, newest first."""
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    before = key[0] if key else None
    rows = runner_rows.newest(
        tx.db, request.workflow_id, active_only=request.active_only, before=before, limit=request.limit + 1
    )
    more = len(rows) > request.limit
    items = [runner_of(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if more else None)


@answers(GetRunner)
def get_runner(tx: Tx, request: GetRunner) -> Runner:
    """Get one runner."""
    return runner_of(runner_row(tx, request.runner_id))


@answers(GetRunnerSettings)
def get_runner_settings(tx: Tx, request: GetRunnerSettings) -> RunnerSettings:
    """Get what a runner needs to know about a workflow."""
    row = workflow_row(tx, request.workflow_id)
    return RunnerSettings(
        workflow_id=row["id"],
        workflow_name=row["name"],
        run_id=row["run_id"],
        directory=row["directory"],
        env=loads(row["env"], {}),
        settings=loads(row["settings"], {}),
    )
