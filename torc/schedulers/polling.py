"""Follows allocations: one look at the cluster for all of all workflows, and what it says goes into the store.

Looks at most every 15 seconds, less often while nothing changes or the cluster is busy. What was looked at by somebody else just
now is not looked at again: several followers are no heavier than one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torc.api.allocations import Allocation, AllocationObservation, ListAllocations, ObserveAllocations, Observed
from torc.api.base import Torc
from torc.api.pagination import items_of
from torc.backoff import jittered, longer
from torc.errors import Unavailable
from torc.planning.allocations import DEFERRED, AllocationState
from torc.schedulers.base import OpenAllocation, PollResult, Scheduler
from torc.schedulers.registry import scheduler, type_of
from torc.schedulers.submission import SURELY_NOT_SECONDS, due_again, request_of, submit_recorded
from torc.units import human_duration

_log = logging.getLogger(__name__)
POLL_SECONDS = 15.0
_LONGEST_POLL = 60.0
_LONGEST_PAUSE = 300.0
_GROWTH = 1.3
#: of an absence of the cluster, when one has been told of
_REMINDER_SECONDS = 90.0


class ClusterPoll(NamedTuple):
    """What a look has brought."""

    open: list[Allocation]  # that had not ended before it
    changed: list[Allocation]
    runners_ended: int = 0
    jobs_lost: int = 0


def poll(
    torc: Torc, cluster: Scheduler, workflow_ids: Collection[int] | None = None, *, heal: bool = True
) -> ClusterPoll:
    """Look at all allocations of a scheduler that have not ended, of some workflows or of all that can be seen. Raises Unavailable.

    With `heal`, what was recorded and surely never submitted is submitted, and what is marked and not cancelled is cancelled.
    """
    known = [item for item in _to_follow(torc, workflow_ids) if type_of(item) == cluster.type.name]
    return _poll(torc, cluster, known, heal=heal) if known else ClusterPoll([], [])


def poll_all(torc: Torc, workflow_ids: Collection[int] | None = None, *, patience: float | None = None) -> ClusterPoll:
    """Look at all allocations that have not ended, of every scheduler that was asked for some. Submits and cancels nothing."""
    groups: dict[str, list[Allocation]] = {}
    for item in _to_follow(torc, workflow_ids):
        groups.setdefault(type_of(item), []).append(item)
    polls = [_poll(torc, scheduler(name, patience=patience), known, heal=False) for name, known in groups.items()]
    return ClusterPoll(
        [item for each in polls for item in each.open],
        [item for each in polls for item in each.changed],
        sum(each.runners_ended for each in polls),
        sum(each.jobs_lost for each in polls),
    )


def _poll(torc: Torc, cluster: Scheduler, known: Sequence[Allocation], *, heal: bool) -> ClusterPoll:
    seen = cluster.look([_asked(item, cluster) for item in known])
    if seen.surplus:
        _log.warning("submitted twice, cancelled once: %s", ", ".join(seen.surplus))
        cluster.cancel(seen.surplus)
    told = [_observe(torc, workflow_id, items, seen) for workflow_id, items in _by_workflow(known)]
    changed = [item for reply in told for item in reply.changed]
    if heal:
        changed += _heal(torc, cluster, known, seen, changed)
    return ClusterPoll(
        [item for item in known if item.state is not AllocationState.ENDED],
        changed,
        sum(reply.runners_ended for reply in told),
        sum(reply.jobs_lost for reply in told),
    )


def _asked(item: Allocation, cluster: Scheduler) -> OpenAllocation:
    return OpenAllocation(item.mark, item.cluster_job_id, item.created_at, request_of(item, cluster).elsewhere)


def _to_follow(torc: Torc, workflow_ids: Collection[int] | None) -> list[Allocation]:
    found: list[Allocation] = []
    for workflow_id in [None] if workflow_ids is None else sorted(set(workflow_ids)):
        found += items_of(torc, ListAllocations(workflow_id=workflow_id, to_follow=True))
    return found


def _by_workflow(known: Iterable[Allocation]) -> list[tuple[int, list[Allocation]]]:
    groups: dict[int, list[Allocation]] = {}
    for item in known:
        groups.setdefault(item.workflow_id, []).append(item)
    return sorted(groups.items())


def _observe(torc: Torc, workflow_id: int, items: Iterable[Allocation], seen: PollResult) -> Observed:
    observations, silent = [], []
    for item in items:
        told = seen.observations.get(item.mark)
        if told is None:
            if item.mark not in seen.uncertain or item.cancel_requested_at is not None:  # unasked, it is waited for
                silent.append(item.id)
            continue
        observations.append(
            AllocationObservation(
                allocation_id=item.id,
                source=told.source,
                cluster_state=told.cluster_state,
                reason=told.reason,
                cluster_job_id=seen.found.get(item.mark),
                nodes=list(told.nodes),
                started_at=told.started_at,
                ended_at=told.ended_at,
                expected_start_at=told.expected_start_at,
                exit_code=told.exit_code,
                restarts=told.restarts,
            )
        )
    return torc.send(ObserveAllocations(workflow_id=workflow_id, observations=observations, silent=silent))


def _heal(
    torc: Torc,
    cluster: Scheduler,
    known: Sequence[Allocation],
    seen: PollResult,
    changed: Iterable[Allocation],
) -> list[Allocation]:
    """Make good what a kill has left half done, and ask again for what the cluster has put off; returns what it has now taken."""
    marked = [
        number
        for item in known
        if item.cancel_requested_at is not None and item.state is not AllocationState.ENDED
        if (number := item.cluster_job_id or seen.found.get(item.mark)) is not None
    ]
    if marked:
        cluster.cancel(marked)
    known_there = seen.observations.keys() | seen.uncertain
    lost = [
        item
        for item in known
        if item.mark not in known_there and item.cancel_requested_at is None
        if item.state is AllocationState.SUBMITTING and item.cluster_job_id is None
    ]
    has_room = any(item.state is AllocationState.ENDED for item in changed)
    put_off = due_again(lost, time.time(), at_once=has_room)
    made = submit_recorded(torc, put_off, cluster)
    made += submit_recorded(
        torc, [item for item in lost if item.cluster_state != DEFERRED], cluster, age=SURELY_NOT_SECONDS
    )
    return [item for item in made if item.cluster_job_id is not None or item.state is AllocationState.ENDED]


@dataclass(slots=True)
class PollPace:
    """When to look again: at once after a change, less and less often without, and with patience when the cluster is busy.

    It says when the cluster does not answer, for how long now and then, and when it is back.
    """

    least: float = POLL_SECONDS
    seconds: float = field(default=0.0)
    _due: float = field(default=0.0)
    _looked_at: float = field(default=0.0)
    _away_since: float | None = field(default=None)
    _told_at: float = field(default=0.0)

    def is_due(self) -> bool:
        """Return whether it is time for a look."""
        return time.monotonic() >= self._due

    def wait(self) -> float:
        """Return the seconds until then."""
        return max(0.0, self._due - time.monotonic())

    def looked(self, *, changed: bool) -> None:
        """Take in how a look went."""
        self.seconds = (
            self.least if changed else min(max(self.least, self.seconds * _GROWTH), max(_LONGEST_POLL, self.least))
        )
        self._looked_at = time.monotonic()
        self._due = self._looked_at + self.seconds
        if self._away_since is not None:
            _log.warning("the cluster answers again, after %s", human_duration(self._looked_at - self._away_since))
            self._away_since = None

    def hurry(self) -> None:
        """Look again as soon as that is allowed: something is going on."""
        self._due = min(self._due, self._looked_at + self.least)

    def failed(self, error: Unavailable) -> None:
        """Take in that the cluster had no answer."""
        now = time.monotonic()
        is_first = self._away_since is None
        if self._away_since is None:
            self._away_since = now
            self.seconds = self.least
        else:
            self.seconds = longer(self.seconds, _LONGEST_PAUSE)
        self._due = now + jittered(self.seconds)
        if is_first:
            _log.warning(
                "the cluster does not answer; running jobs go on. %s; trying again in %.0f s",
                error.message,
                self.wait(),
            )
        elif now - self._told_at >= _REMINDER_SECONDS:
            _log.warning(
                "the cluster has not answered for %s: %s", human_duration(now - self._away_since), error.message
            )
        else:
            return
        self._told_at = now
