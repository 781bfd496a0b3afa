"""The hands of a cluster: due jobs get allocations, those that wait are looked after, and what is left over gets further ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torc.api.allocations import Allocation
from torc.api.base import Torc
from torc.api.runs import StartRun
from torc.automation.executor import NodeLimits, Work
from torc.display_text import visible_line
from torc.errors import TorcError
from torc.planning.allocations import AllocationState
from torc.planning.reserve import memory_for_jobs, time_for_jobs
from torc.schedulers.autoscaling import StrandedJobs, ask_again, most_nodes_before
from torc.schedulers.base import Capability, Scheduler
from torc.schedulers.follow import Follower, told
from torc.schedulers.logs import last_lines
from torc.schedulers.polling import POLL_SECONDS, PollPace
from torc.schedulers.workflow_plans import options_before, plan_again

_LOG = logging.getLogger("torc.automation")


@dataclass(slots=True)
class SchedulerExecutor:
    """Submits what is due, follows it, and asks again for what jobs need that are left, in the size that they have now.

    `stranded` adds allocations while others still work.
    """

    torc: Torc
    cluster: Scheduler
    stranded: StrandedJobs | None = None
    poll_seconds: float = POLL_SECONDS
    before_looking: Callable[[int], object] | None = None  # takes in what runners of a workflow have left
    log_folder: Path | None = None  # in which allocations leave their logs
    _followers: dict[int, Follower] = field(default_factory=dict)

    def limits(self) -> NodeLimits:
        """Return what the largest node can give to a job; nothing where the cluster does not tell."""
        if Capability.DISCOVERY not in self.cluster.capabilities:
            return NodeLimits()
        try:
            kinds = [kind for partition in self.cluster.cluster().partitions for kind in partition.kinds()]
        except TorcError as error:
            _LOG.info("%s: recoveries are not limited by what nodes have", error)
            return NodeLimits()
        memory = max((memory_for_jobs(found.memory_bytes_per_node) for found in kinds), default=None)
        times = [found.max_walltime_seconds for found in kinds]
        longest = (
            None if None in times else max((time_for_jobs(each) for each in times if each is not None), default=None)
        )
        return NodeLimits(memory, longest)

    def is_busy(self, workflow_id: int) -> bool:
        """Look after the allocations, and tell whether runners are still to come out of them.

        While work is left, one whose runners have all gone is waited for: its end tells why, and what to keep away from.
        """
        follower = self._follower(workflow_id)
        followed = follower.step()
        for item in followed.changed:
            self._tell_log(item)
        if self.stranded is not None and followed.workflow.ended_at is None:
            try:
                if made := self.stranded.step(followed.open):
                    _LOG.info("no open allocation can take what waits: submitted %s", told(made))
                    return True
            except TorcError as error:
                _LOG.warning("%s", error)
        if followed.to_come or followed.workflow.ended_at is not None:
            return followed.to_come > 0
        is_leaving = followed.workflow.state != "running" and any(
            item.cancel_requested_at is None for item in followed.open
        )
        if is_leaving:
            follower.pace.hurry()
        return is_leaving

    def work(self, workflow_id: int) -> Work:
        """Go on with the run: submit what its actions ask for or, where they ask for nothing, what its ready jobs need."""
        self._plan_again(workflow_id)
        self.torc.send(StartRun(workflow_id=workflow_id))
        follower = self._follower(workflow_id)
        follower.pace.hurry()  # nodes may have failed since the last look: they are not asked for again
        followed = follower.step()
        if followed.to_come:
            return "begun"
        made = ask_again(self.torc, workflow_id, self.cluster, max_nodes=most_nodes_before(self.torc, workflow_id))
        refused = [item for item in made if item.cluster_job_id is None and item.state is AllocationState.ENDED]
        for reason in dict.fromkeys(item.reason for item in refused):
            _LOG.error("the cluster refused an allocation: %s", reason)
        if len(refused) == len(made):
            return "stuck"
        _LOG.info("submitted %s", told(made))
        return "begun"

    def _tell_log(self, item: Allocation) -> None:
        """Say how the log of an allocation ends from which no runner was ever heard: most often it could not reach the store."""
        is_silent = item.state is AllocationState.ENDED and item.started_at is not None and not item.num_runners
        if is_silent and self.log_folder is not None:
            lines = last_lines(self.log_folder, item.workflow_id, item.cluster_job_id or "")
            if lines:
                end = visible_line(" | ".join(lines))
                _LOG.warning(
                    "no runner of allocation %s ever reported; its log ends with: %s", item.cluster_job_id, end
                )

    def _plan_again(self, workflow_id: int) -> None:
        """Where allocations were planned, plan anew for what is left; where that cannot be, the old ones are asked for."""
        try:
            options = options_before(self.torc, workflow_id)
            if options is None:
                return
            made = plan_again(self.torc, workflow_id, self.cluster, self.cluster.cluster(), options)
        except TorcError as error:
            _LOG.warning("cannot plan anew: %s", error)
            return
        for refusal in made.refused:
            _LOG.error("%s; %s", refusal.message, refusal.hint)

    def _follower(self, workflow_id: int) -> Follower:
        if workflow_id not in self._followers:
            before = None if self.before_looking is None else partial(self.before_looking, workflow_id)
            self._followers[workflow_id] = Follower(
                self.torc, workflow_id, self.cluster, pace=PollPace(self.poll_seconds), before_looking=before
            )
        return self._followers[workflow_id]
