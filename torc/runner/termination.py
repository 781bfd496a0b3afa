"""How attempts are ended: at their limits, when their runner leaves or is stopped, or when canceled. Part of the reactor.

Jobs that can save their work (`supports_termination`) get SIGTERM one grace period before their limit or the end of their
runner's time, so that the limit itself holds; the next run continues them. Others get SIGTERM at their limit.
"""

from __future__ import annotations

from collections import deque

from torc.api.runs import Assignment, JobAttempt, Outcome, Reason
from torc.runner import exchange_policy, outcomes
from torc.runner.exchange_policy import schedule_report
from torc.runner.state import Effect, Kill, KillAction, ReactorSettings, RunnerState, RunningAttempt
from torc.units import human_duration


def notice(assignment: Assignment, settings: ReactorSettings) -> float:
    """Return how many seconds before its limit a job is asked to save its work: at most half of its time."""
    if not assignment.supports_termination:
        return 0.0
    return min(settings.grace_seconds, assignment.request.runtime_seconds / 2)


def time_of(assignment: Assignment, settings: ReactorSettings) -> float:
    """Return how many seconds a job has before it is asked to end."""
    return assignment.request.runtime_seconds - notice(assignment, settings)


def notice_at(settings: ReactorSettings, leave_at: float, now: float) -> float:
    """Return when jobs are asked to save their work because their runner is leaving: at the earliest at half of its time."""
    return max(leave_at - settings.grace_seconds, now + max(0.0, leave_at - now) / 2)


def give_notice(state: RunnerState, settings: ReactorSettings, now: float) -> list[Effect]:
    """Ask jobs that can save their work to do so before this runner leaves. The others may still finish."""
    if state.leave_at is None or state.is_leaving or state.is_stopping or now < state.notice_at:
        return []
    state.is_leaving = True
    effects: list[Effect] = []
    for job_id, job in state.running.items():
        if job.outcome is None and job.assignment.supports_termination and job.after is None:
            mark_for_kill(
                job, "interrupted", "runner_stopped", "was asked to save its work: its runner is running out of time"
            )
            effects.append(_ask(state, job_id, job, max(now, state.leave_at)))
    return effects


def end_at_limit(state: RunnerState, settings: ReactorSettings, job_id: int, job: RunningAttempt, now: float) -> Kill:
    """End a job that has reached its limit; one that can save its work will be continued."""
    limit = human_duration(job.assignment.request.runtime_seconds)
    if job.assignment.supports_termination:
        mark_for_kill(job, "interrupted", "timeout", f"was asked to save its work before its limit of {limit}")
        return _ask(state, job_id, job, now + notice(job.assignment, settings))
    mark_for_kill(job, "terminated", "timeout", f"ran longer than its limit of {limit}")
    return end_kindly(state, settings, job_id, job, now)


def mark_for_kill(job: RunningAttempt, outcome: Outcome, reason: Reason, detail: str | None = None) -> None:
    """Record the outcome that an attempt will have."""
    job.outcome, job.reason, job.detail = outcome, reason, detail


def end_kindly(state: RunnerState, settings: ReactorSettings, job_id: int, job: RunningAttempt, now: float) -> Kill:
    """Ask an attempt to end; SIGKILL follows after the grace period."""
    return _ask(state, job_id, job, now + settings.grace_seconds)


def _ask(state: RunnerState, job_id: int, job: RunningAttempt, kill_at: float) -> Kill:
    job.kill_at = kill_at
    state.wake_at = min(state.wake_at, kill_at)
    return Kill(job_id, for_good=False)


def too_large(state: RunnerState, job_id: int, peak_bytes: int) -> list[Effect]:
    """Kill an attempt that uses more memory than it requested."""
    job = state.running.get(job_id)
    if job is None or job.outcome is not None:
        return []
    mark_for_kill(job, "terminated", "out_of_memory", outcomes.over(peak_bytes, job.assignment.request.memory_bytes))
    return [Kill(job_id, for_good=True)]


def stop(state: RunnerState, settings: ReactorSettings, now: float, *, at_once: bool) -> list[Effect]:
    """Release claimed jobs and end running ones, gracefully if they can save their work."""
    state.is_stopping = True
    exchange_policy.release(state, state.queue, now)
    state.queue.clear()
    effects: list[Effect] = []
    for job_id, job in state.running.items():
        if job.outcome is None:
            mark_for_kill(job, "interrupted", "runner_stopped")
            if at_once or not job.assignment.supports_termination:
                effects.append(Kill(job_id, for_good=True))
            else:
                effects.append(end_kindly(state, settings, job_id, job, now))
        elif at_once and job.kill_at is not None:
            job.kill_at = None
            effects.append(Kill(job_id, for_good=True))
    exchange_policy.drop_given(state)
    for firing_id in state.actions:
        state.actions[firing_id] = None if at_once else now + settings.grace_seconds
        state.wake_at = min(state.wake_at, now + settings.grace_seconds)
        effects.append(KillAction(firing_id, for_good=at_once))
    return effects


def cancel(state: RunnerState, item: JobAttempt, settings: ReactorSettings, now: float) -> list[Effect]:
    """Stop an attempt that the store canceled, or release it if it was never started."""
    job = state.running.get(item.job_id)
    if job is not None and job.assignment.attempt == item.attempt:
        if job.outcome is not None:
            return []
        mark_for_kill(job, "canceled", "canceled")
        return [end_kindly(state, settings, item.job_id, job, now)]
    if all(done.job_id != item.job_id for done in state.finished):
        state.queue = deque(queued for queued in state.queue if queued.job_id != item.job_id)
        state.released.append(item)
        schedule_report(state, now)
    return []
