"""A runner's state, the events that change it and the effects it can have. Values only."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from torc.api.runs import (
    ActionAssignment,
    ActionFinished,
    Assignment,
    Exchange,
    ExchangeReply,
    Finished,
    JobAttempt,
    Outcome,
    Reason,
    Started,
    Usage,
)
from torc.runner.outputs import Look
from torc.workflow.resources import Capacity, Pool


class PendingReports(NamedTuple):
    """Reports that must survive while the store does not answer."""

    finished: tuple[Finished, ...]
    actions_finished: tuple[ActionFinished, ...] = ()


# -- events -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replied:
    """The store answered. `is_gone`: the workflow no longer exists there."""

    reply: ExchangeReply
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The store did not answer; `sent` must be sent again. `for_good`: the store is lost and will not come back."""

    sent: Exchange
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class Launched:
    job_id: int
    started_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class NotLaunched:
    job_id: int
    at: float
    why: str


@dataclass(frozen=True, slots=True)
class NoRoom:
    """An attempt could not be started because this node has run out of something: disk, processes, memory."""

    job_id: int
    why: str


@dataclass(frozen=True, slots=True)
class LogTails:
    """The last lines of an attempt's output, and the number of the first of these lines in each file."""

    stderr: str | None = None
    stderr_line: int | None = None
    stdout: str | None = None
    stdout_line: int | None = None


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The OOM killer killed some of an attempt: at the attempt's limit, or (None) because the node was out of memory."""

    peak_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class Exited:
    job_id: int
    return_code: int
    at: float  # seconds since the epoch
    wall_seconds: float
    usage: Usage
    missing: tuple[str, ...] = ()  # declared outputs that do not exist
    tails: LogTails = LogTails()
    recovery_failed: bool = False
    slurm_state: str | None = None
    reason: Reason | None = None  # set by a cluster or the kernel
    detail: str | None = None
    out_of_memory: OutOfMemory | None = None
    old: tuple[str, ...] = ()  # declared outputs that have not changed since it started
    before: Mapping[str, Look] = field(default_factory=dict)  # their state at that time
    is_doubtful: bool = (
        False  # its spawner is gone: counts only if this runner was not given up and its work not taken over
    )


@dataclass(frozen=True, slots=True)
class AttemptOver:
    """The process of an attempt has ended; the result follows later as `Exited`."""

    job_id: int


@dataclass(frozen=True, slots=True)
class ActionExited:
    """The commands of an action have ended."""

    firing_id: int
    return_code: int
    detail: str | None = None
    is_doubtful: bool = False  # as in `Exited`


@dataclass(frozen=True, slots=True)
class ActionNotStarted:
    """The command of an action was to start and did not: the store must assign the action again."""

    firing_id: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An attempt queued behind another was stopped before it started."""

    job_id: int


@dataclass(frozen=True, slots=True)
class SpawnerDied:
    """Spawners died, noticed together, and with them these attempts: their ends follow, marked as doubtful."""

    how: str
    job_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MemoryExceeded:
    """An attempt used more memory than it requested."""

    job_id: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline may have passed."""


@dataclass(frozen=True, slots=True)
class Slept:
    """The machine was suspended for this long, during which the monotonic clock stood still."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Warned:
    """The allocation ends soon: the runner must leave by `leave_at` on the monotonic clock, if not earlier."""

    leave_at: float


@dataclass(frozen=True, slots=True)
class Stop:
    """The runner is asked to stop, gracefully or at once."""

    at_once: bool = False


Event = (
    Replied
    | Unreachable
    | Launched
    | NotLaunched
    | NoRoom
    | Withdrawn
    | AttemptOver
    | Exited
    | ActionExited
    | ActionNotStarted
    | MemoryExceeded
    | SpawnerDied
    | Tick
    | Slept
    | Warned
    | Stop
)

# -- effects ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Start an attempt on these GPUs, or when the attempt of job `after` ends, if given."""

    assignment: Assignment
    gpus: tuple[str, ...]
    after: int | None = None
    nodes: tuple[int, ...] = ()  # node numbers in a pool


@dataclass(frozen=True, slots=True)
class Kill:
    """Signal an attempt: SIGTERM, or SIGKILL if `for_good`."""

    job_id: int
    for_good: bool


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Stop an attempt that is queued behind another, if it has not started."""

    job_id: int


@dataclass(frozen=True, slots=True)
class RunAction:
    """Run the commands of an action."""

    action: ActionAssignment


@dataclass(frozen=True, slots=True)
class KillAction:
    """End the commands of an action: SIGTERM, or SIGKILL if `for_good`."""

    firing_id: int
    for_good: bool


@dataclass(frozen=True, slots=True)
class Keep:
    """Write reports to the journal because the store does not answer."""

    reports: PendingReports


@dataclass(frozen=True, slots=True)
class Send:
    """Send an exchange to the store."""

    request: Exchange


@dataclass(frozen=True, slots=True)
class Leave:
    """Exit: nothing is left to do here."""


Effect = StartAttempt | Kill | Withdraw | RunAction | KillAction | Keep | Send | Leave

# -- state ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReactorSettings:
    """The settings of a runner."""

    workflow_id: int
    runner_id: int
    total: Capacity | Pool
    gpus: tuple[str, ...] = ()  # as CUDA_VISIBLE_DEVICES names them
    max_parallel_jobs: int | None = None  # resources are then ignored, except in a pool
    fail_fast: bool = False
    grace_seconds: float = 10.0
    leave_at: float | None = None  # on the monotonic clock
    wait_seconds: float = 0.0  # how long the store may keep an exchange waiting
    heartbeat_seconds: float = 15.0
    linger_seconds: float = 0.0  # how long to wait for more work when nothing is left
    stays: bool = False  # until its time is over, even if nothing is left
    min_seconds: float = 0.0  # requests no more work when less time than this is left
    idle_seconds: float = inf  # leaves an allocation in which nothing has run for this long, even if work may come
    lines_up: bool = True  # short jobs may start directly when others end
    unreachable_seconds: float = inf  # leaves when the store has been unreachable for longer and nothing runs
    workflow_created_at: float | None = None  # with `runner_started_at`, identifies the store even if it was replaced
    runner_started_at: float | None = None
    env: Mapping[str, str] = field(default_factory=dict)  # the workflow's

    @property
    def counts_only(self) -> bool:
        """Return whether jobs are limited only by their number."""
        return self.max_parallel_jobs is not None and not isinstance(self.total, Pool)


@dataclass(slots=True)
class RunningAttempt:
    """An attempt that this runner has started or queued behind another."""

    assignment: Assignment
    gpus: tuple[str, ...]
    begun: float  # on the monotonic clock
    deadline: float
    started_at: float | None = None
    outcome: Outcome | None = None  # set when it is being killed
    reason: Reason | None = None
    detail: str | None = None
    kill_at: float | None = None  # when SIGKILL follows
    nodes: tuple[int, ...] = ()  # node numbers in a pool
    after: int | None = None  # the job that it is queued behind; until its turn it holds no resources
    line: list[int] = field(
        default_factory=list
    )  # jobs queued to start one after another at its end, with its resources


class Trouble(NamedTuple):
    """Why a runner cannot continue, and a hint."""

    why: str
    hint: str


class NotStarted(NamedTuple):
    """An attempt that the store believes to be running, but whose step could not be created."""

    started_at: float  # seconds since the epoch
    why: str


@dataclass(slots=True)
class RunnerState:
    """Everything that decisions depend on. Times are on the monotonic clock."""

    free: Capacity | Pool
    free_gpus: list[str]
    running: dict[int, RunningAttempt] = field(default_factory=dict)
    never_started: dict[int, NotStarted] = field(
        default_factory=dict
    )  # of those in `queue`, that were told to run and did not
    num_lined_up: int = 0  # how many in `running` are queued behind another
    queue: deque[Assignment] = field(default_factory=deque)  # claimed, not started
    actions: dict[int, float | None] = field(default_factory=dict)  # firing id -> when SIGKILL follows
    actions_given: dict[int, ActionAssignment] = field(
        default_factory=dict
    )  # of those, what is not recorded as started
    # -- to be reported
    started: dict[int, Started] = field(default_factory=dict)
    finished: list[Finished] = field(default_factory=list)
    released: list[JobAttempt] = field(default_factory=list)
    actions_started: list[int] = field(default_factory=list)
    actions_finished: list[ActionFinished] = field(default_factory=list)
    oldest_report: float | None = None
    # -- the conversation
    in_flight: Exchange | None = None
    num_exchanges: int = 0
    last_exchange: float | None = None
    lease_ends: float = (
        inf  # the store may give jobs and actions to others afterwards: nothing starts before it answers anew
    )
    not_before: float = 0.0
    retry_at: float = inf  # when the next delayed retry is due
    may_have_missed: bool = False  # a reply that did not arrive may have contained work
    is_starving: bool = True  # the store may have work that was not requested yet
    is_done: bool = False
    is_stuck: bool = False  # ready jobs are left that this node cannot hold, and nothing else is happening anywhere
    is_idle_around: bool = False  # nothing is running in this allocation
    leave_at: float | None = None  # on the monotonic clock
    is_stopping: bool = False
    has_left: bool = False
    notice_at: float = inf  # when jobs are asked to save their work because this runner is leaving
    is_leaving: bool = False  # they have been asked
    is_lost: bool = False
    gave_up: bool = False  # starts nothing more, and leaves with reports that are only in the journal
    unreachable_since: float | None = None
    # -- what it has seen
    mean_seconds: float | None = None  # mean of the wall times seen
    last_end: float = 0.0
    wake_at: float = inf  # a lower bound of all deadlines
    head_since: float | None = None  # since when the first in the queue has been waiting for room
    paused_until: float = 0.0  # nothing starts before this
    num_refusals: int = 0  # consecutive starts that found no room
    trouble: Trouble | None = None  # why this runner cannot continue
    # -- after the death of a spawner: a runner that takes over from one that was given up kills its spawners
    awaits_confirmation: bool = False  # starts nothing until the store confirms that this runner was not given up
    is_asking: bool = False  # the exchange in flight asks that
    doubtful: list[Finished] = field(default_factory=list)  # to be reported once that is confirmed
    doubtful_actions: list[ActionFinished] = field(default_factory=list)
    num_deaths: int = 0  # consecutive deaths of spawners without a process ending normally in between
    num_completed: int = 0
    num_failed: int = 0
