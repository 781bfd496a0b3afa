"""How a runner reacts to events. No processes, sockets or clocks here: `loop` has those.

`react` takes one event and returns effects in order; `next_wake` returns when time itself becomes an event. What is sent to the
store, and when, is in `exchange_policy`.
"""

from __future__ import annotations

from math import inf

from torc.api.runs import ActionFinished, Assignment, Finished, Started
from torc.runner import exchange_policy, outcomes
from torc.runner.exchange_policy import HOLD_SECONDS, has_slot, schedule_report
from torc.runner.state import (
    ActionExited,
    ActionNotStarted,
    AttemptOver,
    Effect,
    Event,
    Exited,
    Kill,
    KillAction,
    Launched,
    MemoryExceeded,
    NoRoom,
    NotLaunched,
    NotStarted,
    ReactorSettings,
    Replied,
    RunnerState,
    RunningAttempt,
    Slept,
    SpawnerDied,
    StartAttempt,
    Stop,
    Tick,
    Trouble,
    Unreachable,
    Warned,
    Withdraw,
    Withdrawn,
)
from torc.runner.termination import (
    cancel,
    end_at_limit,
    give_notice,
    mark_for_kill,
    notice_at,
    stop,
    time_of,
    too_large,
)
from torc.workflow.exit_codes import reported, signal_of
from torc.workflow.resources import Pool

#: a claimed job that has waited this long for room is no longer overtaken
PATIENCE_SECONDS = 2.0
#: jobs as short as this start directly when another ends
LINE_UP_SECONDS = 0.02
_LONGEST_LINE = 16
#: pauses before the next start when the node cannot create a process or its files
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
#: consecutive spawner deaths after which a runner gives up
MOST_DEATHS = 5


def begin(settings: ReactorSettings, now: float) -> tuple[RunnerState, list[Effect]]:
    """Return the initial state and the first effects."""
    state = RunnerState(free=settings.total, free_gpus=list(settings.gpus), last_end=now)
    if settings.leave_at is not None:
        state.leave_at = settings.leave_at
        state.notice_at = state.wake_at = notice_at(settings, settings.leave_at, now)
    return state, exchange_policy.next_exchange(state, settings, now)


def react(state: RunnerState, event: Event, settings: ReactorSettings, now: float) -> list[Effect]:
    """Handle one event. `now` is on the monotonic clock."""
    effects = _take_in(state, event, settings, now)
    if state.queue:
        _fill(state, settings, now, effects)
    effects += exchange_policy.next_exchange(state, settings, now)
    return effects


def next_wake(state: RunnerState, settings: ReactorSettings, now: float) -> float | None:
    """Return when to send a Tick, on the monotonic clock; None: only an event can change anything."""
    earliest = min(exchange_policy.due(state, settings), state.wake_at)
    if _has_more(state) and not state.is_stopping:
        earliest = min(earliest, state.paused_until if now < state.paused_until else _hold_until(state))
    return None if earliest == inf else earliest


def _take_in(  # noqa: C901, PLR0911, PLR0912 - one case per event
    state: RunnerState, event: Event, settings: ReactorSettings, now: float
) -> list[Effect]:
    match event:
        case Exited():
            return _exited(state, event, settings, now)
        case Launched(job_id, started_at):
            _launched(state, job_id, started_at, now)
        case AttemptOver(job_id):
            state.running[job_id].deadline = inf
        case Replied(reply):
            effects = exchange_policy.apply_reply(state, reply, now)
            for item in reply.cancel:
                effects += cancel(state, item, settings, now)
            return effects
        case Unreachable(sent, for_good):
            take = exchange_policy.lose_store if for_good else exchange_policy.handle_unreachable
            return take(state, sent, settings, now)
        case NotLaunched():
            return _not_launched(state, settings, event, now)
        case NoRoom(job_id, why):
            return _no_room(state, job_id, why, settings, now)
        case ActionExited(firing_id, return_code, detail, is_doubtful):
            state.actions.pop(firing_id, None)
            state.num_deaths = state.num_deaths if is_doubtful else 0
            ended = ActionFinished(firing_id=firing_id, return_code=return_code, detail=detail)
            if is_doubtful and state.awaits_confirmation:
                state.doubtful_actions.append(ended)
                return []
            state.actions_finished.append(ended)
            schedule_report(state, now)
            return exchange_policy.keep([], [ended])  # whatever happens to this process, the action must not run again
        case ActionNotStarted(firing_id):
            state.actions.pop(firing_id, None)  # the next full report of what this runner holds covers it
        case Withdrawn(job_id):
            return _withdrawn(state, job_id, settings, now)
        case SpawnerDied():
            return _spawner_died(state, event, settings, now)
        case MemoryExceeded(job_id, peak_bytes):
            return too_large(state, job_id, peak_bytes)
        case Slept(seconds):
            state.lease_ends -= seconds
        case Tick():
            return _past_deadlines(state, settings, now)
        case Warned(leave_at):
            state.leave_at = min(leave_at, inf if state.leave_at is None else state.leave_at)
            state.notice_at = min(state.notice_at, notice_at(settings, state.leave_at, now))
            state.wake_at = min(state.wake_at, state.notice_at)
        case Stop(at_once):
            return stop(state, settings, now, at_once=at_once)
    return []


# -- attempts ---------------------------------------------------------------------------------------------------


def _fill(state: RunnerState, settings: ReactorSettings, now: float, effects: list[Effect]) -> None:
    """Start the claimed jobs that fit. A job that is too large for now lets others pass, but not forever."""
    if state.is_stopping or state.is_lost or state.gave_up or state.awaits_confirmation:
        return
    if now < state.paused_until or now >= state.lease_ends:
        return
    if has_slot(state, settings):
        _fill_room(state, settings, now, effects)
    if (
        state.queue
        and state.mean_seconds is not None
        and state.mean_seconds < LINE_UP_SECONDS
        and not settings.fail_fast
        and settings.lines_up
    ):
        _line_up(state, settings, now, effects)


def _line_up(state: RunnerState, settings: ReactorSettings, now: float, effects: list[Effect]) -> None:
    """Queue short jobs to start directly when a job with the same requests ends: no time is lost asking the loop in between."""
    depth = min(_LONGEST_LINE, int(LINE_UP_SECONDS / max(state.mean_seconds or 0.0, 0.0005)))
    for job_id, job in list(state.running.items()):
        if job.started_at is None or job.outcome is not None or job.after is not None:
            continue
        while len(job.line) < depth and state.queue:
            assignment = state.queue[0]
            if job.assignment.keep_background_processes or assignment.request != job.assignment.request:
                return
            if not _may_line_up(state, assignment):
                return
            state.queue.popleft()
            job.line.append(assignment.job_id)
            state.running[assignment.job_id] = RunningAttempt(assignment, (), begun=now, deadline=inf, after=job_id)
            state.num_lined_up += 1
            effects.append(StartAttempt(assignment, (), after=job_id))


def _may_line_up(state: RunnerState, assignment: Assignment) -> bool:
    if assignment.keep_background_processes:  # its spawner cannot start another job afterwards
        return False
    return not assignment.request.num_gpus and not (state.is_leaving and assignment.supports_termination)


def _fill_room(state: RunnerState, settings: ReactorSettings, now: float, effects: list[Effect]) -> None:
    passed: list[Assignment] = []
    while state.queue and has_slot(state, settings):
        assignment = state.queue.popleft()
        if _fits(state, settings, assignment):
            effects.append(_start(state, settings, assignment, now))
            continue
        if not passed:
            state.head_since = now if state.head_since is None else state.head_since
        passed.append(assignment)
        if state.head_since is not None and now - state.head_since > PATIENCE_SECONDS:
            break
    if not passed:
        state.head_since = None
    state.queue.extendleft(reversed(passed))


def _fits(state: RunnerState, settings: ReactorSettings, assignment: Assignment) -> bool:
    if state.is_leaving and assignment.supports_termination:
        return False  # no time left to save anything
    return settings.counts_only or state.free.fits(assignment.request)


def _start(state: RunnerState, settings: ReactorSettings, assignment: Assignment, now: float) -> StartAttempt:
    request = assignment.request
    gpus: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()
    if isinstance(state.free, Pool):
        nodes = state.free.place(request) or ()
        state.free = state.free.take_at(request, nodes)
    elif not settings.counts_only:
        state.free = state.free.take(request)
    if request.num_gpus and not nodes:
        gpus = tuple(state.free_gpus[: request.num_gpus])
        del state.free_gpus[: request.num_gpus]
    deadline = now + time_of(assignment, settings)
    state.running[assignment.job_id] = RunningAttempt(assignment, gpus, begun=now, deadline=deadline, nodes=nodes)
    state.wake_at = min(state.wake_at, deadline)
    return StartAttempt(assignment, gpus, nodes=nodes)


def _launched(state: RunnerState, job_id: int, started_at: float, now: float) -> None:
    job = state.running[job_id]
    job.started_at = started_at
    state.num_refusals = 0
    state.started[job_id] = Started(job_id=job_id, attempt=job.assignment.attempt, started_at=started_at)
    schedule_report(state, now)


def _exited(state: RunnerState, event: Exited, settings: ReactorSettings, now: float) -> list[Effect]:
    job = state.running.pop(event.job_id)
    _vacate(state, settings, job, now)
    outcome, reason, detail = outcomes.ending(job, event)
    return_code = reported(event.return_code, reason)
    if return_code != event.return_code and signal_of(event.return_code) is None:
        detail = f"{detail}; its last program ended with exit code {event.return_code}"
    wall = event.wall_seconds
    state.mean_seconds = wall if state.mean_seconds is None else 0.9 * state.mean_seconds + 0.1 * wall
    state.last_end = now
    finished = Finished(
        job_id=event.job_id,
        attempt=job.assignment.attempt,
        outcome=outcome,
        return_code=return_code,
        started_at=job.started_at,
        ended_at=event.at,
        wall_seconds=wall,
        usage=event.usage,
        reason=reason,
        detail=detail,
        slurm_state=event.slurm_state,
        fingerprint=outcomes.fingerprint_of(job.assignment, settings.env),
        **outcomes.ends(event.tails if outcome != "succeeded" else None),
    )
    effects = _finished(state, finished, now, is_doubtful=event.is_doubtful)
    if not event.is_doubtful:
        state.num_deaths = 0
    if settings.fail_fast and outcome in {"failed", "terminated"} and not state.is_stopping:
        effects += stop(state, settings, now, at_once=False)
    return effects


def _not_launched(state: RunnerState, settings: ReactorSettings, event: NotLaunched, now: float) -> list[Effect]:
    job = state.running.pop(event.job_id)
    _vacate(state, settings, job, now)
    return _finished(state, outcomes.nothing(job, "failed", event.at, "not_started", event.why), now)


def _no_room(state: RunnerState, job_id: int, why: str, settings: ReactorSettings, now: float) -> list[Effect]:
    """Make the job wait: it is not at fault. If nothing is running that could free some room, leave in the end."""
    job = state.running.pop(job_id)
    _vacate(state, settings, job, now)
    if job.outcome is not None:  # its stop was requested meanwhile
        if job.started_at is not None:
            return _finished(state, outcomes.nothing(job, job.outcome, job.started_at, job.reason, job.detail), now)
        exchange_policy.release(state, [job.assignment], now)
        return []
    state.queue.appendleft(job.assignment)
    if job.started_at is not None:
        state.never_started[job_id] = NotStarted(job.started_at, why)
    if now >= state.paused_until:
        state.num_refusals += 1
        state.paused_until = now + _PAUSES[min(state.num_refusals, len(_PAUSES)) - 1]
    if state.num_refusals > len(_PAUSES) and not state.running and not state.is_stopping:
        state.trouble = Trouble(why, "make room")
        return stop(state, settings, now, at_once=False)
    return []


def _spawner_died(state: RunnerState, event: SpawnerDied, settings: ReactorSettings, now: float) -> list[Effect]:
    """Start nothing until the store confirms that no runner has taken over; leave when this happens repeatedly."""
    for job_id in event.job_ids:
        if state.running[job_id].outcome is None:
            mark_for_kill(state.running[job_id], "failed", "parent_killed", f"the process that started it {event.how}")
    state.awaits_confirmation, state.is_asking = True, False
    state.num_deaths += 1
    if state.num_deaths < MOST_DEATHS or state.is_stopping:
        return []
    state.trouble = Trouble(
        f"the process that starts them died {state.num_deaths} times in a row; the last one {event.how}",
        "find out what kills it: perhaps a job that kills its parent, or kills programs by name",
    )
    return stop(state, settings, now, at_once=False)


def _finished(state: RunnerState, finished: Finished, now: float, *, is_doubtful: bool = False) -> list[Effect]:
    state.never_started.pop(finished.job_id, None)
    state.started.pop(finished.job_id, None)
    state.num_completed += finished.outcome == "succeeded"
    state.num_failed += finished.outcome in {"failed", "terminated"}
    if is_doubtful and state.awaits_confirmation:
        state.doubtful.append(finished)
        return []
    state.finished.append(finished)
    schedule_report(state, now)
    return [] if state.unreachable_since is None else exchange_policy.keep([finished], [])


def _withdrawn(state: RunnerState, job_id: int, settings: ReactorSettings, now: float) -> list[Effect]:
    """Release a queued-up job that was withdrawn before it started."""
    job = state.running.pop(job_id)
    _vacate(state, settings, job, now)
    exchange_policy.release(state, [job.assignment], now)
    return []


def _vacate(state: RunnerState, settings: ReactorSettings, job: RunningAttempt, now: float) -> None:
    """Free the place of an attempt that has ended: for the next in line, or for the node."""
    if job.after is not None:
        state.running[job.after].line.remove(job.assignment.job_id)
        state.num_lined_up -= 1
    elif job.line:
        first, *rest = job.line
        following = state.running[first]
        following.after, following.line, following.begun = None, rest, now
        following.deadline = now + time_of(following.assignment, settings)
        state.wake_at = min(state.wake_at, following.deadline)
        state.num_lined_up -= 1
        for waiting in rest:
            state.running[waiting].after = first
    elif isinstance(state.free, Pool):
        state.free = state.free.give_back_at(job.assignment.request, job.nodes)
    elif not settings.counts_only:
        state.free = state.free.give_back(job.assignment.request)
    if job.gpus:
        state.free_gpus = sorted([*state.free_gpus, *job.gpus], key=settings.gpus.index)


# -- stopping things --------------------------------------------------------------------------------------------


def _past_deadlines(state: RunnerState, settings: ReactorSettings, now: float) -> list[Effect]:
    effects: list[Effect] = []
    for job_id, job in state.running.items():
        if job.outcome is None and job.deadline <= now:
            effects.append(end_at_limit(state, settings, job_id, job, now))
        elif job.kill_at is not None and job.kill_at <= now:
            job.kill_at = None
            effects.append(Kill(job_id, for_good=True))
    for firing_id, kill_at in state.actions.items():
        if kill_at is not None and kill_at <= now:
            state.actions[firing_id] = None
            effects.append(KillAction(firing_id, for_good=True))
    effects += give_notice(state, settings, now)
    if state.leave_at is not None and state.leave_at <= now and not state.is_stopping:
        effects += stop(state, settings, now, at_once=False)
    if _has_more(state) and now >= _hold_until(state):
        state.mean_seconds, state.last_end = max(state.mean_seconds or 0.0, HOLD_SECONDS), now
        effects += [Withdraw(job_id) for job_id, job in state.running.items() if job.after is not None]
        exchange_policy.release(state, state.queue, now)
        state.queue.clear()
    state.wake_at = _earliest(state)
    return effects


def _has_more(state: RunnerState) -> bool:
    """Return whether jobs are claimed beyond those running."""
    return bool(state.queue or state.num_lined_up)


def _hold_until(state: RunnerState) -> float:
    """Return when to release what was claimed ahead if nothing ends first."""
    return max(state.last_end, state.paused_until) + HOLD_SECONDS


def _earliest(state: RunnerState) -> float:
    times = [job.deadline if job.outcome is None else job.kill_at or inf for job in state.running.values()]
    times += [kill_at for kill_at in state.actions.values() if kill_at is not None]
    if state.leave_at is not None and not state.is_stopping:
        times.append(state.leave_at if state.is_leaving else state.notice_at)
    return min(times, default=inf)
