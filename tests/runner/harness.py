"""A small vocabulary for tests of the reactor: events in, effects recorded and emptied.

r = Reactor(num_cpus=2)
r.replied(job(1), job(2))
assert r.starts() == [1, 2]
"""

from __future__ import annotations

from typing import Any, TypeVar

from torc.api.runs import ActionAssignment, Assignment, Exchange, ExchangeReply, Finished, JobAttempt, Usage
from torc.runner.reactor import begin, next_wake, react
from torc.runner.state import (
    ActionExited,
    Effect,
    Event,
    Exited,
    Keep,
    Kill,
    KillAction,
    Launched,
    Leave,
    MemoryExceeded,
    NoRoom,
    NotLaunched,
    ReactorSettings,
    Replied,
    RunAction,
    Send,
    Slept,
    StartAttempt,
    Stop,
    Tick,
    Unreachable,
    Withdraw,
    Withdrawn,
)
from torc.workflow.resources import Capacity, ResourceRequest

E = TypeVar("E")
GIB = 1 << 30


def job(number: int, **fields: Any) -> Assignment:
    """Return an assignment; fields of ResourceRequest go into its request."""
    request = {name: fields.pop(name) for name in ResourceRequest._fields if name in fields}
    request.setdefault("memory_bytes", 1)
    return Assignment(
        job_id=number,
        name=f"job{number}",
        attempt=fields.pop("attempt", 1),
        command="true",
        request=ResourceRequest(**request),
        **fields,
    )


class Reactor:
    """A runner without processes, a clock or a store: the test is all three."""

    def __init__(self, num_cpus: int = 2, num_gpus: int = 0, **settings: Any) -> None:
        self.now = 1000.0
        gpus = tuple(map(str, range(num_gpus)))
        settings.setdefault("total", Capacity(num_cpus, 8 * GIB, num_gpus))
        self.settings = ReactorSettings(workflow_id=1, runner_id=1, gpus=gpus, **settings)
        self.state, self.effects = begin(self.settings, self.now)

    def tell(self, event: Event) -> None:
        """Let something happen."""
        self.effects += react(self.state, event, self.settings, self.now)

    def take(self, kind: type[E]) -> list[E]:
        """Take the effects of a kind that have been asked for since."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def lined_up(self) -> list[tuple[int, int]]:
        """Take the starts at the end of others: (job, the other)."""
        found = [
            (effect.assignment.job_id, effect.after)
            for effect in self.effects
            if isinstance(effect, StartAttempt) and effect.after
        ]
        self.effects = [
            effect for effect in self.effects if not isinstance(effect, StartAttempt) or effect.after is None
        ]
        return found

    def orders(self) -> list[StartAttempt | Withdraw | Kill]:
        """Take what is to be done about processes, in order."""
        found = [effect for effect in self.effects if isinstance(effect, StartAttempt | Withdraw | Kill)]
        self.effects = []
        return found

    def launch(self) -> list[int]:
        """Let all starts succeed; returns the jobs."""
        started = [effect for effect in self.take(StartAttempt) if effect.after is None]
        for effect in started:
            self.tell(Launched(effect.assignment.job_id, started_at=5000.0 + self.now))
        return [effect.assignment.job_id for effect in started]

    def sent(self) -> Exchange:
        """Take the one request that is on its way."""
        (send,) = self.take(Send)
        return send.request

    def answered(self, *assignments: Assignment, **reply: Any) -> None:
        """Answer what was sent."""
        self.take(Send)
        reply.setdefault("done", False)
        self.tell(Replied(ExchangeReply(assignments=list(assignments), lease_seconds=60.0, **reply)))

    def replied(self, *assignments: Assignment, **reply: Any) -> list[int]:
        """Answer what was sent, and let what starts succeed; returns the jobs that started."""
        self.answered(*assignments, **reply)
        return self.launch()

    def reported(self) -> list[Finished]:
        """Return the ends of attempts that were not answered yet, sent or to be sent."""
        in_flight = self.state.in_flight
        return [*(in_flight.finished if in_flight else ()), *self.state.finished]

    def refused(self) -> None:
        """Let the store not answer what was sent."""
        self.tell(Unreachable(self.sent()))

    def ended(self, number: int, return_code: int = 0, seconds: float = 100.0, **fields: Any) -> list[int]:
        """Let a job end; returns the jobs that started then."""
        self.tell(Exited(number, return_code, 6000.0 + self.now, seconds, Usage(), **fields))
        return self.launch()

    def later(self, seconds: float) -> None:
        """Let time pass, with a tick whenever the reactor asked for one."""
        end = self.now + seconds
        for _ in range(10_000):
            wake = next_wake(self.state, self.settings, self.now)
            if wake is None or wake > end:
                break
            self.now = max(self.now, wake)
            self.tell(Tick())
        else:
            raise AssertionError("the reactor asks to be woken again and again")
        self.now = end

    def kills(self) -> list[tuple[int, bool]]:
        """Take the signals: job, and whether it was SIGKILL."""
        return [(effect.job_id, effect.for_good) for effect in self.take(Kill)]


__all__ = [
    "GIB",
    "ActionAssignment",
    "ActionExited",
    "Effect",
    "Exited",
    "JobAttempt",
    "Keep",
    "Kill",
    "KillAction",
    "Launched",
    "Leave",
    "MemoryExceeded",
    "NoRoom",
    "NotLaunched",
    "Reactor",
    "Replied",
    "RunAction",
    "Send",
    "Slept",
    "StartAttempt",
    "Stop",
    "Tick",
    "Withdraw",
    "Withdrawn",
    "job",
]
