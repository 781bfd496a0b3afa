"""The only writer of job states: sets of jobs are moved according to the table in `torc.workflow.states`.

Moves propagate: a finished job is counted off its gates, a gate at 0 opens, jobs behind an unsuccessful one are canceled at once, until
nothing moves. `torc.workflow.progress` does the same in memory. The creator of `Transitions` has locked the workflow, so what is read
stays true until the transaction ends.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection

from torc.errors import Conflict
from torc.failures.retry import RUNNER_LOST
from torc.store import gates
from torc.store.dialect import Dialect
from torc.store.events import add_events, of_jobs
from torc.store.job_fields import CLAIMED_FIELDS, claimed_fields
from torc.store.json_columns import loads
from torc.workflow.states import HELD, SATISFIED, Effect, JobEvent, State, moves, transition

#: the names of moves in the event log; moves that are not listed follow from others and are not logged
_LOGGED = {
    JobEvent.STARTED: "jobs_started",
    JobEvent.SUCCEEDED: "jobs_completed",
    JobEvent.FAILED: "jobs_failed",
    JobEvent.AWAITED_DECISION: "jobs_pending_failed",
    JobEvent.RETRIED: "jobs_retried",
    JobEvent.RELEASED: "jobs_released",
    JobEvent.TERMINATED: "jobs_terminated",
    JobEvent.INTERRUPTED: "jobs_interrupted",
    JobEvent.CANCELED: "jobs_canceled",
    JobEvent.PREREQUISITE_FAILED: "jobs_canceled",
    JobEvent.DISABLED: "jobs_disabled",
    JobEvent.RESUMED: "jobs_resumed",
    JobEvent.RESET_READY: "jobs_reset",
    JobEvent.RESET_BLOCKED: "jobs_reset",
}
#: after these a job may run again, although a prerequisite may have been reset while it was running
_DUE_AGAIN = frozenset({JobEvent.RETRIED, JobEvent.RELEASED, JobEvent.RESUMED})
_READY_NOW = (JobEvent.GATE_OPENED, JobEvent.RESET_READY, *_DUE_AGAIN)

#: making a State of each of 300,000 texts takes longer than reading them
_STATES = {state.value: state for state in State}

_OUTDATED = "the job was changed or reset before anything was known of the end of this attempt"
_CLOSE = f"UPDATE attempt SET detail = :why WHERE reason = '{RUNNER_LOST}' AND detail IS NULL AND job_id IN "
_USE_UP = (
    "UPDATE job SET attempt = attempt + 1 WHERE attempt > 0 AND runner_id IS NULL AND state IN ('ready', 'blocked') AND NOT EXISTS "
    "(SELECT 1 FROM attempt a WHERE a.job_id = job.id AND a.attempt = job.attempt) AND id IN "
)

_NUM_ENABLED = "SELECT coalesce(sum(count), 0) FROM job_count WHERE workflow_id = :id AND state <> 'disabled'"

# -- all jobs of a workflow: no ids go to and fro, and the table is read in its own order
_IDS = "SELECT min(id), max(id) FROM job WHERE workflow_id = :id"
_ALL = "workflow_id = :id AND id BETWEEN :first AND :last"
_UNCOUNTED = f"SELECT id, state FROM job WHERE {_ALL} AND NOT counted"
_HELD_ANY = (
    f"SELECT id FROM job WHERE {_ALL} AND runner_id IS NOT NULL AND state NOT IN ('blocked', 'disabled') LIMIT 1"
)
_ALL_GATED = f"SELECT id, state, gate_id FROM job WHERE {_ALL} AND state <> 'blocked'"
_CANCEL_ALL = (
    "UPDATE job SET state = :state, counted = true, reason = :reason, "
    "runner_id = CASE WHEN state IN ({stopped}) THEN runner_id END "
    f"WHERE {_ALL} AND NOT counted"
)
_GATE_IS_OPEN = (
    "(gate_id IS NULL OR gate_id IN (SELECT g.id FROM gate g WHERE g.workflow_id = :id AND g.remaining = 0))"
)
_RESET_ALL = (
    f"UPDATE job SET state = CASE WHEN {_GATE_IS_OPEN} THEN 'ready' ELSE 'blocked' END, counted = false, reason = NULL, "
    "return_code = NULL, started_at = NULL, recovery = NULL, due_at = NULL, fingerprint = NULL "
    f"WHERE {_ALL} AND state NOT IN ('blocked', 'disabled') AND NOT (state = 'ready' AND {_GATE_IS_OPEN})"
)
_HURRY_ALL = "UPDATE job SET due_at = NULL WHERE workflow_id = :id AND due_at IS NOT NULL"
_CLOSE_ALL = (
    f"UPDATE attempt SET detail = :why WHERE workflow_id = :id AND reason = '{RUNNER_LOST}' AND detail IS NULL "
    "AND job_id NOT IN (SELECT id FROM job WHERE workflow_id = :id AND state = 'disabled')"
)
_USE_UP_ALL = (
    f"UPDATE job SET attempt = attempt + 1 WHERE {_ALL} AND attempt > 0 AND state NOT IN ('completed', 'failed', 'disabled') "
    "AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.job_id = job.id AND a.attempt = job.attempt)"
)


class JobStatus(NamedTuple):
    """The state of a job, for deciding what may happen to it."""

    id: int
    state: State
    counted: bool
    attempt: int
    runner_id: int | None
    gate_id: int | None
    failure_handler_id: int | None
    requirement_id: int


class AttemptEnd(NamedTuple):
    """How an attempt ended, as far as the job's own row tells it."""

    return_code: int | None = None
    reason: str | None = None
    started_at: float | None = None
    recovery: str | None = None  # JSON
    due_at: float | None = None  # of a retry that has to wait


class ClaimedJob(NamedTuple):
    """What a runner needs to know about a job."""

    id: int
    name: str
    attempt: int
    has_outputs: bool
    input_set_id: int | None
    recovery: dict[str, Any]  # what a retry begins with
    fields: dict[str, Any]  # those that runners are given, by name


_CLAIMED = ", ".join(
    ("id", "name", "attempt", "has_outputs", "input_set_id", "recovery", *(field.name for field in CLAIMED_FIELDS))
)
_NOW = (
    "SELECT id, state, counted, attempt, runner_id, gate_id, failure_handler_id, requirement_id FROM job WHERE id IN "
)
_COUNT_STATE = (
    "INSERT INTO job_count (workflow_id, state, count) VALUES (:workflow_id, :state, :n) "
    "ON CONFLICT (workflow_id, state) DO UPDATE SET count = job_count.count + :n"
)
_END = (
    "UPDATE job SET state = :state, counted = :counted, runner_id = NULL, return_code = :return_code, "
    "reason = :reason, started_at = coalesce(:started_at, started_at), recovery = :recovery, due_at = :due_at WHERE id = :id"
)
_FIRST_DUE = "SELECT min(due_at) FROM job WHERE workflow_id = :id AND due_at IS NOT NULL"
_WAKE = "UPDATE job SET due_at = NULL WHERE workflow_id = :id AND due_at IS NOT NULL AND due_at <= :now"
_INTERRUPTED = "SELECT id FROM job WHERE workflow_id = :id AND state = 'terminated' AND NOT counted"
_START = "UPDATE job SET state = :state, started_at = :started_at WHERE id = :id"
_REACHED = (
    "UPDATE action_job SET reached = true WHERE job_id IN {ids} AND NOT reached AND action_id IN "
    "(SELECT id FROM action WHERE trigger_type = :trigger) RETURNING action_id"
)


class Transitions:
    """The moves of one transaction on one workflow. Call `finish` before the transaction ends."""

    def __init__(self, db: Connection, dialect: Dialect, workflow_id: int) -> None:
        self.db, self.dialect, self.workflow_id = db, dialect, workflow_id
        self.moved: dict[JobEvent, list[int]] = defaultdict(list)
        self._counts: Counter[State] = Counter()

    # -- asking -------------------------------------------------------------------------------------------------

    def now(self, ids: Collection[int]) -> dict[int, JobStatus]:
        """Return the states of jobs. Ids without a job are absent."""
        rows = self.dialect.fetch(self.db, _NOW + self.dialect.id_list, {"ids": self.dialect.ids(ids)})
        return {row[0]: JobStatus(row[0], _STATES[row[1]], bool(row[2]), *row[3:]) for row in rows}

    def num_enabled(self) -> int:
        """Return how many jobs the workflow has that are not disabled, as it stood before the moves of this transaction."""
        return int(self.dialect.fetch(self.db, _NUM_ENABLED, {"id": self.workflow_id})[0][0])

    def interrupted(self) -> list[int]:
        """Return the ids of jobs that were interrupted and will be resumed."""
        return [row[0] for row in self.dialect.fetch(self.db, _INTERRUPTED, {"id": self.workflow_id})]

    def has_interrupted(self) -> bool:
        """Return whether a job was interrupted and will be resumed."""
        return bool(self.dialect.fetch(self.db, f"{_INTERRUPTED} LIMIT 1", {"id": self.workflow_id}))

    # -- moving -------------------------------------------------------------------------------------------------

    def apply(self, event: JobEvent, ids: Collection[int], *, reason: str | None = None) -> list[int]:
        """Move those of the jobs that accept the event, and what follows from it. Returns the ids that moved."""
        if not ids:
            return []
        legal = _legal(event)
        groups: dict[tuple[State, bool], list[int]] = defaultdict(list)
        for job in self.now(ids).values():
            if job.state in legal and not (event is JobEvent.RESUMED and job.counted):
                groups[job.state, job.counted].append(job.id)
        newly = [
            job for (state, counted), at in groups.items() for job in self._move(event, state, at, reason, counted)
        ]
        moved = [job for at in groups.values() for job in at]
        self._spread(event, moved, newly)
        return moved

    def _move(
        self, event: JobEvent, source: State, ids: Sequence[int], reason: str | None = None, counted: bool = False
    ) -> Sequence[int]:
        """Move jobs that are all in the same state; return those that must be counted off as a result."""
        if not ids:
            return ids
        target, effects = transition(source, event)
        off = Effect.COUNT_OFF in effects
        # a runner keeps a job that it has to stop until it has stopped it
        keeps = Effect.STOP_ATTEMPT in effects or target in HELD
        runner = "" if keeps else ", runner_id = NULL"
        self.dialect.run(
            self.db,
            f"UPDATE job SET state = :state, counted = :counted, reason = :reason{runner} WHERE id IN "
            + self.dialect.id_list,
            {
                "state": target.value,
                "counted": off or (counted and Effect.COUNT_ON not in effects),
                "reason": reason,
                "ids": self.dialect.ids(ids),
            },
        )
        self._note(event, source, target, ids)
        return ids if off and not counted else ()

    def _note(self, event: JobEvent, source: State, target: State, ids: Collection[int]) -> None:
        self._counts[source] -= len(ids)
        self._counts[target] += len(ids)
        self.moved[event] += ids

    def end(self, event: JobEvent, ends: Mapping[int, AttemptEnd], jobs: Mapping[int, JobStatus]) -> None:
        """Move jobs whose attempts ended; each must accept the event. Consequences are propagated."""
        rows: list[dict[str, Any]] = []
        newly: list[int] = []
        for job_id, end in ends.items():
            job = jobs[job_id]
            target, effects = transition(job.state, event)
            counted = job.counted or Effect.COUNT_OFF in effects
            if counted and not job.counted:
                newly.append(job_id)
            self._note(event, job.state, target, (job_id,))
            rows.append(
                {
                    "id": job_id,
                    "state": target.value,
                    "counted": counted,
                    "return_code": end.return_code,
                    "reason": end.reason,
                    "started_at": end.started_at,
                    "recovery": end.recovery,
                    "due_at": end.due_at,
                }
            )
        if rows:
            self.dialect.run_many(self.db, _END, rows)
            self._spread(event, [job for job in ends if jobs[job].gate_id is not None], newly)

    def start(self, started: Mapping[int, float], jobs: Mapping[int, JobStatus]) -> None:
        """Move pending jobs to running."""
        rows = []
        for job_id, at in started.items():
            target, _ = transition(jobs[job_id].state, JobEvent.STARTED)
            self._note(JobEvent.STARTED, jobs[job_id].state, target, (job_id,))
            rows.append({"id": job_id, "state": target.value, "started_at": at})
        if rows:
            self.dialect.run_many(self.db, _START, rows)

    def claim(self, ids: Sequence[int], runner_id: int) -> dict[int, ClaimedJob]:
        """Assign ready jobs to a runner; each starts a new attempt."""
        target, _ = transition(State.READY, JobEvent.CLAIMED)
        rows = self.dialect.fetch(
            self.db,
            "UPDATE job SET state = :state, runner_id = :runner_id, attempt = attempt + 1, started_at = NULL, "
            f"fingerprint = NULL WHERE id IN {self.dialect.id_list} AND state = 'ready' RETURNING {_CLAIMED}",
            {"state": target.value, "runner_id": runner_id, "ids": self.dialect.ids(ids)},
        )
        claimed = {
            number: ClaimedJob(
                number, name, attempt, bool(has_outputs), inputs, loads(recovery, {}), claimed_fields(values)
            )
            for number, name, attempt, has_outputs, inputs, recovery, *values in rows
        }
        self._note(JobEvent.CLAIMED, State.READY, target, list(claimed))
        return claimed

    def wake_due(self, now: float) -> float | None:
        """Make retries claimable whose time has come; return when the next one is due. Fast: it reads an index of waiting retries."""
        values = {"id": self.workflow_id, "now": now}
        first = self.dialect.fetch(self.db, _FIRST_DUE, values)[0][0]
        if first is None or first > now:
            return None if first is None else float(first)
        self.dialect.run(self.db, _WAKE, values)
        after = self.dialect.fetch(self.db, _FIRST_DUE, values)[0][0]
        return None if after is None else float(after)

    def cancel_all(self, *, reason: str | None = None) -> list[int]:
        """Cancel every unfinished job. Returns their ids.

        Nothing needs to be propagated: every gate is open then, and no job waits behind it.
        """
        whole = self._whole()
        if whole is None:
            return []
        legal = _legal(JobEvent.CANCELED)
        groups: dict[State, list[int]] = defaultdict(list)
        for job_id, state in self.dialect.fetch(self.db, _UNCOUNTED, whole):
            groups[_STATES[state]].append(job_id)
        if not groups:
            return []
        stopped = ", ".join(f"'{state}'" for state, (_, effects) in legal.items() if Effect.STOP_ATTEMPT in effects)
        values = {**whole, "state": State.CANCELED.value, "reason": reason}
        self.dialect.run(self.db, _CANCEL_ALL.format(stopped=stopped), values)
        gates.open_all(self.db, self.dialect, self.workflow_id)
        for state, ids in groups.items():
            target, _ = transition(state, JobEvent.CANCELED)
            self._note(JobEvent.CANCELED, state, target, ids)
        return [job for ids in groups.values() for job in ids]

    def _whole(self) -> dict[str, int] | None:
        """Return what the statements about all jobs are bound to; None: there are none."""
        ((first, last),) = self.dialect.fetch(self.db, _IDS, {"id": self.workflow_id})
        return None if first is None else {"id": self.workflow_id, "first": first, "last": last}

    # -- what follows -------------------------------------------------------------------------------------------

    def _spread(self, event: JobEvent, ids: Sequence[int], newly_counted: Sequence[int]) -> None:
        """Propagate a move of `ids` layer by layer, so that chains may have any length."""
        if event in _DUE_AGAIN:
            self._second_thoughts(ids)
        if not newly_counted:
            return
        satisfied = next(iter(_legal(event).values()))[0] in SATISFIED
        layers = deque([(newly_counted, satisfied)])
        while layers:
            off, satisfied = layers.popleft()
            if not satisfied:  # first of all: what is to be canceled must not become ready
                fallen = self._fall(gates.spoiled_behind(self.db, self.dialect, off))
                if fallen:
                    layers.append((fallen, False))
            opened = gates.count_off(self.db, self.dialect, off)
            self._move(JobEvent.GATE_OPENED, State.BLOCKED, gates.behind(self.db, self.dialect, opened, State.BLOCKED))

    def _fall(self, by_reason: Mapping[str, Sequence[int]]) -> list[int]:
        """Cancel blocked jobs because of a prerequisite; return those that must be counted off as a result."""
        return [
            job
            for reason, ids in by_reason.items()
            for job in self._move(JobEvent.PREREQUISITE_FAILED, State.BLOCKED, ids, reason)
        ]

    def _second_thoughts(self, ids: Sequence[int]) -> None:
        """Block jobs that may run again but whose gate was shut meanwhile, or cancel them because of a prerequisite."""
        if not ids:
            return
        spoiled = [job for at in gates.spoiled_among(self.db, self.dialect, ids).values() for job in at]
        self.apply(JobEvent.RESET_BLOCKED, {*self.shut_among(ids), *spoiled})
        self.cancel_spoiled(spoiled)

    def shut_among(self, ids: Collection[int]) -> list[int]:
        """Return those of some jobs that are ready although their gates are shut."""
        query = (
            "SELECT job.id FROM job JOIN gate ON gate.id = job.gate_id "
            f"WHERE job.id IN {self.dialect.id_list} AND gate.remaining > 0 AND job.state = 'ready'"
        )
        return [row[0] for row in self.dialect.fetch(self.db, query, {"ids": self.dialect.ids(ids)})]

    def cancel_spoiled(self, ids: Collection[int]) -> None:
        """Cancel those of some blocked jobs that have an unsuccessful prerequisite and do not run without it."""
        for reason, spoiled in gates.spoiled_among(self.db, self.dialect, ids).items():
            self.apply(JobEvent.PREREQUISITE_FAILED, spoiled, reason=reason)

    # -- new jobs -----------------------------------------------------------------------------------------------

    def added(self, ids: Sequence[int]) -> None:
        """Count jobs that were just inserted as uninitialized."""
        self._counts[State.UNINITIALIZED] += len(ids)

    def initialize(self, ids: Collection[int]) -> None:
        """Make uninitialized jobs blocked, ready, or canceled where a prerequisite was unsuccessful already."""
        jobs = [job for job in self.now(ids).values() if job.state is State.UNINITIALIZED]
        ready, waiting = self._parted(jobs)
        self._move(JobEvent.GATE_OPENED, State.UNINITIALIZED, [job.id for job in ready])
        self._move(JobEvent.INITIALIZED, State.UNINITIALIZED, [job.id for job in waiting])
        self.cancel_spoiled([job.id for job in waiting])

    def _parted(self, jobs: Sequence[JobStatus]) -> tuple[list[JobStatus], list[JobStatus]]:
        """Part jobs into those that may be ready and those that wait, or will be canceled."""
        opened = gates.open_of(self.db, self.dialect, {job.gate_id for job in jobs if job.gate_id is not None})
        behind = [job.id for job in jobs if job.gate_id in opened]
        spoiled = {job for at in gates.spoiled_among(self.db, self.dialect, behind).values() for job in at}
        parts: tuple[list[JobStatus], list[JobStatus]] = [], []
        for job in jobs:
            is_open = job.gate_id is None or (job.gate_id in opened and job.id not in spoiled)
            parts[not is_open].append(job)
        return parts

    # -- resetting ----------------------------------------------------------------------------------------------

    def reset(self, ids: Collection[int], *, reason: str | None = None) -> None:
        """Return jobs to ready or blocked, depending on their gates.

        Ready jobs behind them are blocked again. A job behind a prerequisite that stays unsuccessful is canceled again.
        Raises Conflict for a job that a runner still holds.
        """
        due = [job for job in self.now(ids).values() if job.state is not State.BLOCKED]
        for job in due:
            if job.runner_id is not None:
                raise _held_still(job.id)
            transition(job.state, JobEvent.RESET_BLOCKED)
        counted = [job.id for job in due if job.counted]
        self._uncount(counted)
        shut = gates.count_on(self.db, self.dialect, counted)
        ready, waiting = self._parted(due)
        self._hurry([job.id for job in ready if job.state is State.READY])
        self._back(JobEvent.RESET_READY, [job for job in ready if job.state is not State.READY], reason)
        self._back(JobEvent.RESET_BLOCKED, waiting, reason)
        behind = gates.behind(self.db, self.dialect, shut, State.READY)
        self._move(JobEvent.RESET_BLOCKED, State.READY, behind)
        self.close_lost([*(job.id for job in due), *behind])
        self.cancel_spoiled([job.id for job in waiting])

    def reset_all(self) -> None:
        """Return all jobs except disabled ones to ready or blocked, like `reset`. Raises Conflict."""
        whole = self._whole()
        if whole is None:
            return
        held = self.dialect.fetch(self.db, _HELD_ANY, whole)
        if held:
            raise _held_still(held[0][0])
        found: dict[State, list[tuple[int, int | None]]] = defaultdict(list)
        for job_id, state, gate_id in self.dialect.fetch(self.db, _ALL_GATED, whole):
            found[_STATES[state]].append((job_id, gate_id))
        disabled = [job_id for job_id, _ in found.pop(State.DISABLED, ())]
        for state in found:
            transition(state, JobEvent.RESET_BLOCKED)
        opened = gates.shut_all(self.db, self.dialect, self.workflow_id, disabled)
        self.dialect.run(self.db, _CLOSE_ALL, {**whole, "why": _OUTDATED})
        self.dialect.run(
            self.db, _USE_UP_ALL, whole
        )  # before finished jobs, whose attempts are known, look like others
        self.dialect.run(self.db, _RESET_ALL, whole)
        self.dialect.run(self.db, _HURRY_ALL, whole)
        for state, jobs in found.items():
            ready = [job_id for job_id, gate_id in jobs if gate_id is None or gate_id in opened]
            waiting = [job_id for job_id, gate_id in jobs if gate_id is not None and gate_id not in opened]
            if state is not State.READY:
                self._note(JobEvent.RESET_READY, state, State.READY, ready)
            self._note(JobEvent.RESET_BLOCKED, state, State.BLOCKED, waiting)

    def close_lost(self, ids: Collection[int]) -> None:
        """Reject results of attempts that were lost with their runners: what they ran has changed since."""
        if ids:
            values = {"ids": self.dialect.ids(ids), "why": _OUTDATED}
            self.dialect.run(self.db, _CLOSE + self.dialect.id_list, values)
            # an attempt whose start was not reported has no row: its number is used up
            self.dialect.run(self.db, _USE_UP + self.dialect.id_list, values)

    def _uncount(self, ids: Collection[int]) -> None:
        if ids:
            update = f"UPDATE job SET counted = false WHERE id IN {self.dialect.id_list}"
            self.dialect.run(self.db, update, {"ids": self.dialect.ids(ids)})

    def _hurry(self, ids: Collection[int]) -> None:
        """Make delayed retries due now."""
        if ids:
            update = f"UPDATE job SET due_at = NULL WHERE id IN {self.dialect.id_list} AND due_at IS NOT NULL"
            self.dialect.run(self.db, update, {"ids": self.dialect.ids(ids)})

    def _back(self, event: JobEvent, jobs: Iterable[JobStatus], reason: str | None) -> None:
        groups: dict[State, list[int]] = defaultdict(list)
        for job in jobs:
            groups[job.state].append(job.id)
        for source, ids in groups.items():
            target, _ = transition(source, event)
            self.dialect.run(
                self.db,
                "UPDATE job SET state = :state, counted = false, reason = :reason, return_code = NULL, started_at = NULL, "
                f"recovery = NULL, due_at = NULL, fingerprint = NULL WHERE id IN {self.dialect.id_list}",
                {"state": target.value, "reason": reason, "ids": self.dialect.ids(ids)},
            )
            self._note(event, source, target, ids)

    # -- the end ------------------------------------------------------------------------------------------------

    def finish(self, now: float, actor: str, *, has_job_actions: bool = False) -> None:
        """Write counts and events, and count the jobs that actions wait for."""
        rows = [
            {"workflow_id": self.workflow_id, "state": state.value, "n": n} for state, n in self._counts.items() if n
        ]
        if rows:
            self.dialect.run_many(self.db, _COUNT_STATE, rows)
        self._counts.clear()
        logged: dict[str, list[int]] = {}
        for event, ids in self.moved.items():
            if event in _LOGGED and ids:
                logged.setdefault(_LOGGED[event], []).extend(ids)
        happenings = [row for kind, ids in logged.items() for row in of_jobs(kind, ids)]
        add_events(self.db, self.dialect, self.workflow_id, now, actor, happenings)
        if has_job_actions:
            self._reach()
        self.moved.clear()

    def _reach(self) -> None:
        ended = [i for e, ids in self.moved.items() if _ends(e) for i in ids]
        ready = [i for e in _READY_NOW for i in self.moved.get(e, ())]
        for trigger, ids in (("on_jobs_ready", ready + ended), ("on_jobs_complete", ended)):
            if not ids:
                continue
            query = _REACHED.format(ids=self.dialect.id_list)
            rows = self.dialect.fetch(self.db, query, {"ids": self.dialect.ids(ids), "trigger": trigger})
            reached = Counter(row[0] for row in rows)
            if reached:
                self.dialect.run_many(
                    self.db,
                    "UPDATE action SET remaining = remaining - :n WHERE id = :id",
                    [{"id": action, "n": n} for action, n in reached.items()],
                )


def _held_still(job_id: int) -> Conflict:
    return Conflict(f"job {job_id} is still held by a runner", hint="wait until it is stopped", job=job_id)


@cache
def _legal(event: JobEvent) -> Mapping[State, tuple[State, tuple[Effect, ...]]]:
    return moves(event)


@cache
def _ends(event: JobEvent) -> bool:
    return any(Effect.COUNT_OFF in effects for _, effects in moves(event).values())
