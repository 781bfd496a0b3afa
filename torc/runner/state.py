"""What a runner knows, what can happen to it, and what it can be told to do. Values only."""

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
    """What must not be lost while the store does not answer."""

    finished: tuple[Finished, ...]
    actions_finished: tuple[ActionFinished, ...] = ()


# -- what can happen --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replied:
    """The store answered. `is_gone`: it does not have this workflow any more."""

    reply: ExchangeReply
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The store did not answer; what was sent is to be sent again. `for_good`: it is lost, and will not answer any more."""

    sent: Exchange
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class Launched:
    """An attempt is running."""

    job_id: int
    started_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class NotLaunched:
    """An attempt could not be started."""

    job_id: int
    at: float
    why: str


@dataclass(frozen=True, slots=True)
class NoRoom:
    """An attempt could not be started because this node has none of something left: disk, processes, memory."""

    job_id: int
    why: str


@dataclass(frozen=True, slots=True)
class LogTails:
    """The ends of what an attempt wrote, and the number of the first line of each in its file."""

    stderr: str | None = None
    stderr_line: int | None = None
    stdout: str | None = None
    stdout_line: int | None = None


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The kernel killed something of an attempt for want of memory: at the limit of the attempt, or (None) of the node."""

    peak_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class Exited:
    """An attempt ended."""

    job_id: int
    return_code: int
    at: float  # seconds since the epoch
    wall_seconds: float
    usage: Usage
    missing: tuple[str, ...] = ()  # declared outputs that are not there
    tails: LogTails = LogTails()
    recovery_failed: bool = False
    slurm_state: str | None = None
    reason: Reason | None = None  # what a cluster or the kernel did to it
    detail: str | None = None
    out_of_memory: OutOfMemory | None = None
    old: tuple[str, ...] = ()  # declared outputs that are as they were before it started
    before: Mapping[str, Look] = field(default_factory=dict)  # how declared outputs looked then
    is_doubtful: bool = False  # its spawner is gone: it counts if this runner was not given up, and its work taken over


@dataclass(frozen=True, slots=True)
class AttemptOver:
    """The process of an attempt has ended; how it went is told by `Exited`, later."""

    job_id: int


@dataclass(frozen=True, slots=True)
class ActionExited:
    """The commands of an action ended."""

    firing_id: int
    return_code: int
    detail: str | None = None
    is_doubtful: bool = False  # as of an attempt


@dataclass(frozen=True, slots=True)
class ActionNotBegun:
    """The command of an action was to begin, and did not: the store is to give the action again."""

    firing_id: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An attempt that waited for the end of another was stopped before it began."""

    job_id: int


@dataclass(frozen=True, slots=True)
class SpawnerDied:
    """Processes that start others are gone, seen at once, and these attempts end with them: that is told after this, as doubtful."""

    how: str
    job_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MemoryExceeded:
    """An attempt was seen to use more memory than it asked for."""

    job_id: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Some time passed."""


@dataclass(frozen=True, slots=True)
class Slept:
    """The machine was suspended for so long; the monotonic clock stood still meanwhile."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Warned:
    """What this runner lives in ends soon: it has to leave by then, on the monotonic clock, if not earlier."""

    leave_at: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants the runner to stop: kindly, or at once."""

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
    | ActionNotBegun
    | MemoryExceeded
    | SpawnerDied
    | Tick
    | Slept
    | Warned
    | Stop
)

# -- what the loop is told to do --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Start an attempt on these GPUs, at the end of that of another job, where one is named."""

    assignment: Assignment
    gpus: tuple[str, ...]
    after: int | None = None
    nodes: tuple[int, ...] = ()  # of a pool


@dataclass(frozen=True, slots=True)
class Kill:
    """Signal an attempt: kindly first (SIGTERM), or for good (SIGKILL)."""

    job_id: int
    for_good: bool


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Stop an attempt that waits for the end of another, if it has not begun."""

    job_id: int


@dataclass(frozen=True, slots=True)
class RunAction:
    """Carry out the commands of an action."""

    action: ActionAssignment


@dataclass(frozen=True, slots=True)
class KillAction:
    """End the commands of an action: kindly first, or for good."""

    firing_id: int
    for_good: bool


@dataclass(frozen=True, slots=True)
class Keep:
    """Write reports to the journal: the store does not answer."""

    reports: PendingReports


@dataclass(frozen=True, slots=True)
class Send:
    """Exchange with the store."""

    request: Exchange


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is left to do here."""


Effect = StartAttempt | Kill | Withdraw | RunAction | KillAction | Keep | Send | Leave

# -- what is known ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReactorSettings:
    """How a runner works."""

    workflow_id: int
    runner_id: int
    total: Capacity | Pool
    gpus: tuple[str, ...] = ()  # as CUDA_VISIBLE_DEVICES names them
    max_parallel_jobs: int | None = None  # resources are ignored then, but in a pool
    fail_fast: bool = False
    grace_seconds: float = 10.0
    leave_at: float | None = None  # on the monotonic clock
    wait_seconds: float = 0.0  # how long the store may keep an exchange waiting
    heartbeat_seconds: float = 15.0
    lingers_seconds: float = 0.0  # waits so long for more work when nothing is left
    stays: bool = False  # until its time is over, though nothing is left
    min_seconds: float = 0.0  # asks for no more work when less of its time is left
    idle_seconds: float = inf  # leaves an allocation in which nothing has run for so long, though work may come
    lines_up: bool = True  # short jobs may begin at the very end of others
    unreachable_seconds: float = inf  # leaves when the store has been away for longer, and nothing runs
    workflow_created_at: float | None = None  # these two tell a store that was replaced from the one that was
    runner_started_at: float | None = None
    env: Mapping[str, str] = field(default_factory=dict)  # of the workflow

    @property
    def counts_only(self) -> bool:
        """Return whether jobs are taken by number alone."""
        return self.max_parallel_jobs is not None and not isinstance(self.total, Pool)


@dataclass(slots=True)
class RunningAttempt:
    """An attempt in the hands of this runner."""

    assignment: Assignment
    gpus: tuple[str, ...]
    begun: float  # on the monotonic clock
    deadline: float
    started_at: float | None = None
    outcome: Outcome | None = None  # set when it is being killed
    reason: Reason | None = None
    detail: str | None = None
    kill_at: float | None = None  # when SIGKILL follows
    nodes: tuple[int, ...] = ()  # of a pool
    after: int | None = None  # the job in whose line it stands; it holds no resources of its own before it is its turn
    line: list[int] = field(default_factory=list)  # jobs that begin at its end, one after the other, with its resources


class Trouble(NamedTuple):
    """Why a runner cannot go on, and what to do about it."""

    why: str
    hint: str


class NotBegun(NamedTuple):
    """An attempt that the store takes for running: its step was asked for, and did not come to be."""

    started_at: float  # seconds since the epoch
    why: str


@dataclass(slots=True)
class RunnerState:
    """Everything that the decisions depend on. Times are on the monotonic clock."""

    free: Capacity | Pool
    free_gpus: list[str]
    running: dict[int, RunningAttempt] = field(default_factory=dict)
    not_begun: dict[int, NotBegun] = field(
        default_factory=dict
    )  # of those in `queue`, that were told to run and did not
    num_lined_up: int = 0  # of those in `running`, which wait for the end of another
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
    retry_at: float = inf  # when the next retry that has to wait is due
    may_have_missed: bool = False  # what was in an answer that did not arrive
    is_starving: bool = True  # the store may have work that was not asked for yet
    is_done: bool = False
    is_stuck: bool = False  # ready jobs are left that this node cannot hold, and nothing else happens anywhere
    is_idle_around: bool = False  # nothing runs in this allocation
    leave_at: float | None = None  # on the monotonic clock
    is_stopping: bool = False
    has_left: bool = False
    notice_at: float = inf  # when jobs are asked to save their work because this runner leaves
    is_leaving: bool = False  # they have been asked
    is_lost: bool = False
    gave_up: bool = False  # starts nothing more, and leaves with reports that only the journal has
    unreachable_since: float | None = None
    # -- what it has seen
    mean_seconds: float | None = None  # of the wall times seen
    last_end: float = 0.0
    wake_at: float = inf  # no deadline is earlier
    head_since: float | None = None  # since when the first of the queue waits for room
    paused_until: float = 0.0  # nothing starts before
    num_refusals: int = 0  # starts that found no room, one after the other
    trouble: Trouble | None = None  # why this runner cannot go on
    # -- after the death of a spawner: whoever takes over from a runner that was given up kills its spawners
    is_unsure: bool = False  # starts nothing before the store has said that this runner was not
    is_asking: bool = False  # what is in flight asks that
    doubtful: list[Finished] = field(default_factory=list)  # to be reported when it was not
    doubtful_actions: list[ActionFinished] = field(default_factory=list)
    num_deaths: int = 0  # of spawners, one after the other, without a process that ended by itself between
    num_completed: int = 0
    num_failed: int = 0
