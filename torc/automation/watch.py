"""`torc watch --recover`: follow a workflow, and recover and continue it when its run ends with failures that a recovery helps.

Everything that it must remember is in the store, so it can be killed and restarted at any time. Which recovery helps is decided by
`torc.operations.recovery`; how jobs are run, by the executor.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from torc.api.base import Torc
from torc.api.events import ListEvents
from torc.api.recovery import Recovery
from torc.api.runs import ListRunners
from torc.api.workflows import Counts, GetWorkflow, Workflow
from torc.automation.executor import Executor
from torc.automation.policy import RecoveryPolicy
from torc.errors import Conflict, Unavailable
from torc.runner.budget_messages import held_back
from torc.units import human_bytes, human_duration
from torc.workflow.states import State

_LOG = logging.getLogger("torc.automation")
#: upper limit for the difference between the clocks of two machines
_SLACK_SECONDS = 30.0
#: how often to restart work that changed nothing
_VAIN_TRIES = 3

#: left: failures remain that no recovery helps, or not within the budget; stuck: nothing available is large enough
Ending = Literal["completed", "left", "stuck", "stopped", "canceled"]


@dataclass(frozen=True, slots=True)
class WatchResult:
    """How it ended. `last` is the last recovery considered: it lists what is left, and why."""

    ending: Ending
    workflow: Workflow
    num_rounds: int
    last: Recovery | None = None


@dataclass(slots=True)
class WorkflowWatch:
    """Follows one workflow. `hook` runs before each recovery, and raises to prevent it."""

    torc: Torc
    workflow_id: int
    policy: RecoveryPolicy
    hands: Executor
    hook: Callable[[Recovery], None] = lambda proposal: None
    poll_seconds: float = 10.0
    num_rounds: int = 0
    last: Recovery | None = None
    _after: int = 0  # the last event seen
    _vain: int = 0
    _begun: Counts | None = None  # counts when work was last started
    _told: str = ""
    _told_at: float = field(default=0.0)

    def run(self) -> WatchResult:
        """Follow, recover and continue until nothing more can be done. Waits for an unreachable store."""
        while True:
            try:
                ending = self._step()
            except Unavailable as error:
                _LOG.warning("%s; trying again in %s", error, human_duration(int(self.poll_seconds) or 1))
                threading.Event().wait(self.poll_seconds)
                continue
            if ending is not None:
                workflow = self._look()
                _LOG.info("ending: %s, %s", ending, _counts(workflow))
                return WatchResult(ending, workflow, self.num_rounds, self.last)

    def _step(self) -> Ending | None:
        """Do the next step; return the ending once there is one."""
        is_busy = self.hands.is_busy(self.workflow_id)
        workflow = self._look()
        self._tell(workflow, waits=is_busy)
        if is_busy or (workflow.state == "running" and self._somebody_lives()):
            self._wait()
            return None
        if workflow.state in {"completed", "canceled"}:
            return "completed" if workflow.state == "completed" else "canceled"
        if workflow.ended_at is None:
            return self._work(workflow)
        return self._recover()

    # -- following ----------------------------------------------------------------------------------------------

    def _look(self) -> Workflow:
        return self.torc.send(GetWorkflow(workflow_id=self.workflow_id))

    def _somebody_lives(self) -> bool:
        """Return whether a runner is registered whose lease has not long expired: nobody else would notice one on another machine."""
        runners = self.torc.send(ListRunners(workflow_id=self.workflow_id, active_only=True)).items
        return any(runner.lease_expires_at + _SLACK_SECONDS > time.time() for runner in runners)

    def _wait(self) -> None:
        """Wait until something happens, or it is time to check again."""
        if not self._after:
            newest = self.torc.send(ListEvents(workflow_id=self.workflow_id, newest_first=True, limit=1)).items
            self._after = newest[0].id if newest else 0
        request = ListEvents(
            workflow_id=self.workflow_id, after=self._after, wait_seconds=min(self.poll_seconds, 60.0), limit=10_000
        )
        events = self.torc.send(request).items
        if events:
            self._after = events[-1].id

    def _tell(self, workflow: Workflow, *, waits: bool) -> None:
        """Log the state when it has changed, at most once per poll interval.

        `waits`: runners are still expected, so a run without any is not interrupted.
        """
        waits = waits and workflow.ended_at is None and workflow.state in {"idle", "interrupted"}
        line = f"{'waiting for runners' if waits else workflow.state}: {_counts(workflow)}"
        now = time.monotonic()
        if line != self._told and (workflow.state != "running" or now >= self._told_at + self.poll_seconds):
            self._told, self._told_at = line, now
            _LOG.info("%s", line)

    # -- working ------------------------------------------------------------------------------------------------

    def _work(self, workflow: Workflow) -> Ending | None:
        _LOG.info("goes on")
        how = self.hands.work(self.workflow_id)
        if how == "stopped":
            return "stopped"
        after = self._look()
        if how == "stuck" and after.ended_at is None and after.state != "running":
            _LOG.warning(
                "ready jobs are left: %s",
                held_back(self.torc, self.workflow_id) or "they request more than is available",
            )
            return "stuck"
        # what was started in allocations shows later: whether it was in vain is known when it has to be started again
        before = workflow.counts if how != "begun" else self._begun
        now = after.counts if how != "begun" else workflow.counts
        self._vain = self._vain + 1 if before == now and after.ended_at is None else 0
        self._begun = workflow.counts
        return "stuck" if self._vain >= _VAIN_TRIES else None

    # -- recovering ---------------------------------------------------------------------------------------------

    def _recover(self) -> Ending | None:
        """Propose a recovery, run the hook, and apply it; start over if the workflow has changed meanwhile."""
        proposal = self._ask()
        if proposal is None:
            return None
        self.last = proposal
        for line in lines_of(proposal):
            _LOG.info("%s", line)
        if not proposal.num_retried:
            return "left"
        self.hook(proposal)
        done = self._ask(proposal.mark)
        if done is not None:
            self.num_rounds += 1
            _LOG.info("recovery %d: %d job(s) will run again", done.spent.rounds + 1, done.num_retried)
        return None

    def _ask(self, mark: str | None = None) -> Recovery | None:
        """Request a proposal, or apply one by its mark; return None if the workflow has changed meanwhile."""
        is_new = self.policy.new_budget and not self.num_rounds
        try:
            request = self.policy.request(self.workflow_id, self.hands.limits(), mark=mark, new_budget=is_new)
            return self.torc.send(request)
        except Conflict as error:
            _LOG.info("%s: checking again", error)
            self._wait()  # perhaps a runner is about to leave
            return None


def _counts(workflow: Workflow) -> str:
    return ", ".join(f"{n} {State(state)}" for state, n in sorted(workflow.counts.by_state.items()) if n)


def lines_of(recovery: Recovery) -> Iterable[str]:
    """Describe a recovery: what jobs get and why, what is left and why, and the cost."""
    for group in recovery.proposals:
        yield (
            f"{group.num_jobs} x {group.key}: {changes(group.memory_bytes, group.new_memory_bytes, human_bytes, 'memory')}"
            + (
                f"{changes(group.runtime_seconds, group.new_runtime_seconds, human_duration, 'time')}again, because {group.reason}"
            )
        )
    for left in recovery.left:
        yield f"{left.num_jobs} x {left.category} left ({_some(left.job_ids, left.num_jobs)}): {left.reason}"
    spent = recovery.spent
    yield (
        f"cost about {recovery.cost_node_hours:.3g} node-hours; {spent.rounds} recover{'y' if spent.rounds == 1 else 'ies'} "
        f"and {spent.node_hours:.3g} node-hours were spent before"
    )


def changes(old: int, new: int, human: Callable[[int], str], what: str) -> str:
    """Describe the change of a resource; empty if unchanged."""
    return "" if old == new else f"{what} {human(old)} -> {human(new)}, "


def _some(ids: list[int], number: int) -> str:
    return f"job{'s' if number > 1 else ''} {', '.join(map(str, ids[:5]))}" + (", ..." if number > 5 else "")
