"""A stored workflow and one in memory take the same random events, and stand in the same states after each.

The model is `core.board`, which moves one job at a time; the store moves sets. Reports are repeated and come late, too.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.graphs import acyclic_prerequisites, plain_graph
from tests.support.workflows import ended, exchange, runner
from torc.api.jobs import ActOnJobs, ListJobs
from torc.api.runs import EndRunner, Finished, JobAttempt, Outcome, Started, StartRun
from torc.api.workflows import CancelWorkflow, CheckWorkflow, CreateWorkflow, GetGraph, ResetWorkflow
from torc.client.embedded import Embedded
from torc.errors import Conflict
from torc.failures.retry import MAX_LOSSES
from torc.workflow.progress import Progress
from torc.workflow.states import FINISHED, HELD, JobEvent, State

OUTCOMES: dict[Outcome, JobEvent] = {
    "succeeded": JobEvent.SUCCEEDED,
    "failed": JobEvent.FAILED,
    "terminated": JobEvent.TERMINATED,
    "interrupted": JobEvent.INTERRUPTED,
    "canceled": JobEvent.CANCELED,
}


class Twins:
    """The same workflow twice."""

    def __init__(self, torc: Embedded, prerequisites: Sequence[Sequence[int]], cancels: Sequence[bool]) -> None:
        self.torc = torc
        self.board = Progress(plain_graph(prerequisites), cancels)
        jobs = [
            {
                "name": f"j{at}",
                "command": "true",
                "depends_on": [f"j{other}" for other in members],
                "cancel_on_blocking_job_failure": cancels[at],
            }
            for at, members in enumerate(prerequisites)
        ]
        document = json.dumps({"name": "twin", "jobs": jobs})
        self.wf = torc.send(CreateWorkflow(spec=document, format="json", directory="/somewhere")).id
        self.ids = [job.id for job in torc.send(GetGraph(workflow_id=self.wf)).jobs]
        self.runner = runner(torc, self.wf)
        self.attempts: dict[int, JobAttempt] = {}  # what the runner holds, by index
        self.reports: list[Finished] = []
        self.losses: Counter[int] = Counter()  # in this run; of a job that is reset they are forgotten

    def of(self, index: int) -> JobAttempt:
        return self.attempts[index]

    def compare(self) -> None:
        jobs = self.torc.send(ListJobs(workflow_id=self.wf, limit=1000)).items
        assert [job.state for job in jobs] == self.board.states
        assert self.torc.send(CheckWorkflow(workflow_id=self.wf)) == []

    def held(self, *states: State) -> list[int]:
        return [at for at in self.attempts if self.board.states[at] in states]

    # -- what can happen ------------------------------------------------------------------------------------

    def claim(self, pick: random.Random) -> None:
        reply = exchange(self.torc, self.wf, self.runner, limit=pick.randint(1, 4))
        given = [self.ids.index(item.job_id) for item in reply.assignments]
        self.attempts |= {
            at: JobAttempt(job_id=item.job_id, attempt=item.attempt)
            for at, item in zip(given, reply.assignments, strict=True)
        }
        self.board.apply(JobEvent.CLAIMED, given)

    def start(self, pick: random.Random) -> None:
        started = some(pick, self.held(State.PENDING))
        items = [Started(job_id=self.of(at).job_id, attempt=self.of(at).attempt, started_at=1.0) for at in started]
        exchange(self.torc, self.wf, self.runner, started=items)
        self.board.apply(JobEvent.STARTED, started)

    def end(self, pick: random.Random) -> None:
        chosen = some(pick, self.held(*HELD, State.CANCELED))
        outcomes = {at: pick.choice(list(OUTCOMES)) for at in chosen}
        reports = [ended(self.of(at), outcome) for at, outcome in outcomes.items()]
        exchange(self.torc, self.wf, self.runner, finished=reports)
        for at, outcome in outcomes.items():
            del self.attempts[at]
            if self.board.states[at] in HELD:
                self.board.apply(OUTCOMES[outcome], [at])
        self.reports += reports

    def release(self, pick: random.Random) -> None:
        chosen = some(pick, self.held(State.PENDING))
        exchange(self.torc, self.wf, self.runner, released=[self.attempts.pop(at) for at in chosen])
        self.board.apply(JobEvent.RELEASED, chosen)

    def repeat(self, pick: random.Random) -> None:
        again = some(pick, self.reports[-8:])
        exchange(self.torc, self.wf, self.runner, finished=[*again, *again])

    def act(self, pick: random.Random) -> None:
        action, event = pick.choice([("cancel", JobEvent.CANCELED), ("disable", JobEvent.DISABLED)])
        jobs = pick.sample(range(len(self.ids)), pick.randint(1, 2))
        self.both(lambda: self.board.apply(event, jobs), action, jobs)

    def reset(self, pick: random.Random) -> None:
        jobs = pick.sample(range(len(self.ids)), pick.randint(1, 3))
        stopping = [at for at in jobs if at in self.attempts]
        if self.both(lambda: None if stopping else self.board.reset(jobs), "reset", jobs, refused=bool(stopping)):
            for at in jobs:
                self.losses[at] = 0

    def both(self, model: Callable[[], object], action: str, jobs: Sequence[int], *, refused: bool = False) -> bool:
        """Do it to both, or to neither; tells whether it was done."""
        try:
            model()
        except Conflict:
            refused = True
        try:
            self.torc.send(
                ActOnJobs.model_validate(
                    {"workflow_id": self.wf, "job_ids": [self.ids[at] for at in jobs], "action": action}
                )
            )
            assert not refused, f"{action} of {jobs} must be refused"
        except Conflict:
            assert refused, f"{action} of {jobs} must not be refused"
        return not refused

    def go_on(self, pick: random.Random) -> None:
        self.torc.send(StartRun(workflow_id=self.wf))
        self.resume()

    def resume(self) -> None:
        states = self.board.states
        self.board.apply(
            JobEvent.RESUMED,
            [at for at, state in enumerate(states) if state is State.TERMINATED and not self.board.counted[at]],
        )

    def cancel_all(self, pick: random.Random) -> None:
        self.torc.send(CancelWorkflow(workflow_id=self.wf))
        open_ones = [
            at for at, state in enumerate(self.board.states) if state not in FINISHED or not self.board.counted[at]
        ]
        self.board.apply(JobEvent.CANCELED, open_ones)

    def reset_all(self, pick: random.Random) -> None:
        """Reset the whole workflow under its runner, which loses what it holds."""
        self.torc.send(ResetWorkflow(workflow_id=self.wf, force=True))
        self.board.apply(JobEvent.RELEASED, self.held(State.PENDING))
        self.board.apply(JobEvent.RETRIED, self.held(State.RUNNING))
        self.board.reset([at for at, state in enumerate(self.board.states) if state is not State.DISABLED])
        self.compare()
        self.attempts.clear()
        self.losses.clear()
        self.runner = runner(self.torc, self.wf)

    def die(self, pick: random.Random) -> None:
        """Lose the runner: what it only held is free again, what it ran is retried, but for the fourth time."""
        self.torc.send(EndRunner(workflow_id=self.wf, runner_id=self.runner, reason="died"))
        self.board.apply(JobEvent.RELEASED, self.held(State.PENDING))
        for at in self.held(State.RUNNING):
            self.losses[at] += 1
            self.board.apply(JobEvent.RETRIED if self.losses[at] <= MAX_LOSSES else JobEvent.TERMINATED, [at])
        self.attempts.clear()
        self.runner = runner(self.torc, self.wf)
        self.resume()


def some(pick: random.Random, things: Sequence[object] | range) -> list:  # type: ignore[type-arg]
    return pick.sample(list(things), pick.randint(0, len(things)))


#: what happens, and how often
STEPS = {
    "claim": 6,
    "start": 4,
    "end": 6,
    "release": 2,
    "repeat": 2,
    "act": 1,
    "reset": 4,
    "go_on": 2,
    "die": 1,
    "cancel_all": 0.2,
    "reset_all": 0.5,
}


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prerequisites=acyclic_prerequisites(4, 10), seed=st.integers(0, 2**32))
def test_the_store_moves_as_the_board_does(torc: Embedded, prerequisites: list[list[int]], seed: int) -> None:
    pick = random.Random(seed)
    twins = Twins(torc, prerequisites, [pick.random() < 0.7 for _ in prerequisites])
    twins.compare()
    for step in pick.choices(list(STEPS), list(STEPS.values()), k=40):
        getattr(twins, step)(pick)
        twins.compare()
