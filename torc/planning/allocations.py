"""What is known of an allocation, and how observations of the cluster change it. Pure.

There are two sources: the queue (squeue: current, but forgets jobs minutes after their end) and the accounting (sacct: delayed, and
temporarily wrong after the end). A state only moves forward, except for a requeue, which only the queue may report. If a source
does not mention an allocation, that means "not yet"; `is_forgotten` decides when this has lasted so long that it is over.

What happens to the jobs in it is decided by `torc.planning.allocation_outcomes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal


class AllocationState(StrEnum):
    SUBMITTING = "submitting"  # recorded; the cluster may not know of it yet
    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"


S = AllocationState
_ORDER = list(AllocationState)
Source = Literal["queue", "accounting"]

#: the cluster's states; others do not change an allocation's state (REVOKED: it runs on a sibling cluster)
PHASES: Mapping[str, AllocationState] = {
    **dict.fromkeys(
        (
            "PENDING",
            "CONFIGURING",
            "REQUEUED",
            "REQUEUE_HOLD",
            "REQUEUE_FED",
            "SPECIAL_EXIT",
            "RESV_DEL_HOLD",
            "POWER_UP_NODE",
            "EXPEDITING",
        ),
        S.PENDING,
    ),
    **dict.fromkeys(("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"), S.RUNNING),
    **dict.fromkeys(
        (
            "COMPLETED",
            "CANCELLED",
            "FAILED",
            "TIMEOUT",
            "NODE_FAIL",
            "PREEMPTED",
            "BOOT_FAIL",
            "DEADLINE",
            "OUT_OF_MEMORY",
            "LAUNCH_FAILED",
            "RECONFIG_FAIL",
        ),
        S.ENDED,
    ),
}
#: Torc's own words for ends that the cluster did not report
NOT_SUBMITTED = "NOT_SUBMITTED"  # refused, or abandoned before the cluster knew of it
DEFERRED = "DEFERRED"  # the cluster accepts no more now: submission is retried while somebody follows the workflow
FORGOTTEN = "FORGOTTEN"  # the cluster had it and no longer knows it
REQUEUED = "REQUEUED"
#: start times are rounded to seconds twice on the way
_SAME_START = 2.0
_AGAIN_SOONEST, _AGAIN_LATEST = 10.0, 120.0
_FORGOTTEN_SUBMITTING = 900.0
_FORGOTTEN_PENDING = 3600.0
_FORGOTTEN_RUNNING = 900.0
#: old copies of jobs may still be writing on a node that failed once; one that failed twice is not used again
_SUSPECT_SECONDS = 1800.0
_FAILURES_TO_EXCLUDE = 2


@dataclass(frozen=True, slots=True)
class Observation:
    """What one source reports about an allocation. Times are in seconds since the epoch; None: not reported."""

    source: Source
    cluster_state: str
    reason: str | None = None
    nodes: tuple[str, ...] = ()
    started_at: float | None = None
    ended_at: float | None = None
    expected_start_at: float | None = None
    exit_code: str | None = None
    restarts: int | None = None


@dataclass(frozen=True, slots=True)
class AllocationStatus:
    state: AllocationState = S.SUBMITTING
    cluster_state: str | None = None
    reason: str | None = None
    nodes: tuple[str, ...] = ()
    started_at: float | None = None
    ended_at: float | None = None
    expected_start_at: float | None = None
    exit_code: str | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class AllocationChange:
    """The result of an observation. `requeued`: what was running in it was stopped, and it will start over."""

    standing: AllocationStatus
    requeued: bool = False

    @property
    def ended(self) -> bool:
        """Return whether the allocation is over."""
        return self.standing.state is S.ENDED


def word_of(cluster_state: str) -> str:
    """Return the state without the details that commands add: `CANCELLED by 1000`, `COMPLETED+`."""
    return cluster_state.strip().partition(" ")[0].rstrip("+").upper()


def phase_of(cluster_state: str) -> AllocationState | None:
    """Return the allocation state for a cluster state; None if it implies none."""
    return PHASES.get(word_of(cluster_state))


def merged(queue: Observation | None, accounting: Observation | None) -> Observation | None:
    """Return what to believe of one poll: the queue, as long as it lists an allocation that has not ended."""
    if queue is None or accounting is None:
        return queue or accounting
    if phase_of(queue.cluster_state) in {S.PENDING, S.RUNNING}:
        return queue
    if phase_of(accounting.cluster_state) is not S.ENDED or word_of(accounting.cluster_state) != word_of(
        queue.cluster_state
    ):
        return queue  # from an earlier start, or not written yet
    return replace(
        queue,
        reason=accounting.reason or queue.reason,
        nodes=accounting.nodes or queue.nodes,
        started_at=accounting.started_at or queue.started_at,
        ended_at=accounting.ended_at or queue.ended_at,
        exit_code=accounting.exit_code,
    )


def observe(standing: AllocationStatus, seen: Observation, now: float) -> AllocationChange:
    """Apply an observation."""
    phase = phase_of(seen.cluster_state)
    if phase is None or _is_of_an_earlier_start(standing, seen):
        return AllocationChange(standing)
    if standing.state is S.ENDED:
        return AllocationChange(_refined(standing, seen) if phase is S.ENDED else standing)
    requeued = _is_requeue(standing, seen, phase)
    if requeued:
        fresh = AllocationStatus(S.PENDING, restarts=max(standing.restarts + 1, seen.restarts or 0))
        return AllocationChange(_taken(fresh, seen, phase, now), requeued=True)
    if _ORDER.index(phase) < _ORDER.index(standing.state):
        return AllocationChange(standing)
    return AllocationChange(_taken(standing, seen, phase, now))


def deferred(standing: AllocationStatus, reason: str) -> AllocationStatus:
    """Record that the cluster did not accept the allocation now: it remains to be submitted."""
    if standing.state is not S.SUBMITTING:
        return standing
    return replace(standing, cluster_state=DEFERRED, reason=reason)


def again_after_seconds(created_at: float, refused_at: float) -> float:
    """Return how long to wait after a refusal before trying again: longer, the longer refusals last."""
    return min(max((refused_at - created_at) * 0.5, _AGAIN_SOONEST), _AGAIN_LATEST)


def began(standing: AllocationStatus, node: str | None, now: float) -> AllocationStatus:
    """Record that a process is alive in the allocation: it is running, whatever the cluster has reported so far."""
    if standing.state in {S.RUNNING, S.ENDED}:
        return standing
    nodes = standing.nodes or ((node,) if node else ())
    return replace(
        standing,
        state=S.RUNNING,
        cluster_state="RUNNING",
        reason=None,
        started_at=standing.started_at or now,
        nodes=nodes,
    )


def given_up(standing: AllocationStatus, word: str, reason: str, now: float) -> AllocationStatus:
    """Record that the allocation is over although the cluster has not reported its end."""
    if standing.state is S.ENDED:
        return standing
    return replace(standing, state=S.ENDED, cluster_state=word, reason=reason, ended_at=now, expected_start_at=None)


def is_forgotten(
    standing: AllocationStatus, *, known_to_cluster: bool, last_seen_at: float, walltime_seconds: float, now: float
) -> bool:
    """Return whether an allocation that no source has mentioned since `last_seen_at`, although both answered, is over.

    The accounting is delayed by seconds, or by hours after an outage of its database; a running allocation may run until its limit.
    """
    silent = now - last_seen_at
    if standing.state is S.ENDED:
        return False
    if not known_to_cluster:
        return silent > _FORGOTTEN_SUBMITTING
    if standing.state is S.RUNNING and standing.started_at is not None:
        return silent > _FORGOTTEN_RUNNING and now > standing.started_at + walltime_seconds + _FORGOTTEN_RUNNING
    return silent > _FORGOTTEN_PENDING


def node_seconds(started_at: float | None, ended_at: float | None, num_nodes: int, now: float) -> float:
    """Return the node-seconds that an allocation has used."""
    if started_at is None:
        return 0.0
    return max(0.0, (now if ended_at is None else ended_at) - started_at) * num_nodes


def busy_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the total length of the union of some intervals."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        if end > until:
            total += end - max(start, until)
            until = end
    return total


def nodes_to_exclude(failures: Sequence[tuple[str, float]], now: float) -> tuple[str, ...]:
    """Return the nodes that new allocations should avoid, given the failures (node, time) so far."""
    times: dict[str, list[float]] = {}
    for node, when in failures:
        times.setdefault(node, []).append(when)
    return tuple(
        sorted(
            node
            for node, seen in times.items()
            if len(seen) >= _FAILURES_TO_EXCLUDE or now - max(seen) < _SUSPECT_SECONDS
        )
    )


def _is_requeue(standing: AllocationStatus, seen: Observation, phase: AllocationState) -> bool:
    if standing.state is not S.RUNNING or seen.source != "queue":
        return False
    if phase is S.PENDING or (seen.restarts or 0) > standing.restarts:
        return True
    return (
        seen.started_at is not None
        and standing.started_at is not None
        and seen.started_at > standing.started_at + _SAME_START + _CLOCKS_APART
        and phase is S.RUNNING
    )


#: the first start may have been reported by a runner on a machine with another clock
_CLOCKS_APART = 60.0


def _is_of_an_earlier_start(standing: AllocationStatus, seen: Observation) -> bool:
    """Return whether the accounting refers to a run before a requeue."""
    if seen.source == "queue" or standing.restarts == 0 or seen.ended_at is None:
        return False
    return standing.started_at is None or seen.ended_at < standing.started_at - _SAME_START


def _taken(standing: AllocationStatus, seen: Observation, phase: AllocationState, now: float) -> AllocationStatus:
    waiting = phase is S.PENDING
    return AllocationStatus(
        state=phase,
        cluster_state=word_of(seen.cluster_state),
        reason=seen.reason,
        nodes=() if waiting else (seen.nodes or standing.nodes),
        started_at=None if waiting else (seen.started_at or standing.started_at),
        ended_at=(seen.ended_at or now) if phase is S.ENDED else None,
        expected_start_at=seen.expected_start_at if waiting else None,
        exit_code=seen.exit_code if phase is S.ENDED else None,
        restarts=max(standing.restarts, seen.restarts or 0),
    )


def _refined(standing: AllocationStatus, seen: Observation) -> AllocationStatus:
    """Fill in what the accounting knows better about an end, or what was unknown."""
    if seen.source == "queue" and seen.exit_code is None:
        return standing
    return replace(
        standing,
        cluster_state=word_of(seen.cluster_state),
        reason=seen.reason or standing.reason,
        nodes=seen.nodes or standing.nodes,
        started_at=seen.started_at or standing.started_at,
        ended_at=seen.ended_at or standing.ended_at,
        exit_code=seen.exit_code or standing.exit_code,
    )
