"""What a runner does about what happens to it. No process, socket or clock in here: `loop` has those.

`react` takes one event and gives the effects in order; `next_wake` tells when time itself becomes an event. One exchange
is in flight at a time, and reports gather meanwhile: that is all the batching there is.
"""

from __future__ import annotations

from dataclasses import replace

from torc.api.runs import (
    ActionFinished,
    Assignment,
    Exchange,
    ExchangeReply,
    Finished,
    JobAttempt,
    NodeCapacity,
    Outcome,
    Reason,
    Started,
)
from torc.core.quantities import human_bytes, human_duration
from torc.core.resources import Capacity
from torc.runner.state import (
    ActionExited,
    Effect,
    Event,
    Exited,
    Kill,
    Launched,
    Leave,
    NotLaunched,
    Replied,
    RunAction,
    Running,
    Send,
    Settings,
    Start,
    State,
    Stop,
    Tick,
    TooLarge,
    Unreachable,
)

#: a report waits at most so long for company
REPORT_SECONDS = 0.03
REPORTS_AT_ONCE = 32
#: work is claimed ahead for so long: an exchange takes a few milliseconds
AHEAD_SECONDS = 0.06
MOST_AHEAD = 128
#: with free room and something running, ask so often whether others have made work ready
POLL_SECONDS = 0.5
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_MOST_ASSIGNMENTS = 1000


def begin(settings: Settings, now: float) -> tuple[State, list[Effect]]:
    """Give the state at the beginning, and what to do first."""
    state = State(free=settings.total, free_gpus=list(settings.gpus))
    return state, _converse(state, settings, now)


def react(state: State, event: Event, settings: Settings, now: float) -> list[Effect]:
    """Take in one event. `now` is on the monotonic clock."""
    effects: list[Effect] = []
    match event:
        case Replied(reply):
            effects += _replied(state, reply, settings, now)
        case Unreachable(sent):
            _take_back(state, sent, now)
        case Launched(job_id, started_at):
            state.running[job_id].started_at = started_at
            state.started.append(
                Started(job_id=job_id, attempt=state.running[job_id].assignment.attempt, started_at=started_at)
            )
            _has_report(state, now)
        case NotLaunched(job_id, at, why):
            _not_launched(state, job_id, at, why, now)
        case Exited():
            effects += _exited(state, event, settings, now)
        case ActionExited(firing_id, return_code, detail):
            state.actions.discard(firing_id)
            state.actions_finished.append(ActionFinished(firing_id=firing_id, return_code=return_code, detail=detail))
            _has_report(state, now)
        case TooLarge(job_id, peak_bytes):
            effects += _too_large(state, job_id, peak_bytes, now)
        case Tick():
            effects += _past_deadlines(state, settings, now)
        case Stop(at_once):
            effects += _stop(state, settings, now, at_once=at_once)
    effects += _fill(state, settings, now)
    effects += _converse(state, settings, now)
    return effects


def next_wake(state: State, settings: Settings, now: float) -> float | None:
    """Tell when to send a Tick, on the monotonic clock; None: only an event can change anything."""
    times = (
        [min(job.deadline if job.outcome is None else job.kill_at or job.deadline for job in state.running.values())]
        if state.running
        else []
    )
    if settings.leave_at is not None and not state.stopping:
        times.append(settings.leave_at)
    if state.in_flight is None:
        times.append(max(state.last_exchange + settings.heartbeat_seconds, state.not_before))
        if state.oldest_report is not None:
            times.append(max(state.oldest_report + REPORT_SECONDS, state.not_before))
        if _has_room(state, settings) and state.running:
            times.append(max(state.last_exchange + POLL_SECONDS, state.not_before))
        if state.not_before > now:
            times.append(state.not_before)
    return min(times, default=None)


# -- attempts ---------------------------------------------------------------------------------------------------


def _fill(state: State, settings: Settings, now: float) -> list[Effect]:
    """Start what is claimed and fits."""
    if state.stopping or state.lost or not state.queue:
        return []
    effects: list[Effect] = []
    passed: list[Assignment] = []
    while state.queue and _has_slot(state, settings):
        assignment = state.queue.popleft()
        if not _fits(state, settings, assignment):
            passed.append(assignment)
            continue
        gpus = tuple(state.free_gpus[: assignment.request.num_gpus])
        del state.free_gpus[: assignment.request.num_gpus]
        state.free = state.free.take(assignment.request)
        state.running[assignment.job_id] = Running(
            assignment, gpus, begun=now, deadline=now + assignment.request.runtime_seconds
        )
        effects.append(Start(assignment, gpus))
    state.queue.extendleft(reversed(passed))
    return effects


def _has_slot(state: State, settings: Settings) -> bool:
    """Tell whether any job at all could start: one that asks for nothing but a CPU."""
    if settings.max_parallel_jobs is not None:
        return len(state.running) < settings.max_parallel_jobs
    return state.free.num_cpus >= 1


def _fits(state: State, settings: Settings, assignment: Assignment) -> bool:
    if settings.max_parallel_jobs is not None:
        return len(state.running) < settings.max_parallel_jobs
    return state.free.fits(assignment.request)


def _exited(state: State, event: Exited, settings: Settings, now: float) -> list[Effect]:
    job = state.running.pop(event.job_id)
    _give_back(state, job)
    outcome, reason, detail = _ending(job, event)
    state.mean_seconds = (
        event.wall_seconds if state.mean_seconds is None else 0.8 * state.mean_seconds + 0.2 * event.wall_seconds
    )
    _finished(
        state,
        Finished(
            job_id=event.job_id,
            attempt=job.assignment.attempt,
            outcome=outcome,
            return_code=event.return_code,
            started_at=job.started_at,
            ended_at=event.at,
            wall_seconds=event.wall_seconds,
            usage=event.usage,
            reason=reason,
            detail=detail,
            stderr_tail=None if outcome == "succeeded" else event.stderr_tail,
        ),
        now,
    )
    if settings.fail_fast and outcome in {"failed", "terminated"} and not state.stopping:
        return _stop(state, settings, now, at_once=False)
    return []


def _ending(job: Running, event: Exited) -> tuple[Outcome, Reason | None, str | None]:
    if job.outcome is not None:
        return job.outcome, job.reason, job.detail
    if event.recovery_failed:
        return "failed", "recovery_failed", f"the recovery script ended with {event.return_code}"
    if event.return_code != 0:
        return "failed", None, None
    if event.missing:
        listed = ", ".join(event.missing[:5]) + (
            f" and {len(event.missing) - 5} more" if len(event.missing) > 5 else ""
        )
        return "failed", "missing_output", f"did not write {listed}"
    return "succeeded", None, None


def _not_launched(state: State, job_id: int, at: float, why: str, now: float) -> None:
    job = state.running.pop(job_id)
    _give_back(state, job)
    _finished(
        state,
        Finished(
            job_id=job_id,
            attempt=job.assignment.attempt,
            outcome="failed",
            return_code=None,
            started_at=None,
            ended_at=at,
            wall_seconds=0.0,
            reason="not_started",
            detail=why,
        ),
        now,
    )


def _finished(state: State, finished: Finished, now: float) -> None:
    state.started = [item for item in state.started if item.job_id != finished.job_id]
    state.finished.append(finished)
    state.num_completed += finished.outcome == "succeeded"
    state.num_failed += finished.outcome in {"failed", "terminated"}
    _has_report(state, now)


def _give_back(state: State, job: Running) -> None:
    state.free = state.free.give_back(job.assignment.request)
    state.free_gpus = sorted([*state.free_gpus, *job.gpus])


def _has_report(state: State, now: float) -> None:
    if state.oldest_report is None:
        state.oldest_report = now


# -- stopping things --------------------------------------------------------------------------------------------


def _past_deadlines(state: State, settings: Settings, now: float) -> list[Effect]:
    effects: list[Effect] = []
    for job_id, job in state.running.items():
        if job.outcome is None and job.deadline <= now:
            limit = human_duration(job.assignment.request.runtime_seconds)
            effects += _end(
                job_id, job, "terminated", "timeout", f"ran longer than its limit of {limit}", now, settings
            )
        elif job.kill_at is not None and job.kill_at <= now:
            job.kill_at = None
            effects.append(Kill(job_id, for_good=True))
    if settings.leave_at is not None and settings.leave_at <= now and not state.stopping:
        effects += _stop(state, settings, now, at_once=False)
    return effects


def _end(
    job_id: int, job: Running, outcome: Outcome, reason: Reason, detail: str | None, now: float, settings: Settings
) -> list[Effect]:
    """Ask an attempt to end; SIGKILL follows after the time of grace."""
    job.outcome, job.reason, job.detail = outcome, reason, detail
    job.kill_at = now + settings.grace_seconds
    return [Kill(job_id, for_good=False)]


def _too_large(state: State, job_id: int, peak_bytes: int, now: float) -> list[Effect]:
    job = state.running.get(job_id)
    if job is None or job.outcome is not None:
        return []
    limit = job.assignment.request.memory_bytes
    job.outcome, job.reason = "terminated", "out_of_memory"
    job.detail = f"used {human_bytes(peak_bytes)} of memory, {human_bytes(limit)} were asked for"
    return [Kill(job_id, for_good=True)]


def _stop(state: State, settings: Settings, now: float, *, at_once: bool) -> list[Effect]:
    """Let go of everything: what is only claimed goes back, what runs is ended, kindly where it can save its work."""
    state.stopping = True
    state.released += [JobAttempt(job_id=item.job_id, attempt=item.attempt) for item in state.queue]
    state.queue.clear()
    _has_report(state, now)
    effects: list[Effect] = []
    for job_id, job in state.running.items():
        if job.outcome is None:
            effects += _end(job_id, job, "interrupted", "runner_stopped", None, now, settings)
            if not job.assignment.supports_termination:
                effects[-1] = Kill(job_id, for_good=True)
                job.kill_at = None
        if at_once and job.kill_at is not None:
            job.kill_at = None
            effects.append(Kill(job_id, for_good=True))
    return effects


# -- the conversation -------------------------------------------------------------------------------------------


def _replied(state: State, reply: ExchangeReply, settings: Settings, now: float) -> list[Effect]:
    sent, state.in_flight = state.in_flight, None
    state.unreachable_since, state.not_before = None, 0.0
    state.done = reply.done
    state.starving = bool(reply.assignments) or (reply.waiting > 0 and not state.running)
    if reply.runner_is_lost:
        state.lost = True
        state.queue.clear()
        return [Kill(job_id, for_good=True) for job_id in state.running]
    if state.stopping:
        state.released += [JobAttempt(job_id=item.job_id, attempt=item.attempt) for item in reply.assignments]
        if reply.assignments:
            _has_report(state, now)
        state.left = sent is not None and sent.stopping
    else:
        state.queue += reply.assignments
    effects: list[Effect] = []
    for item in reply.cancel:
        effects += _cancel(state, item, settings, now)
    for action in reply.actions:
        state.actions.add(action.firing_id)
        effects.append(RunAction(action))
    return effects


def _cancel(state: State, item: JobAttempt, settings: Settings, now: float) -> list[Effect]:
    job = state.running.get(item.job_id)
    if job is not None and job.assignment.attempt == item.attempt:
        if job.outcome is None:
            return _end(item.job_id, job, "canceled", "canceled", None, now, settings)
        return []
    if all(done.job_id != item.job_id for done in state.finished):
        state.queue = type(state.queue)(queued for queued in state.queue if queued.job_id != item.job_id)
        state.released.append(item)
        _has_report(state, now)
    return []


def _take_back(state: State, sent: Exchange, now: float) -> None:
    """Keep what could not be delivered, and try again later."""
    state.in_flight = None
    state.finished = [*sent.finished, *state.finished]
    done = {item.job_id for item in state.finished}
    state.started = [item for item in (*sent.started, *state.started) if item.job_id not in done]
    state.released = [*sent.released, *state.released]
    state.actions_finished = [*sent.actions_finished, *state.actions_finished]
    if state.unreachable_since is None:
        state.unreachable_since = now
    waited = now - state.unreachable_since
    state.not_before = now + next((pause for pause in _BACKOFF_SECONDS if pause > waited / 2), _BACKOFF_SECONDS[-1])
    state.oldest_report = now


def _converse(state: State, settings: Settings, now: float) -> list[Effect]:
    if state.lost:
        return [] if state.running else [Leave()]
    if state.in_flight is not None:
        return []
    reports = len(state.finished) + len(state.started) + len(state.released) + len(state.actions_finished)
    if not reports and not state.running and not state.actions and not state.queue and (state.done or state.left):
        return [Leave()]
    if now < state.not_before or not _worth_sending(state, settings, reports, now):
        return []
    return [_send(state, settings, now)]


def _worth_sending(state: State, settings: Settings, reports: int, now: float) -> bool:
    if state.last_exchange == 0.0:
        return True
    if state.stopping:
        return bool(reports) or not (state.left or state.running)
    hungry = _has_room(state, settings)
    if reports:
        if hungry or reports >= REPORTS_AT_ONCE or _queue_is_low(state, settings):
            return True
        return state.oldest_report is not None and now - state.oldest_report >= REPORT_SECONDS
    if hungry and (state.starving or not (state.running or state.actions)):
        return True
    pause = POLL_SECONDS if hungry else settings.heartbeat_seconds
    return now - state.last_exchange >= pause


def _has_room(state: State, settings: Settings) -> bool:
    """Tell whether something more could start now than what is claimed already."""
    if state.stopping or state.queue:
        return False
    if settings.max_parallel_jobs is not None:
        return len(state.running) < settings.max_parallel_jobs
    return state.free.num_cpus >= 1 and state.free.memory_bytes >= 1


def _ahead(state: State, settings: Settings) -> int:
    """Tell how many jobs to have in hand beyond what runs: none for long jobs, other runners must get them."""
    if state.mean_seconds is None:
        return 0
    slots = settings.max_parallel_jobs or settings.total.num_cpus
    return min(MOST_AHEAD, int(slots * AHEAD_SECONDS / max(state.mean_seconds, 0.0005)))


def _queue_is_low(state: State, settings: Settings) -> bool:
    return len(state.queue) < _ahead(state, settings) / 2


def _send(state: State, settings: Settings, now: float) -> Send:
    ahead = max(0, _ahead(state, settings) - len(state.queue))
    idle = not (state.running or state.queue or state.finished or state.actions or state.stopping or state.started)
    request = Exchange(
        workflow_id=settings.workflow_id,
        runner_id=settings.runner_id,
        started=state.started,
        finished=state.finished,
        released=state.released,
        actions_finished=state.actions_finished,
        free=_node(_unclaimed(state), settings, now),
        total=_node(settings.total, settings, now),
        limit=_limit(state, settings),
        ignore_resources=settings.max_parallel_jobs is not None,
        claim_ahead=0 if state.stopping else ahead,
        stopping=state.stopping,
        wait_seconds=settings.wait_seconds if idle and state.last_exchange else 0.0,
    )
    state.started, state.finished, state.released, state.actions_finished = [], [], [], []
    state.oldest_report = None
    state.in_flight = request
    state.last_exchange = now
    return Send(request)


def _limit(state: State, settings: Settings) -> int:
    if state.stopping:
        return 0
    if settings.max_parallel_jobs is not None:
        return max(0, settings.max_parallel_jobs - len(state.running) - len(state.queue))
    return _MOST_ASSIGNMENTS


def _unclaimed(state: State) -> Capacity:
    free = state.free
    for assignment in state.queue:
        free = free.take(assignment.request)
    return free


def _node(capacity: Capacity, settings: Settings, now: float) -> NodeCapacity:
    left = None if settings.leave_at is None else max(0.0, settings.leave_at - now)
    capacity = replace(capacity, runtime_seconds=left)
    return NodeCapacity(
        num_cpus=max(0, capacity.num_cpus),
        memory_bytes=max(0, capacity.memory_bytes),
        num_gpus=max(0, capacity.num_gpus),
        runtime_seconds=left,
    )
