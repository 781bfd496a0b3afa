"""Which actions are triggered, each exactly once: once per run, or once for each worker of a run.

Exactly-once delivery relies on the key (action, run, occasion): a firing whose key already exists is not stored again. Running
actions is done elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from torc.workflow.states import State


class Trigger(StrEnum):
    WORKFLOW_START = "on_workflow_start"
    WORKFLOW_COMPLETE = "on_workflow_complete"
    JOBS_READY = "on_jobs_ready"  # all its jobs have been ready at some point in this run
    JOBS_COMPLETE = "on_jobs_complete"  # all its jobs have finished in this run, successfully or not
    WORKER_START = "on_worker_start"
    WORKER_COMPLETE = "on_worker_complete"


OF_WORKERS = frozenset({Trigger.WORKER_START, Trigger.WORKER_COMPLETE})
_NOT_YET_READY = frozenset({State.UNINITIALIZED, State.BLOCKED})


def occasion(trigger: Trigger, runner_id: int | None = None) -> str:
    """Return what distinguishes the firings of an action in one run: the worker, or nothing."""
    return f"runner:{runner_id}" if trigger in OF_WORKERS else ""


def has_reached(trigger: Trigger, state: State, *, counted: bool) -> bool:
    """Return whether a job in this state satisfies the condition of an action that lists it.

    `counted`: it is counted off its gates, so it has finished; an interrupted job has not. A job that finished without ever being
    ready (canceled, disabled) is not waited for: otherwise the action would never fire.
    """
    if trigger is Trigger.JOBS_READY:
        return state not in _NOT_YET_READY
    return trigger is Trigger.JOBS_COMPLETE and counted


@dataclass(frozen=True, slots=True)
class WaitingAction:
    trigger: Trigger
    jobs: frozenset[int]


@dataclass(frozen=True, slots=True)
class ActionProgress:
    """Which jobs of each action have met its condition in this run, and which actions have fired.

    A condition once met stays met: a job that is retried was already ready, and triggers nothing again.
    """

    reached: tuple[frozenset[int], ...]
    fired: frozenset[int] = frozenset()


def begin(watches: Sequence[WaitingAction]) -> ActionProgress:
    """Return the progress at the start of a run."""
    return ActionProgress(tuple(frozenset() for _ in watches))


def advance(
    watches: Sequence[WaitingAction], progress: ActionProgress, moved: Collection[tuple[int, State, bool]]
) -> tuple[ActionProgress, tuple[int, ...]]:
    """Apply moves of jobs (job, new state, counted); return the new progress and the actions to fire."""
    reached, due = list(progress.reached), list[int]()
    for index, watch in enumerate(watches):
        reached[index] = reached[index] | _come_far(watch, moved)
        if index not in progress.fired and len(reached[index]) == len(watch.jobs) > 0:
            due.append(index)
    return ActionProgress(tuple(reached), progress.fired | frozenset(due)), tuple(due)


def _come_far(watch: WaitingAction, moved: Iterable[tuple[int, State, bool]]) -> frozenset[int]:
    return frozenset(
        job for job, state, counted in moved if job in watch.jobs and has_reached(watch.trigger, state, counted=counted)
    )
