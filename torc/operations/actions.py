"""Actions: when they are due and which runner runs them, each exactly once.

A firing is a row with a unique key (action, run, occasion), inserted when the action becomes due. A firing that runs commands is
taken by one runner, which reports the start before it starts them, and then the result. If the runner is lost before the start, the
firing becomes due again. If it is lost after the start, nobody knows how far the commands came: the firing becomes due again, with the
same key (by which the commands can recognize it), unless the action is `at_most_once`. A firing that requests allocations is taken in
the transaction that records them, by whoever follows the workflow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

from sqlalchemy import RowMapping

from torc.api.runs import ActionAssignment, ActionFinished
from torc.operations.dispatch import Tx
from torc.operations.row_mapping import workflow_row
from torc.store import actions as action_rows
from torc.store import runners as runner_rows
from torc.store.actions import UnfinishedFiring, occasion_of
from torc.store.json_columns import loads

_MAY_HAVE_RUN = "its runner was lost after it had started; it may have run, and does not run again (at_most_once)"


def begin_actions(tx: Tx, workflow: RowMapping) -> None:
    """Make a new run's actions wait for their jobs again, and fire those that its start triggers."""
    action_rows.reset_reached(tx.db, workflow["id"])
    fire(tx, workflow, "on_workflow_start")
    fire_reached(tx, workflow)


def fire(tx: Tx, workflow: RowMapping, trigger: str, occasion: str = "") -> None:
    """Make the actions of a trigger due, once each."""
    action_rows.fire(tx.db, workflow, trigger, occasion)


def fire_for_runner(tx: Tx, workflow: RowMapping, runner_id: int) -> None:
    """Make due what only this runner can run: actions triggered by the start of a worker, and persistent actions so far."""
    occasion = occasion_of(runner_id)
    fire(tx, workflow, "on_worker_start", occasion)
    action_rows.fire_persistent(tx.db, workflow, occasion)


def fire_reached(tx: Tx, workflow: RowMapping) -> None:
    """Make the actions due whose jobs have all met the condition."""
    if workflow["has_job_actions"]:
        action_rows.fire_reached(tx.db, workflow)


def unfinished(tx: Tx, workflow_id: int) -> list[UnfinishedFiring]:
    """Return the firings that run commands and are due or running."""
    return action_rows.unfinished(tx.db, tx.dialect, workflow_id)


def holds_jobs_back(firings: Sequence[UnfinishedFiring], runner_id: int) -> bool:
    """Return whether actions triggered by the start of a run or worker must run before this runner may start jobs."""
    return any(
        firing.trigger in {"on_workflow_start", "on_worker_start"} and firing.is_for(runner_id) for firing in firings
    )


def take_due(tx: Tx, workflow_id: int, runner_id: int, firings: Sequence[UnfinishedFiring]) -> list[ActionAssignment]:
    """Assign to a runner the due actions that it may run.

    Actions for the start of a worker wait for those for the start of the workflow, which may prepare what the worker needs.
    """
    starting = any(firing.trigger == "on_workflow_start" and firing.is_for(runner_id) for firing in firings)
    mine = [
        firing
        for firing in firings
        if firing.state == "due" and firing.is_for(runner_id) and not (starting and firing.trigger == "on_worker_start")
    ]
    action_rows.take(tx.db, [firing.firing_id for firing in mine], runner_id)
    for firing in mine:
        tx.event(workflow_id, "action_fired", action_id=firing.action_id, trigger=firing.trigger, runner_id=runner_id)
    return [
        ActionAssignment(
            firing_id=firing.firing_id,
            action_id=firing.action_id,
            trigger_type=firing.trigger,
            commands=loads(firing.commands, []),
            key=_key(tx, workflow_id, runner_id, firing),
        )
        for firing in mine
    ]


def _key(tx: Tx, workflow_id: int, runner_id: int, firing: UnfinishedFiring) -> str:
    """Return a name for an occasion: unique to this store, but stable if the store is restored from an older copy."""
    workflow = workflow_row(tx, workflow_id)
    occasion = f"{firing.action_id}/{firing.run_id}"
    if firing.occasion:  # of this runner
        runner = runner_rows.get(tx.db, runner_id)
        assert runner is not None
        occasion += f"/{firing.occasion}/{runner['started_at']!r}"
    mark = f"{workflow_id}/{occasion}/{workflow['created_at']!r}/{workflow['name']}"
    return hashlib.sha256(mark.encode()).hexdigest()[:32]


def start_actions(tx: Tx, runner_id: int, firing_ids: Sequence[int]) -> None:
    """Record that a runner starts assigned actions; a repeated report changes nothing."""
    for number in firing_ids:
        action_rows.begin(tx.db, number, runner_id)


def let_go(tx: Tx, workflow_id: int, runner_id: int, *, known: Collection[int] = (), is_here: bool = False) -> None:
    """Take back firings that a runner holds but does not know of. They become due again unless they may not run twice."""
    for firing in action_rows.taken(tx.db, tx.dialect, runner_id):
        number = firing.firing_id
        if number in known:
            continue
        if firing.state == "running" and loads(firing.settings, {}).get("at_most_once"):
            action_rows.fail(tx.db, tx.dialect, number, _MAY_HAVE_RUN)
            tx.event(workflow_id, "action_finished", firing_id=number, return_code=None, detail=_MAY_HAVE_RUN)
        elif firing.occasion == "" or is_here:
            action_rows.requeue(tx.db, tx.dialect, number)


def finish_actions(tx: Tx, workflow_id: int, finished: Sequence[ActionFinished]) -> None:
    """Record the results of actions; a repeated report changes nothing."""
    for item in finished:
        if action_rows.finish(tx.db, item.firing_id, item.return_code, item.detail):
            tx.event(
                workflow_id,
                "action_finished",
                firing_id=item.firing_id,
                return_code=item.return_code,
                detail=item.detail,
            )


def release_firings(tx: Tx, workflow_id: int, runner_id: int) -> None:
    """Make actions due again that a runner took and did not report; those that only that runner could run are dropped."""
    let_go(tx, workflow_id, runner_id)
    action_rows.fail_occasion(tx.db, occasion_of(runner_id), "its runner ended")


def take_scheduling(tx: Tx, workflow_id: int, firing_id: int, number: int) -> bool:
    """Take a due firing that requests allocations; the caller records them in the same transaction."""
    detail = f"{number} allocations"
    taken = action_rows.finish_scheduling(tx.db, workflow_id, firing_id, detail)
    if taken:
        tx.event(workflow_id, "action_finished", firing_id=firing_id, return_code=0, detail=detail)
    return taken
