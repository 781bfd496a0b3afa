"""The only writer of job states: sets of jobs are moved by the table of `torc.core.states`, and nothing else.

A move spreads: a finished job is counted off the gates that it holds shut, a gate at 0 opens, jobs behind an
unsuccessful one are canceled at once, until nothing moves. `torc.core.board` does the same in memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, text

from torc.core.states import HELD, SATISFIED, Effect, Event, State, moves, transition
from torc.errors import Conflict
from torc.store.dialect import Dialect
from torc.store.events import add_job_events

#: what the log calls the moves; those that are not here follow from others and are not logged
_LOGGED = {
    Event.STARTED: "jobs_started",
    Event.SUCCEEDED: "jobs_completed",
    Event.FAILED: "jobs_failed",
    Event.AWAITED_DECISION: "jobs_pending_failed",
    Event.RETRIED: "jobs_retried",
    Event.RELEASED: "jobs_released",
    Event.TERMINATED: "jobs_terminated",
    Event.INTERRUPTED: "jobs_interrupted",
    Event.CANCELED: "jobs_canceled",
    Event.PREREQUISITE_FAILED: "jobs_canceled",
    Event.DISABLED: "jobs_disabled",
    Event.RESUMED: "jobs_resumed",
    Event.RESET_READY: "jobs_reset",
    Event.RESET_BLOCKED: "jobs_reset",
}
#: these make a job due again although its gate may have been shut meanwhile
_DUE_AGAIN = frozenset({Event.RETRIED, Event.RELEASED, Event.RESUMED})


class JobNow(NamedTuple):
    """Where a job stands, for deciding what may happen to it."""

    id: int
    state: State
    counted: bool
    attempt: int
    runner_id: int | None
    gate_id: int | None
    failure_handler_id: int | None
    reason: str | None


class End(NamedTuple):
    """How an attempt ended, as far as the job's own row tells it."""

    return_code: int | None = None
    reason: str | None = None
    started_at: float | None = None
    recovery: str | None = None  # JSON


@cache
def _statements(dialect_name: str, id_list: str) -> dict[str, TextClause]:
    del dialect_name
    blocked_behind = (
        "SELECT id FROM job WHERE state = 'blocked' AND gate_id IN (SELECT gate_id FROM gate_prerequisite "
        f"WHERE job_id IN {id_list}) AND cancel_on_blocking_job_failure"
    )
    return {
        "now": text(
            "SELECT id, state, counted, attempt, runner_id, gate_id, failure_handler_id, reason "
            f"FROM job WHERE id IN {id_list}"
        ),
        "held_gates": text(
            f"SELECT gate_id, count(*) FROM gate_prerequisite WHERE job_id IN {id_list} GROUP BY gate_id ORDER BY gate_id"
        ),
        "open_gates": text(f"SELECT id FROM gate WHERE id IN {id_list} AND remaining = 0"),
        "behind_gates": text(f"SELECT id FROM job WHERE gate_id IN {id_list} AND state = 'blocked'"),
        "blocked_behind": text(blocked_behind),
        "shut_of": text(
            "SELECT job.id FROM job JOIN gate ON gate.id = job.gate_id "
            f"WHERE job.id IN {id_list} AND gate.remaining > 0 AND job.state = 'ready'"
        ),
        "ready_behind": text(f"SELECT id FROM job WHERE gate_id IN {id_list} AND state = 'ready'"),
        "spoiled_of": text(
            f"SELECT DISTINCT job.id FROM job WHERE job.id IN {id_list} AND job.cancel_on_blocking_job_failure "
            "AND EXISTS (SELECT 1 FROM gate_prerequisite p JOIN job q ON q.id = p.job_id WHERE p.gate_id = job.gate_id "
            "AND q.counted AND q.state NOT IN ('completed', 'disabled'))"
        ),
        "reached": text(
            f"UPDATE action_job SET reached = true WHERE job_id IN {id_list} AND NOT reached AND action_id IN "
            "(SELECT id FROM action WHERE trigger_type = :trigger) RETURNING action_id"
        ),
    }


_COUNT_GATE = text("UPDATE gate SET remaining = remaining - :n WHERE id = :gate")
_COUNT_STATE = text(
    "INSERT INTO job_count (workflow_id, state, count) VALUES (:workflow_id, :state, :n) "
    "ON CONFLICT (workflow_id, state) DO UPDATE SET count = job_count.count + :n"
)
_END = text(
    "UPDATE job SET state = :state, counted = :counted, runner_id = NULL, return_code = :return_code, "
    "reason = :reason, started_at = coalesce(:started_at, started_at), recovery = :recovery WHERE id = :id"
)
_START = text("UPDATE job SET state = :state, started_at = :started_at WHERE id = :id")


class Moves:
    """The moves of one transaction on one workflow. Call `finish` before the transaction ends."""

    def __init__(self, db: Connection, dialect: Dialect, workflow_id: int) -> None:
        self.db, self.dialect, self.workflow_id = db, dialect, workflow_id
        self.moved: dict[Event, list[int]] = defaultdict(list)
        self._sql = _statements(dialect.name, dialect.id_list)
        self._counts: Counter[State] = Counter()

    # -- asking -------------------------------------------------------------------------------------------------

    def now(self, ids: Collection[int]) -> dict[int, JobNow]:
        """Tell where jobs stand. Ids without a job are absent."""
        return {
            row[0]: JobNow(row[0], State(row[1]), bool(row[2]), *row[3:])
            for row in self.db.execute(self._sql["now"], {"ids": self.dialect.ids(ids)})
        }

    def ids_of(self, query: str, ids: Collection[int]) -> list[int]:
        """Give the ids that one of the named queries finds."""
        return [row[0] for row in self.db.execute(self._sql[query], {"ids": self.dialect.ids(ids)})]

    # -- moving -------------------------------------------------------------------------------------------------

    def apply(self, event: Event, ids: Collection[int], *, reason: str | None = None) -> list[int]:
        """Move those of the jobs that may take the event, and what follows from it. Gives the ids that moved."""
        if not ids:
            return []
        legal = moves(event)
        found = [job for job in self.now(ids).values() if job.state in legal]
        if event is Event.RESUMED:
            found = [job for job in found if not job.counted]
        self._move(event, found, reason)
        return [job.id for job in found]

    def _move(self, event: Event, jobs: Sequence[JobNow], reason: str | None) -> None:
        if not jobs:
            return
        groups: dict[tuple[State, State, bool, bool], list[int]] = defaultdict(list)
        newly: list[int] = []
        for job in jobs:
            target, effects = transition(job.state, event)
            counted = Effect.COUNT_OFF in effects or (job.counted and Effect.COUNT_ON not in effects)
            stopping = Effect.STOP_ATTEMPT in effects  # the runner keeps it until it has stopped it
            groups[job.state, target, counted, stopping].append(job.id)
            if counted and not job.counted:
                newly.append(job.id)
        for (source, target, counted, stopping), ids in groups.items():
            self._set(ids, target, counted, keeps_runner=stopping or (target in HELD), reason=reason)
            self._counts[source] -= len(ids)
            self._counts[target] += len(ids)
        ids = [job.id for job in jobs]
        self.moved[event] += ids
        self._spread(event, ids, newly)

    def _set(self, ids: list[int], target: State, counted: bool, *, keeps_runner: bool, reason: str | None) -> None:
        runner = "" if keeps_runner else ", runner_id = NULL"
        self.db.execute(
            text(
                f"UPDATE job SET state = :state, counted = :counted, reason = :reason{runner} "
                f"WHERE id IN {self.dialect.id_list}"
            ),
            {"state": target.value, "counted": counted, "reason": reason, "ids": self.dialect.ids(ids)},
        )

    def end(self, event: Event, ends: Mapping[int, End], jobs: Mapping[int, JobNow]) -> None:
        """Move jobs whose attempts ended; each must be able to take the event. What follows is spread."""
        rows: list[dict[str, Any]] = []
        newly: list[int] = []
        for job_id, end in ends.items():
            job = jobs[job_id]
            target, effects = transition(job.state, event)
            counted = job.counted or Effect.COUNT_OFF in effects
            if counted and not job.counted:
                newly.append(job_id)
            self._counts[job.state] -= 1
            self._counts[target] += 1
            rows.append(
                {"id": job_id, "state": target.value, "counted": counted, "return_code": end.return_code,
                 "reason": end.reason, "started_at": end.started_at, "recovery": end.recovery}
            )  # fmt: skip
        if rows:
            self.db.execute(_END, rows)
            self.moved[event] += ends
            self._spread(event, list(ends), newly)

    def start(self, started: Mapping[int, float], jobs: Mapping[int, JobNow]) -> None:
        """Move pending jobs to running."""
        rows = []
        for job_id, at in started.items():
            target, _ = transition(jobs[job_id].state, Event.STARTED)
            self._counts[jobs[job_id].state] -= 1
            self._counts[target] += 1
            rows.append({"id": job_id, "state": target.value, "started_at": at})
        if rows:
            self.db.execute(_START, rows)
            self.moved[Event.STARTED] += started

    def claimed(self, ids: Sequence[int]) -> None:
        """Count jobs that `claims` has moved from ready to pending."""
        target, _ = transition(State.READY, Event.CLAIMED)
        self._counts[State.READY] -= len(ids)
        self._counts[target] += len(ids)
        self.moved[Event.CLAIMED] += ids

    def _spread(self, event: Event, ids: Sequence[int], newly_counted: Sequence[int]) -> None:
        if event in _DUE_AGAIN:
            self.apply(Event.RESET_BLOCKED, self.ids_of("shut_of", ids))
        if not newly_counted:
            return
        target = next(iter(moves(event).values()))[0]
        if target not in SATISFIED:
            self._cancel_behind(newly_counted)
        held = self.db.execute(self._sql["held_gates"], {"ids": self.dialect.ids(newly_counted)}).all()
        if held:
            self.db.execute(_COUNT_GATE, [{"gate": gate, "n": n} for gate, n in held])
            opened = self.ids_of("open_gates", [gate for gate, _ in held])
            if opened:
                self.apply(Event.GATE_OPENED, self.ids_of("behind_gates", opened))

    def _cancel_behind(self, ids: Sequence[int]) -> None:
        behind = self.ids_of("blocked_behind", ids)
        if behind:
            self.apply(Event.PREREQUISITE_FAILED, behind, reason="a prerequisite did not complete")

    # -- new jobs -----------------------------------------------------------------------------------------------

    def added(self, ids: Sequence[int]) -> None:
        """Count jobs that were just inserted as uninitialized."""
        self._counts[State.UNINITIALIZED] += len(ids)

    def initialize(self, ids: Collection[int]) -> None:
        """Make uninitialized jobs blocked, ready, or canceled where a prerequisite was unsuccessful already."""
        jobs = [job for job in self.now(ids).values() if job.state is State.UNINITIALIZED]
        gates = {job.gate_id for job in jobs if job.gate_id is not None}
        open_gates = set(self.ids_of("open_gates", gates)) if gates else set()
        spoiled = set(self.ids_of("spoiled_of", [job.id for job in jobs]))
        ready = [j for j in jobs if (j.gate_id is None or j.gate_id in open_gates) and j.id not in spoiled]
        self.apply(Event.GATE_OPENED, [job.id for job in ready])
        waiting = [job.id for job in jobs if job not in ready]
        self.apply(Event.INITIALIZED, waiting)
        self.apply(Event.PREREQUISITE_FAILED, spoiled, reason="a prerequisite did not complete")

    # -- resetting ----------------------------------------------------------------------------------------------

    def reset(self, ids: Collection[int], *, reason: str | None = None) -> dict[int, State]:
        """Make jobs due again: ready or blocked as their gates say. Gives the new states of the asked jobs.

        Ready jobs behind them are blocked again. A job behind a prerequisite that stays unsuccessful is canceled again.
        Raises Conflict for a job that a runner still holds.
        """
        jobs = self.now(ids)
        due = [job for job in jobs.values() if job.state is not State.BLOCKED]
        for job in due:
            if job.runner_id is not None:
                raise Conflict(f"job {job.id} is still held by a runner", hint="wait until it is stopped", job=job.id)
            if job.state is not State.READY:
                transition(job.state, Event.RESET_READY)
        shut = self._count_on([job.id for job in due if job.counted])
        spoiled = set(self.ids_of("spoiled_of", list(jobs)))
        self._back(due, spoiled, reason)
        self.apply(Event.RESET_BLOCKED, self.ids_of("ready_behind", shut))
        if spoiled:
            self.apply(Event.PREREQUISITE_FAILED, list(spoiled), reason="a prerequisite did not complete")
        return {job.id: job.state for job in self.now(ids).values()}

    def _count_on(self, ids: Sequence[int]) -> list[int]:
        if not ids:
            return []
        self.db.execute(
            text(f"UPDATE job SET counted = false WHERE id IN {self.dialect.id_list}"), {"ids": self.dialect.ids(ids)}
        )
        held = self.db.execute(self._sql["held_gates"], {"ids": self.dialect.ids(ids)}).all()
        if held:
            self.db.execute(_COUNT_GATE, [{"gate": gate, "n": -n} for gate, n in held])
        return [gate for gate, _ in held]

    def _back(self, due: Sequence[JobNow], spoiled: Collection[int], reason: str | None) -> None:
        gates = {job.gate_id for job in due if job.gate_id is not None}
        open_gates = set(self.ids_of("open_gates", gates)) if gates else set()
        groups: dict[tuple[State, Event], list[JobNow]] = defaultdict(list)
        for job in due:
            is_open = (job.gate_id is None or job.gate_id in open_gates) and job.id not in spoiled
            if job.state is not State.READY or not is_open:
                groups[job.state, Event.RESET_READY if is_open else Event.RESET_BLOCKED].append(job)
        for (source, event), jobs in groups.items():
            target, _ = transition(source, event)
            ids = [job.id for job in jobs]
            self.db.execute(
                text(
                    "UPDATE job SET state = :state, counted = false, reason = :reason, recovery = NULL, fingerprint = NULL "
                    f"WHERE id IN {self.dialect.id_list}"
                ),
                {"state": target.value, "reason": reason, "ids": self.dialect.ids(ids)},
            )
            self._counts[source] -= len(ids)
            self._counts[target] += len(ids)
            self.moved[event] += ids

    # -- the end ------------------------------------------------------------------------------------------------

    def finish(self, now: float, actor: str, *, has_job_actions: bool = False) -> None:
        """Write counts and events, and count the jobs that actions wait for."""
        rows = [
            {"workflow_id": self.workflow_id, "state": state.value, "n": n} for state, n in self._counts.items() if n
        ]
        if rows:
            self.db.execute(_COUNT_STATE, rows)
        self._counts.clear()
        logged: dict[str, list[int]] = {}
        for event, ids in self.moved.items():
            if event in _LOGGED and ids:
                logged.setdefault(_LOGGED[event], []).extend(ids)
        add_job_events(self.db, self.workflow_id, now, actor, list(logged.items()))
        if has_job_actions:
            self._reach()
        self.moved.clear()

    def _reach(self) -> None:
        ended = [i for e, ids in self.moved.items() if _ends(e) for i in ids]
        ready = [i for e in (Event.GATE_OPENED, Event.RESET_READY, Event.RETRIED) for i in self.moved.get(e, ())]
        for trigger, ids in (("on_jobs_ready", ready + ended), ("on_jobs_complete", ended)):
            if not ids:
                continue
            rows = self.db.execute(self._sql["reached"], {"ids": self.dialect.ids(ids), "trigger": trigger})
            reached = Counter(row[0] for row in rows)
            if reached:
                self.db.execute(
                    text("UPDATE action SET remaining = remaining - :n WHERE id = :id"),
                    [{"id": action, "n": n} for action, n in reached.items()],
                )


@cache
def _ends(event: Event) -> bool:
    return any(Effect.COUNT_OFF in effects for _, effects in moves(event).values())
