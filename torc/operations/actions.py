"""Actions: when they are due, who carries them out, each exactly once.

A firing is a row with a unique key (action, run, occasion): it is made when the action is due. One that runs commands is taken by one
runner, which reports that it begins before it does, and how it went. When its runner was lost before it began, it is due again. When
it had begun, nobody knows how far it came: it is due again, with the same key for its commands to know it by, unless the
action is `at_most_once`. One that asks for allocations holds nobody up: it is taken in the transaction that records them, by whoever
follows the workflow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import RowMapping, text

from torc.api.runs import ActionAssignment, ActionFinished
from torc.operations.dispatch import Tx
from torc.store.json_columns import loads

_FIRE = text(
    "INSERT INTO firing (workflow_id, action_id, run_id, occasion, state) "
    "SELECT workflow_id, id, :run_id, :occasion, 'due' FROM action WHERE workflow_id = :id AND trigger_type = :trigger "
    "AND NOT (persistent AND action_type = 'run_commands' AND trigger_type = 'on_workflow_start') "
    "ON CONFLICT (action_id, run_id, occasion) DO NOTHING"
)
_FIRE_REACHED = text(
    "INSERT INTO firing (workflow_id, action_id, run_id, occasion, state) "
    "SELECT workflow_id, id, :run_id, '', 'due' FROM action WHERE workflow_id = :id AND remaining <= 0 "
    "AND trigger_type IN ('on_jobs_ready', 'on_jobs_complete') AND NOT (persistent AND action_type = 'run_commands') "
    "ON CONFLICT (action_id, run_id, occasion) DO NOTHING"
)
#: each runner carries these out, whenever it comes
_FIRE_PERSISTENT = text(
    "INSERT INTO firing (workflow_id, action_id, run_id, occasion, state) "
    "SELECT workflow_id, id, :run_id, :occasion, 'due' FROM action WHERE workflow_id = :id AND persistent "
    "AND action_type = 'run_commands' AND (trigger_type = 'on_workflow_start' "
    "OR (trigger_type IN ('on_jobs_ready', 'on_jobs_complete') AND remaining <= 0)) "
    "ON CONFLICT (action_id, run_id, occasion) DO NOTHING"
)
_UNFINISHED = (
    "SELECT f.id, f.action_id, a.trigger_type, a.commands, f.state, f.occasion, f.run_id FROM firing f "
    "JOIN action a ON a.id = f.action_id WHERE f.workflow_id = :id AND f.state IN ('due', 'taken', 'running') "
    "AND a.action_type = 'run_commands' ORDER BY a.position, f.id"
)
_TAKE = text("UPDATE firing SET state = 'taken', runner_id = :runner_id WHERE id = :id")
_DONE = text(
    "UPDATE firing SET state = :state, return_code = :code, detail = :detail WHERE id = :id AND state IN ('taken', 'running')"
)
_BEGIN = text("UPDATE firing SET state = 'running' WHERE id = :id AND runner_id = :runner_id AND state = 'taken'")
_TAKEN = (
    "SELECT f.id, f.state, f.occasion, a.settings FROM firing f JOIN action a ON a.id = f.action_id "
    "WHERE f.runner_id = :id AND f.state IN ('taken', 'running')"
)
_DUE_AGAIN = "UPDATE firing SET state = 'due', runner_id = NULL WHERE id = :id"
_GIVEN_UP = "UPDATE firing SET state = 'failed', detail = :detail WHERE id = :id"
_MAY_HAVE_RUN = "its runner was lost after it had started; it may have run, and does not run again (at_most_once)"


def begin_actions(tx: Tx, workflow: RowMapping) -> None:
    """Make a new run's actions wait for their jobs again, and fire what its start fires."""
    tx.db.execute(
        text(
            "UPDATE action_job SET reached = EXISTS (SELECT 1 FROM job j JOIN action a ON a.id = action_job.action_id "
            "WHERE j.id = action_job.job_id AND (j.counted OR (a.trigger_type = 'on_jobs_ready' AND j.state = 'ready'))) "
            "WHERE action_id IN (SELECT id FROM action WHERE workflow_id = :id)"
        ),
        {"id": workflow["id"]},
    )
    tx.db.execute(
        text(
            "UPDATE action SET remaining = (SELECT count(*) FROM action_job w WHERE w.action_id = action.id "
            "AND NOT w.reached) WHERE workflow_id = :id"
        ),
        {"id": workflow["id"]},
    )
    fire(tx, workflow, "on_workflow_start")
    fire_reached(tx, workflow)


def fire(tx: Tx, workflow: RowMapping, trigger: str, occasion: str = "") -> None:
    """Make the actions of a trigger due, once."""
    tx.db.execute(_FIRE, {"id": workflow["id"], "run_id": workflow["run_id"], "trigger": trigger, "occasion": occasion})


def fire_for_runner(tx: Tx, workflow: RowMapping, runner_id: int) -> None:
    """Make due what this runner has to carry out itself: what the start of a worker fires, and persistent actions so far."""
    occasion = f"runner:{runner_id}"
    fire(tx, workflow, "on_worker_start", occasion)
    values = {"id": workflow["id"], "run_id": workflow["run_id"], "occasion": occasion}
    tx.db.execute(_FIRE_PERSISTENT, values)


def fire_reached(tx: Tx, workflow: RowMapping) -> None:
    """Make due what waited for jobs that have all come so far."""
    if workflow["has_job_actions"]:
        tx.db.execute(_FIRE_REACHED, {"id": workflow["id"], "run_id": workflow["run_id"]})


class UnfinishedFiring(NamedTuple):
    """A firing that is due or being carried out."""

    firing_id: int
    action_id: int
    trigger: str
    commands: str | list[str]
    state: str
    occasion: str
    run_id: int

    def is_for(self, runner_id: int) -> bool:
        """Return whether this runner may carry it out."""
        return self.occasion in {"", f"runner:{runner_id}"}


def unfinished(tx: Tx, workflow_id: int) -> list[UnfinishedFiring]:
    """Return the firings that run commands, and are due or being carried out."""
    return [UnfinishedFiring(*row) for row in tx.dialect.fetch(tx.db, _UNFINISHED, {"id": workflow_id})]


def holds_jobs_back(firings: Sequence[UnfinishedFiring], runner_id: int) -> bool:
    """Return whether something must be done before this runner may start jobs: what the start of a run or worker fired."""
    return any(
        firing.trigger in {"on_workflow_start", "on_worker_start"} and firing.is_for(runner_id) for firing in firings
    )


def take_due(tx: Tx, workflow_id: int, runner_id: int, firings: Sequence[UnfinishedFiring]) -> list[ActionAssignment]:
    """Return a runner the actions that are due and that it may carry out.

    The start of a worker waits for the start of the workflow, which may make what the worker needs.
    """
    starting = any(firing.trigger == "on_workflow_start" and firing.is_for(runner_id) for firing in firings)
    mine = [
        firing
        for firing in firings
        if firing.state == "due" and firing.is_for(runner_id) and not (starting and firing.trigger == "on_worker_start")
    ]
    if mine:
        tx.db.execute(_TAKE, [{"id": firing.firing_id, "runner_id": runner_id} for firing in mine])
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
    """Name an occasion: as no other store does, but as before in a store that was restored from an older copy."""
    name, created_at = tx.dialect.fetch(
        tx.db, "SELECT name, created_at FROM workflow WHERE id = :id", {"id": workflow_id}
    )[0]
    occasion = f"{firing.action_id}/{firing.run_id}"
    if firing.occasion:  # of this runner
        (started_at,) = tx.dialect.fetch(tx.db, "SELECT started_at FROM runner WHERE id = :id", {"id": runner_id})[0]
        occasion += f"/{firing.occasion}/{started_at!r}"
    return hashlib.sha256(f"{workflow_id}/{occasion}/{created_at!r}/{name}".encode()).hexdigest()[:32]


def start_actions(tx: Tx, runner_id: int, firing_ids: Sequence[int]) -> None:
    """Record that a runner begins what it was given; a repeated report changes nothing."""
    for number in firing_ids:
        tx.db.execute(_BEGIN, {"id": number, "runner_id": runner_id})


def let_go(tx: Tx, workflow_id: int, runner_id: int, *, known: Collection[int] = (), is_here: bool = False) -> None:
    """Take back firings that a runner holds and does not know of. They are due again unless they may not run twice."""
    for number, state, occasion, settings in tx.dialect.fetch(tx.db, _TAKEN, {"id": runner_id}):
        if number in known:
            continue
        if state == "running" and loads(settings, {}).get("at_most_once"):
            tx.dialect.run(tx.db, _GIVEN_UP, {"id": number, "detail": _MAY_HAVE_RUN})
            tx.event(workflow_id, "action_finished", firing_id=number, return_code=None, detail=_MAY_HAVE_RUN)
        elif occasion == "" or is_here:
            tx.dialect.run(tx.db, _DUE_AGAIN, {"id": number})


def finish_actions(tx: Tx, workflow_id: int, finished: Sequence[ActionFinished]) -> None:
    """Record how actions went; a repeated report changes nothing."""
    for item in finished:
        done = tx.db.execute(
            _DONE,
            {
                "id": item.firing_id,
                "state": "failed" if item.return_code else "done",
                "code": item.return_code,
                "detail": item.detail,
            },
        )
        if done.rowcount:
            tx.event(
                workflow_id,
                "action_finished",
                firing_id=item.firing_id,
                return_code=item.return_code,
                detail=item.detail,
            )


def release_firings(tx: Tx, workflow_id: int, runner_id: int) -> None:
    """Make due again what a runner took and did not report; what only that runner could do is dropped."""
    let_go(tx, workflow_id, runner_id)
    tx.db.execute(
        text(
            "UPDATE firing SET state = 'failed', detail = 'its runner ended' WHERE occasion = :mine "
            "AND state IN ('due', 'taken', 'running')"
        ),
        {"mine": f"runner:{runner_id}"},
    )


_TAKE_SCHEDULING = text(
    "UPDATE firing SET state = 'done', return_code = 0, detail = :detail "
    "WHERE id = :id AND workflow_id = :workflow_id AND state = 'due'"
)


def take_scheduling(tx: Tx, workflow_id: int, firing_id: int, number: int) -> bool:
    """Take a firing that asks for allocations, when it is due; the caller records them in the same transaction."""
    values = {"id": firing_id, "workflow_id": workflow_id, "detail": f"{number} allocations"}
    taken = tx.db.execute(_TAKE_SCHEDULING, values).rowcount
    if taken:
        tx.event(workflow_id, "action_finished", firing_id=firing_id, return_code=0, detail=values["detail"])
    return bool(taken)
