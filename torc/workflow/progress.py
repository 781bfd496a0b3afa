"""The states of all jobs of a workflow in memory, changed only by the transition table in `states`.

Moves propagate: a finished job is counted off its gates, a gate whose count reaches zero opens, a job behind an unsuccessful one
is canceled at once, and so on until nothing moves. What the store does with sets of rows must give the same result as Progress.
Time and resources are added by `simulation`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from torc.errors import Conflict
from torc.workflow.graph import JobGraph
from torc.workflow.states import FINISHED, SATISFIED, Effect, JobEvent, State, transition


class JobMove(NamedTuple):
    """A state change of one job."""

    job: int
    event: JobEvent
    state: State


class Progress:
    """The states of all jobs and of their gates."""

    def __init__(
        self,
        graph: JobGraph,
        cancels: Sequence[bool],
        states: Sequence[State] | None = None,
        interrupted: Collection[int] = (),
    ) -> None:
        """Start a workflow, or continue from `states`; uninitialized jobs become blocked or ready.

        `cancels` says for each job whether it is canceled when a prerequisite ends unsuccessfully
        (cancel_on_blocking_job_failure). `interrupted` are the terminated jobs that will be resumed.
        """
        self.graph = graph
        self.cancels = cancels
        self.states = [State.UNINITIALIZED] * len(graph) if states is None else list(states)
        #: counted off the gates that the job is a member of
        self.counted = bytearray(state in FINISHED and job not in interrupted for job, state in enumerate(self.states))
        self.remaining = list[int]()  # members of each gate that are not counted off yet
        self.spoiled = list[int]()  # members of each gate that are counted off but did not succeed
        for gate in range(len(graph.gates)):
            remaining, spoiled = self._count(gate)
            self.remaining.append(remaining)
            self.spoiled.append(spoiled)
        self.initialize()

    def _count(self, gate: int) -> tuple[int, int]:
        off = [job for job in self.graph.gates[gate] if self.counted[job]]
        return len(self.graph.gates[gate]) - len(off), sum(self.states[job] not in SATISFIED for job in off)

    def initialize(self) -> list[JobMove]:
        """Make uninitialized jobs blocked, ready, or canceled if a prerequisite was already unsuccessful."""
        moved: list[JobMove] = []
        fallen: list[int] = []
        for job, state in enumerate(self.states):
            if state is State.UNINITIALIZED:
                event = JobEvent.GATE_OPENED if self.is_open(job) else JobEvent.INITIALIZED
                if self._is_spoiled(job):
                    event = JobEvent.INITIALIZED
                    fallen.append(job)
                self._move(moved, job, event)
        self._spread(moved, deque((job, JobEvent.PREREQUISITE_FAILED) for job in fallen))
        return moved

    def is_open(self, job: int) -> bool:
        gate = self.graph.gate_of[job]
        return gate is None or not self.remaining[gate]

    def _is_spoiled(self, job: int) -> bool:
        gate = self.graph.gate_of[job]
        return gate is not None and self.cancels[job] and self.spoiled[gate] > 0

    def apply(self, event: JobEvent, jobs: Iterable[int]) -> list[JobMove]:
        """Apply an event to some jobs, all or none, and everything that follows from it. Returns every move in order.

        Raises Conflict when one of them does not accept the event. To reset jobs, call `reset`, which chooses their events.
        """
        asked = list(dict.fromkeys(jobs))
        for job in asked:
            self._check(job, event)
        moved: list[JobMove] = []
        self._spread(moved, deque((job, event) for job in asked))
        return moved

    def _check(self, job: int, event: JobEvent) -> None:
        transition(self.states[job], event)
        if event is JobEvent.RESUMED and self.counted[job]:
            raise Conflict("a terminated job that was not interrupted cannot be resumed", hint="reset it", job=job)
        if event in _FOLLOWS:
            raise Conflict(f"{event} follows from other moves and cannot be requested", job=job)

    def _spread(self, moved: list[JobMove], queue: deque[tuple[int, JobEvent]]) -> None:
        while queue:
            job, event = queue.popleft()
            before = self.states[job]
            if event in _SPREADING and before is not State.BLOCKED:
                continue  # already moved by something earlier in the queue
            effects = self._move(moved, job, event)
            if Effect.COUNT_OFF in effects:
                queue.extend(self._count_off(job, before))
            elif self.states[job] in (State.READY, State.BLOCKED):
                queue.extend(self._second_thoughts(job))

    def _second_thoughts(self, job: int) -> list[tuple[int, JobEvent]]:
        """Return the events that must follow when a job may run again: a prerequisite may have been reset while it was running."""
        if self.states[job] is State.READY and (not self.is_open(job) or self._is_spoiled(job)):
            return [(job, JobEvent.RESET_BLOCKED)]
        if self.states[job] is State.BLOCKED and self._is_spoiled(job):
            return [(job, JobEvent.PREREQUISITE_FAILED)]
        return []

    def _move(self, moved: list[JobMove], job: int, event: JobEvent) -> tuple[Effect, ...]:
        state, effects = transition(self.states[job], event)
        self.states[job] = state
        moved.append(JobMove(job, event, state))
        return effects

    def _count_off(self, job: int, before: State) -> list[tuple[int, JobEvent]]:
        """Count a finished job off its gates, once, and return the events for the jobs behind it."""
        was_counted, self.counted[job] = bool(self.counted[job]), 1
        spoils = int(self.states[job] not in SATISFIED) - int(was_counted and before not in SATISFIED)
        events: list[tuple[int, JobEvent]] = []
        for gate in self.graph.gates_held_by(job):
            self.remaining[gate] -= not was_counted
            self.spoiled[gate] += spoils
            if spoils > 0 and self.spoiled[gate] == spoils:
                events += self._blocked_behind(gate, JobEvent.PREREQUISITE_FAILED)
            if not was_counted and not self.remaining[gate]:
                events += self._blocked_behind(gate, JobEvent.GATE_OPENED)
        return events

    def _blocked_behind(self, gate: int, event: JobEvent) -> list[tuple[int, JobEvent]]:
        falling = event is JobEvent.PREREQUISITE_FAILED
        return [
            (job, event)
            for job in self.graph.waiters(gate)
            if self.states[job] is State.BLOCKED and (self.cancels[job] or not falling)
        ]

    def reset(self, jobs: Iterable[int]) -> list[JobMove]:
        """Return finished jobs to ready or blocked, all or none; return every move in order.

        Their new states depend on their gates after all of them are counted on again. Ready jobs whose gates were shut by this are
        blocked again. A job behind a prerequisite that stays unsuccessful is canceled again. Finished jobs behind them stay
        finished: the caller chooses how far a reset goes (`graph.downstream`).
        """
        asked = [job for job in dict.fromkeys(jobs) if self.states[job] is not State.BLOCKED]
        for job in asked:
            transition(self.states[job], JobEvent.RESET_BLOCKED)
        shut = {gate for job in asked for gate in self._count_on(job)}
        moved: list[JobMove] = []
        for job in asked:
            ready = self.is_open(job) and not self._is_spoiled(job)
            if self.states[job] is not State.READY or not ready:
                self._move(moved, job, JobEvent.RESET_READY if ready else JobEvent.RESET_BLOCKED)
        shut_out = (job for gate in sorted(shut) for job in self.graph.waiters(gate))
        follows = deque((job, JobEvent.RESET_BLOCKED) for job in shut_out if self.states[job] is State.READY)
        follows.extend((job, JobEvent.PREREQUISITE_FAILED) for job in asked if self._is_spoiled(job))
        self._spread(moved, follows)
        return moved

    def _count_on(self, job: int) -> Sequence[int]:
        """Count a job on again at its gates, and return those that were open."""
        if not self.counted[job]:
            return ()
        self.counted[job] = 0
        gates = self.graph.gates_held_by(job)
        for gate in gates:
            self.remaining[gate] += 1
            self.spoiled[gate] -= self.states[job] not in SATISFIED
        return gates

    def problems(self) -> list[str]:
        """Return every violated invariant; empty if there is no bug."""
        found = []
        for job, state in enumerate(self.states):
            counted = bool(self.counted[job])
            if counted is not (state in FINISHED) and (counted or state is not State.TERMINATED):
                found.append(f"job {job} is {state}, counted off: {counted}")
            if state is State.BLOCKED and self.is_open(job):
                found.append(f"job {job} is blocked, and its gate is open")
            if state is State.BLOCKED and self._is_spoiled(job):
                found.append(f"job {job} is blocked behind an unsuccessful job")
            if state is State.READY and not self.is_open(job):
                found.append(f"job {job} is ready, and its gate is shut")
            if state is State.READY and self._is_spoiled(job):
                found.append(f"job {job} is ready behind an unsuccessful job")
        for gate in range(len(self.graph.gates)):
            kept, right = (self.remaining[gate], self.spoiled[gate]), self._count(gate)
            if kept != right:
                found.append(f"gate {gate} keeps (remaining, spoiled) {kept}, but should be {right}")
        return found


#: These result from other jobs' moves, and only blocked jobs accept them.
_SPREADING = frozenset({JobEvent.PREREQUISITE_FAILED, JobEvent.GATE_OPENED})
_FOLLOWS = _SPREADING | {JobEvent.INITIALIZED, JobEvent.RESET_BLOCKED, JobEvent.RESET_READY}
