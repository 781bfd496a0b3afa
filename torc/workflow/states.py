"""The life cycle of a job, as one table.

The table is used by `transition()` (one job: the simulator and the property tests), by `moves()` (sets of jobs: the store's
UPDATEs) and by the documentation, whose diagram is generated from it. Nothing else decides a state.
"""

from __future__ import annotations

from enum import StrEnum

from torc.errors import Conflict


class State(StrEnum):
    UNINITIALIZED = "uninitialized"  # stored; its prerequisites have not been checked yet
    BLOCKED = "blocked"  # waits for its gate
    READY = "ready"  # may be claimed
    PENDING = "pending"  # claimed by a runner, not started
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"  # by a person, or because a prerequisite did not complete
    TERMINATED = "terminated"  # stopped from outside: at a limit, or because its runner had to leave
    PENDING_FAILED = "pending_failed"  # failed, and waits for a decision
    DISABLED = "disabled"  # removed from the workflow; counts as completed for its dependents


class JobEvent(StrEnum):
    INITIALIZED = "initialized"  # its gate is shut
    GATE_OPENED = "gate_opened"
    PREREQUISITE_FAILED = "prerequisite_failed"
    CLAIMED = "claimed"
    RELEASED = "released"  # claimed, then given back without being started
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    AWAITED_DECISION = "awaited_decision"  # failed, with use_pending_failed
    RETRIED = "retried"  # the attempt failed, and another one will follow
    TERMINATED = "terminated"  # stopped at a limit
    INTERRUPTED = "interrupted"  # its runner was told to stop; the job will be resumed
    CANCELED = "canceled"
    DISABLED = "disabled"
    RESUMED = "resumed"  # an interrupted job may run again
    RESET_BLOCKED = "reset_blocked"  # start over; its gate is shut
    RESET_READY = "reset_ready"  # start over; its gate is open


class Effect(StrEnum):
    """What a job's move means for others. Effects cause the next moves, until nothing moves."""

    COUNT_OFF = "count_off"  # finished: count it off every gate that it is a member of
    COUNT_ON = "count_on"  # no longer finished: count it on again, which shuts those gates
    STOP_ATTEMPT = "stop_attempt"  # a runner must be told to stop the attempt


S, E = State, JobEvent
_OFF = (Effect.COUNT_OFF,)
_ON = (Effect.COUNT_ON,)
_STOP_OFF = (Effect.STOP_ATTEMPT, Effect.COUNT_OFF)

#: (state, event) -> (new state, effects). A pair that is not listed cannot happen.
#:
#: A job is UNINITIALIZED when stored, then BLOCKED until its gate opens (at once without prerequisites), then READY. A runner claims
#: it (PENDING) and starts it (RUNNING). An attempt that ends moves the job to COMPLETED, FAILED or TERMINATED, back to READY if a rule
#: retries it, or to PENDING_FAILED if a person is to decide.
#:
#: A job that reaches a finished state is counted off the gates that it is a member of, and its dependents either become ready or, if
#: it was unsuccessful and they are not to run in that case, are canceled. A reset reverses this: the job is counted on again. Counting
#: is idempotent, because each job knows whether it was counted off.
#:
#: PENDING jobs can finish because a runner reports the start and the end of a short job in one message. INTERRUPTED leaves a job
#: TERMINATED without counting it off, so that its dependents wait until it has resumed and finished; RESUMED is for such jobs only.
TRANSITIONS: dict[tuple[State, JobEvent], tuple[State, tuple[Effect, ...]]] = {
    (S.UNINITIALIZED, E.INITIALIZED): (S.BLOCKED, ()),
    (S.UNINITIALIZED, E.GATE_OPENED): (S.READY, ()),
    (S.UNINITIALIZED, E.CANCELED): (S.CANCELED, _OFF),
    (S.UNINITIALIZED, E.DISABLED): (S.DISABLED, _OFF),
    (S.BLOCKED, E.GATE_OPENED): (S.READY, ()),
    (S.BLOCKED, E.PREREQUISITE_FAILED): (S.CANCELED, _OFF),
    (S.BLOCKED, E.CANCELED): (S.CANCELED, _OFF),
    (S.BLOCKED, E.DISABLED): (S.DISABLED, _OFF),
    (S.READY, E.CLAIMED): (S.PENDING, ()),
    (S.READY, E.CANCELED): (S.CANCELED, _OFF),
    (S.READY, E.DISABLED): (S.DISABLED, _OFF),
    (S.READY, E.RESET_BLOCKED): (S.BLOCKED, ()),
    (S.PENDING, E.RELEASED): (S.READY, ()),
    (S.PENDING, E.STARTED): (S.RUNNING, ()),
    (S.PENDING, E.CANCELED): (S.CANCELED, _STOP_OFF),
    **{
        key: value
        for state in (S.PENDING, S.RUNNING)
        for key, value in {
            (state, E.SUCCEEDED): (S.COMPLETED, _OFF),
            (state, E.FAILED): (S.FAILED, _OFF),
            (state, E.AWAITED_DECISION): (S.PENDING_FAILED, ()),
            (state, E.RETRIED): (S.READY, ()),
            (state, E.TERMINATED): (S.TERMINATED, _OFF),
            (state, E.INTERRUPTED): (S.TERMINATED, ()),
        }.items()
    },
    (S.RUNNING, E.CANCELED): (S.CANCELED, _STOP_OFF),
    (S.PENDING_FAILED, E.FAILED): (S.FAILED, _OFF),
    (S.PENDING_FAILED, E.RETRIED): (S.READY, ()),
    (S.PENDING_FAILED, E.CANCELED): (S.CANCELED, _OFF),
    (S.PENDING_FAILED, E.RESET_BLOCKED): (S.BLOCKED, ()),
    (S.PENDING_FAILED, E.RESET_READY): (S.READY, ()),
    (S.TERMINATED, E.RESUMED): (S.READY, ()),
    (S.TERMINATED, E.CANCELED): (S.CANCELED, _OFF),
    (S.DISABLED, E.RESET_BLOCKED): (S.BLOCKED, _ON),
    (S.DISABLED, E.RESET_READY): (S.READY, _ON),
    **{
        key: value
        for state in (S.COMPLETED, S.FAILED, S.CANCELED, S.TERMINATED)
        for key, value in {
            (state, E.RESET_BLOCKED): (S.BLOCKED, _ON),
            (state, E.RESET_READY): (S.READY, _ON),
            (state, E.DISABLED): (S.DISABLED, _OFF),
        }.items()
    },
}

#: A job in one of these states does not change by itself.
FINISHED = frozenset({S.COMPLETED, S.FAILED, S.CANCELED, S.TERMINATED, S.DISABLED})
#: A runner holds the job.
HELD = frozenset({S.PENDING, S.RUNNING})
#: Dependents may run.
SATISFIED = frozenset({S.COMPLETED, S.DISABLED})
#: The job itself failed, however that was noticed; a job canceled because of it did not.
ENDED_BADLY = (S.FAILED, S.TERMINATED, S.PENDING_FAILED)
#: A person or a rule has to deal with the job.
UNSUCCESSFUL = frozenset({S.FAILED, S.CANCELED, S.TERMINATED, S.PENDING_FAILED})


def transition(state: State, event: JobEvent) -> tuple[State, tuple[Effect, ...]]:
    """Apply an event to one job. Raises Conflict when the table has no such row."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise Conflict(f"a {state} job cannot be {event}", state=state, event=event) from None


def moves(event: JobEvent) -> dict[State, tuple[State, tuple[Effect, ...]]]:
    """Return {from: (to, effects)} for an event: what a set-based UPDATE may change."""
    return {source: target for (source, e), target in TRANSITIONS.items() if e is event}


def states_mermaid() -> str:
    """Return the table as a Mermaid state diagram, with one arrow for all events between the same two states."""
    events: dict[tuple[State, State], list[str]] = {}
    for (source, event), (target, _) in TRANSITIONS.items():
        events.setdefault((source, target), []).append(event.value)
    lines = ["stateDiagram-v2", f"    [*] --> {State.UNINITIALIZED}"]
    lines += [f"    {source} --> {target}: {', '.join(names)}" for (source, target), names in events.items()]
    return "\n".join(lines) + "\n"
