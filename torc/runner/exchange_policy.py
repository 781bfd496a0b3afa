"""When a runner exchanges with the store, what it sends, and how it applies the reply. Pure; part of the reactor.

One exchange is in flight at a time, and reports accumulate meanwhile: that is all the batching there is. Attempts and their
limits are in `reactor`.
"""

from __future__ import annotations

from collections import deque
from math import inf

from torc.api.runs import (
    ActionFinished,
    Assignment,
    Exchange,
    ExchangeReply,
    Finished,
    JobAttempt,
    NodeCapacity,
)
from torc.runner import outcomes
from torc.runner.state import (
    Effect,
    Keep,
    Kill,
    KillAction,
    Leave,
    PendingReports,
    ReactorSettings,
    RunAction,
    RunnerState,
    Send,
)
from torc.workflow.resources import Capacity, Pool

#: a report waits at most this long for others
REPORT_SECONDS = 0.05
#: with this many reports, send at once
REPORTS_AT_ONCE = 128
#: work is claimed this far ahead: an exchange takes a few milliseconds
AHEAD_SECONDS = 0.15
MOST_AHEAD = 512
#: with free capacity and something running, poll this often for work that others have made ready
POLL_SECONDS = 0.5
#: when nothing has ended for this long, release what was claimed ahead: other runners may have room
HOLD_SECONDS = 1.0
#: with nothing left to do, poll this often for new work
LINGER_POLL_SECONDS = 1.0
#: ask this long after a retry is due, since two clocks never agree exactly
_DUE_SLACK_SECONDS = 0.005
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_MOST_ASSIGNMENTS = 1000


# -- replies ----------------------------------------------------------------------------------------------------


def apply_reply(state: RunnerState, reply: ExchangeReply, now: float) -> list[Effect]:
    """Apply a reply, except for its cancellations."""
    sent, state.in_flight = state.in_flight, None
    if state.last_exchange is not None:  # the store counts from when it replied, which was later
        state.lease_ends = state.last_exchange + reply.lease_seconds
    state.unreachable_since, state.not_before, state.may_have_missed = None, 0.0, False
    state.is_done, state.is_idle_around = reply.done, reply.idle_around
    state.retry_at = inf if reply.due_seconds is None else now + reply.due_seconds + _DUE_SLACK_SECONDS
    state.is_stuck = reply.stuck or (state.is_stuck and state.is_stopping)
    state.is_starving = bool(reply.assignments) or (reply.waiting > 0 and not state.running)
    awaits_confirmation, state.is_asking = state.awaits_confirmation and not state.is_asking, False
    if reply.runner_is_lost:
        state.is_lost = True
        state.queue.clear()
        drop_given(state)
        kills: list[Effect] = [Kill(job_id, for_good=True) for job_id in state.running]
        return kills + [KillAction(firing_id, for_good=True) for firing_id in state.actions]
    if state.is_stopping:
        release(state, reply.assignments, now)
        state.has_left = sent is not None and sent.stopping
    else:
        state.queue += reply.assignments
    recorded = [state.actions_given.pop(number, None) for number in (sent.actions_started if sent else ())]
    begins = [action for action in recorded if action is not None]
    # this reply may have waited for a suspended runner, or predate the death of a spawner: others may have these jobs by now
    if awaits_confirmation or now >= state.lease_ends:
        record = [*begins, *reply.actions]
        begins = []
    else:
        record = reply.actions
        _trust(state, now)
    for action in record:
        state.actions[action.firing_id] = None
        state.actions_given[action.firing_id] = action
        state.actions_started.append(action.firing_id)
        schedule_report(state, now)
    return [RunAction(action) for action in begins]


def _trust(state: RunnerState, now: float) -> None:
    """Record that this runner was not given up, so that what its dead spawners had started counts as ended."""
    if state.awaits_confirmation:
        state.awaits_confirmation = False
        state.finished += state.doubtful
        state.actions_finished += state.doubtful_actions
        state.doubtful, state.doubtful_actions = [], []
        schedule_report(state, now)


def drop_given(state: RunnerState) -> None:
    """Drop the actions that are not recorded as started: the store assigns them to others."""
    for firing_id in state.actions_given:
        del state.actions[firing_id]
    state.actions_given.clear()
    state.actions_started.clear()


def handle_unreachable(state: RunnerState, sent: Exchange, settings: ReactorSettings, now: float) -> list[Effect]:
    """Keep the reports that could not be delivered and retry later, or leave when there is nothing else to do."""
    state.in_flight, state.may_have_missed, state.is_asking = None, True, False
    state.finished = [*sent.finished, *state.finished]
    done = {item.job_id for item in state.finished}
    state.started = {item.job_id: item for item in (*sent.started, *state.started.values()) if item.job_id not in done}
    state.released = [*sent.released, *state.released]
    state.actions_finished = [*sent.actions_finished, *state.actions_finished]
    state.actions_started = [
        number for number in sent.actions_started if number in state.actions_given
    ] + state.actions_started
    effects: list[Effect] = []
    if state.unreachable_since is None:
        state.unreachable_since = now
        effects = keep(
            state.finished, state.actions_finished
        )  # from now on, what ends is written to the journal at once
    waited = now - state.unreachable_since
    state.not_before = now + next((pause for pause in _BACKOFF_SECONDS if pause > waited / 2), _BACKOFF_SECONDS[-1])
    state.oldest_report = now
    has_had_enough = state.is_stopping or waited > settings.unreachable_seconds
    if has_had_enough:
        drop_given(state)
    state.gave_up = has_had_enough and not state.running and not state.actions
    return effects


def lose_store(state: RunnerState, sent: Exchange, settings: ReactorSettings, now: float) -> list[Effect]:
    """Keep the reports that could not be delivered, start nothing more, and leave once the running jobs, whose results count, end."""
    effects = handle_unreachable(state, sent, settings, now)
    state.queue.clear()
    state.gave_up = True
    return effects


def keep(finished: list[Finished], actions_finished: list[ActionFinished]) -> list[Effect]:
    """Return the effect that writes reports to the journal."""
    return [Keep(PendingReports(tuple(finished), tuple(actions_finished)))] if finished or actions_finished else []


def release(state: RunnerState, assignments: list[Assignment] | deque[Assignment], now: float) -> None:
    """Release claimed jobs that will not start here."""
    for item in assignments:
        never_started = state.never_started.pop(item.job_id, None)
        is_told = state.started.pop(item.job_id, None) is None
        if never_started is None or not is_told:
            state.released.append(JobAttempt(job_id=item.job_id, attempt=item.attempt))
        else:  # the store believes that it runs and has to be told otherwise
            state.finished.append(outcomes.never_started(item, never_started))
    if assignments:
        schedule_report(state, now)


def schedule_report(state: RunnerState, now: float) -> None:
    """Record that there is something to send."""
    if state.oldest_report is None:
        state.oldest_report = now


# -- requests ---------------------------------------------------------------------------------------------------


def next_exchange(state: RunnerState, settings: ReactorSettings, now: float) -> list[Effect]:
    """Send an exchange when it is worthwhile; leave when nothing is left to report or do."""
    if state.is_lost or state.gave_up:
        return [] if state.running or state.actions else [Leave()]
    if state.in_flight is not None:
        return []
    reports = _num_reports(state)
    is_idle = not (reports or state.running or state.actions or state.queue or state.awaits_confirmation)
    if is_idle and state.has_left:
        return [Leave()]
    if is_idle and not state.is_stopping and _is_over(state, settings, now):
        if state.is_done:
            return [Leave()]
        state.is_stopping = True  # a final exchange, so that whatever the end of a worker triggers is run
    if now < due(state, settings):
        return []
    return [_send(state, settings, now)]


def _is_over(state: RunnerState, settings: ReactorSettings, now: float) -> bool:
    """Return whether an idle runner has nothing to wait for."""
    if _is_late(state, settings, now):
        return True
    if state.is_idle_around and not settings.stays and now - state.last_end >= settings.idle_seconds:
        return True
    return (state.is_done or state.is_stuck) and now >= _lingers_until(state, settings)


def _is_late(state: RunnerState, settings: ReactorSettings, now: float) -> bool:
    """Return whether too little of the runner's time is left to accept more work."""
    return state.leave_at is not None and state.leave_at - now < settings.min_seconds


def _lingers_until(state: RunnerState, settings: ReactorSettings) -> float:
    """Return until when to wait for more work when nothing is left."""
    return inf if settings.stays else state.last_end + settings.linger_seconds


def due(state: RunnerState, settings: ReactorSettings) -> float:
    """Return when to send the next exchange if nothing happens first; infinity: only after an event."""
    if state.in_flight is not None or state.is_lost or state.gave_up:
        return inf
    if state.last_exchange is None:
        return 0.0
    if state.awaits_confirmation:
        return state.not_before
    return max(_wish(state, settings, state.last_exchange), state.not_before)


def _wish(state: RunnerState, settings: ReactorSettings, last: float) -> float:
    """Return when to send the next exchange, assuming that the store is reachable."""
    reports = _num_reports(state)
    if state.is_stopping:
        is_over = not (state.has_left or state.running or state.actions)
        return 0.0 if reports or is_over else last + settings.heartbeat_seconds
    hungry = has_room(state, settings)
    if reports:
        if hungry or reports >= REPORTS_AT_ONCE or _is_queue_low(state, settings):
            return 0.0
        return min(last + settings.heartbeat_seconds, (state.oldest_report or 0.0) + REPORT_SECONDS)
    is_idle = not (state.running or state.actions)
    if is_idle and (state.is_done or state.is_stuck):  # lingering: the first exchange is at once, then a slow poll
        return min(last + LINGER_POLL_SECONDS, _lingers_until(state, settings))
    if hungry and (state.is_starving or is_idle):
        return 0.0
    if not hungry:
        return last + settings.heartbeat_seconds
    return min(last + POLL_SECONDS, max(last, state.retry_at))


def has_room(state: RunnerState, settings: ReactorSettings) -> bool:
    """Return whether more jobs could start now than are claimed."""
    return not state.is_stopping and not state.queue and has_slot(state, settings)


def has_slot(state: RunnerState, settings: ReactorSettings) -> bool:
    """Return whether any job could start: one that requests only a CPU."""
    most = settings.max_parallel_jobs
    if most is not None and len(state.running) - state.num_lined_up >= most:
        return False
    return settings.counts_only or state.free.slots >= 1


def _num_reports(state: RunnerState) -> int:
    ends = len(state.finished) + len(state.actions_finished)
    return ends + len(state.started) + len(state.released) + len(state.actions_started)


def _ahead(state: RunnerState, settings: ReactorSettings) -> int:
    """Return how many jobs to claim beyond what runs: none for long jobs, which other runners should get."""
    if state.mean_seconds is None:
        return 0
    slots = settings.max_parallel_jobs or settings.total.slots
    return min(MOST_AHEAD, int(slots * AHEAD_SECONDS / max(state.mean_seconds, 0.0005)))


def _is_queue_low(state: RunnerState, settings: ReactorSettings) -> bool:
    return len(state.queue) + state.num_lined_up < _ahead(state, settings) / 2


def _send(state: RunnerState, settings: ReactorSettings, now: float) -> Send:
    ahead = max(0, _ahead(state, settings) - len(state.queue) - state.num_lined_up)
    is_idle = not (state.running or state.queue or state.actions or state.is_stopping or _num_reports(state))
    is_paused = state.is_stopping or now < state.paused_until or _is_late(state, settings, now)
    waits = is_idle and state.last_exchange is not None and not state.awaits_confirmation
    # an idle runner lists what it holds each time: a store that crashed may have lost what it had accepted
    tells_all = waits or state.may_have_missed or state.awaits_confirmation
    state.num_exchanges += 1
    request = Exchange(
        workflow_id=settings.workflow_id,
        runner_id=settings.runner_id,
        number=state.num_exchanges,
        started=list(state.started.values()),
        finished=state.finished,
        released=state.released,
        actions_started=state.actions_started,
        actions_finished=state.actions_finished,
        held=_held(state) if tells_all else None,
        held_actions=[*state.actions, *(each.firing_id for each in state.doubtful_actions)] if tells_all else [],
        free=_free(state, settings, now),
        total=_node(settings.total, state, now),
        limit=0 if is_paused else _limit(state, settings),
        ignore_resources=settings.counts_only,
        claim_ahead=0 if is_paused else ahead,
        stopping=state.is_stopping,
        wait_seconds=min(settings.wait_seconds, max(0.0, state.retry_at - now)) if waits else 0.0,
        workflow_created_at=settings.workflow_created_at,
        runner_started_at=settings.runner_started_at,
    )
    state.started, state.finished, state.released = {}, [], []
    state.actions_started, state.actions_finished = [], []
    state.oldest_report = None
    state.in_flight = request
    state.last_exchange = now
    state.is_asking = state.awaits_confirmation
    return Send(request)


def _held(state: RunnerState) -> list[JobAttempt]:
    held: list[Assignment | Finished] = [
        *(job.assignment for job in state.running.values()),
        *state.queue,
        *state.doubtful,
    ]
    return [JobAttempt(job_id=item.job_id, attempt=item.attempt) for item in held]


def _limit(state: RunnerState, settings: ReactorSettings) -> int:
    if settings.max_parallel_jobs is not None:
        return max(0, settings.max_parallel_jobs - len(state.running) - len(state.queue))
    return _MOST_ASSIGNMENTS


def _free(state: RunnerState, settings: ReactorSettings, now: float) -> NodeCapacity:
    """Return the capacity that will be free once claimed jobs have started."""
    if settings.counts_only:
        return _node(settings.total, state, now)
    free, queued = state.free, [item.request for item in state.queue]
    if isinstance(free, Pool):
        for request in queued:
            free = free.take(request) if free.fits(request) else free
        return _node(free, state, now)
    rest = Capacity(
        max(0, free.num_cpus - sum(request.num_cpus for request in queued)),
        max(0, free.memory_bytes - sum(request.memory_bytes for request in queued)),
        max(0, free.num_gpus - sum(request.num_gpus for request in queued)),
    )
    return _node(rest, state, now)


def _node(capacity: Capacity | Pool, state: RunnerState, now: float) -> NodeCapacity:
    return node_capacity(capacity, None if state.leave_at is None else max(0.0, state.leave_at - now))


def node_capacity(capacity: Capacity | Pool, runtime_seconds: float | None) -> NodeCapacity:
    """Describe a runner's total or free capacity, with this much time left."""
    first, *others = capacity.nodes if isinstance(capacity, Pool) else (capacity,)
    found = NodeCapacity(
        num_cpus=first.num_cpus,
        memory_bytes=first.memory_bytes,
        num_gpus=first.num_gpus,
        runtime_seconds=runtime_seconds,
    )
    if not others:
        return found
    return found.model_copy(update={"others": [node_capacity(other, runtime_seconds) for other in others]})
