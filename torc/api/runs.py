"""The protocol between runners and the store."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from torc.api.base import LARGE, Page, Request, Value, request
from torc.api.jobs import ClaimedFields
from torc.api.provenance import Surroundings
from torc.api.workflows import Workflow
from torc.planning.scheduler_types import SchedulerName
from torc.workflow.exit_codes import counted
from torc.workflow.resources import ResourceRequest
from torc.workflow.states import State

#: an older runner, or its journal, has a negative number for a signal
ExitCode = Annotated[int, AfterValidator(counted)]

Outcome = Literal["succeeded", "failed", "terminated", "interrupted", "canceled"]
#: why an attempt did not succeed, if the return code does not tell
Reason = Literal[
    "timeout",
    "out_of_memory",
    "missing_output",
    "not_started",  # the process could not be created; `detail` says why
    "runner_stopped",
    "runner_lost",
    "canceled",
    "recovery_failed",
    "parent_killed",  # the process that started it was killed, by a job or a person, and the attempt with it
]
RunnerKind = Literal["local", SchedulerName, "ssh", "worker"]


class NodeCapacity(Value):
    """What a runner has, or has free, for jobs. `runtime_seconds` is its remaining time (None: unlimited)."""

    num_cpus: int = Field(ge=0)
    memory_bytes: int = Field(ge=0)
    num_gpus: int = Field(0, ge=0)
    runtime_seconds: float | None = None
    others: list[NodeCapacity] = Field([], description="the other nodes of a runner that has several")


class Runner(Value):
    """A process that runs attempts on one node."""

    id: int
    workflow_id: int
    run_id: int
    kind: RunnerKind
    host: str
    pid: int
    process_started: str = Field(
        description="identifies the process in addition to its pid: its start in clock ticks since boot"
    )
    boot_id: str
    capacity: NodeCapacity
    is_active: bool
    started_at: float
    ended_at: float | None = None
    end_reason: str | None = None
    lease_expires_at: float
    num_completed: int = 0
    num_failed: int = 0
    labels: dict[str, str] = {}
    allocation_id: int | None = Field(None, description="the cluster allocation that it runs in")
    node: str | None = Field(None, description="the cluster's name for its node")


@request("POST", "/workflows/{workflow_id}/runs", access="run", takes_long=True)
class StartRun(Request[Workflow]):
    """Start a run, or continue the one that was interrupted.

    Jobs of runners whose leases have expired are given up first; interrupted jobs become ready. A finished workflow stays finished
    (reset it first). A new run (run_id + 1) starts if nothing has run since the last reset.
    """

    workflow_id: int


@request("POST", "/workflows/{workflow_id}/runners", access="run")
class RegisterRunner(Request[Runner]):
    """Register a runner; it must then send `Exchange` within its lease."""

    workflow_id: int
    kind: RunnerKind = "local"
    host: str
    pid: int
    process_started: str
    boot_id: str
    capacity: NodeCapacity
    labels: dict[str, str] = {}
    surroundings: Surroundings | None = Field(None, description="where it runs, for provenance")
    allocation_id: int | None = Field(None, description="the cluster allocation that it runs in")
    node: str | None = Field(None, description="the cluster's name for its node")
    job_token_hash: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        repr=False,
        description="SHA-256 of a secret S of 43 characters: while the runner is active, the token `torcjob_ID_S` has the right `job`",
    )


@request("POST", "/workflows/{workflow_id}/runners/{runner_id}/end", access="run")
class EndRunner(Request[Runner]):
    """End a runner.

    Jobs that it still holds are lost: they are retried, or terminated if they were lost too often.
    """

    workflow_id: int
    runner_id: int
    reason: str = Field("finished", description="finished, stopped, died, lease ended ...")


@request("GET", "/workflows/{workflow_id}/runners")
class ListRunners(Request[Page[Runner]]):
    """List the runners of a workflow, newest first."""

    workflow_id: int
    active_only: bool = False
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/runners/{runner_id}")
class GetRunner(Request[Runner]):
    """Get one runner."""

    runner_id: int


class Usage(Value):
    """What an attempt used, according to the kernel's accounting of the process and the children that it waited for."""

    user_cpu_seconds: float = 0.0
    system_cpu_seconds: float = 0.0
    peak_memory_bytes: int = Field(
        0, description="maximum of: the largest single process (rusage), the sampled tree, the cgroup"
    )
    read_bytes: int | None = None
    written_bytes: int | None = None
    average_memory_bytes: int | None = Field(None, description="mean of the samples of the whole tree")
    max_processes: int | None = None
    peak_memory_with_cache_bytes: int | None = Field(
        None, description="of the attempt's control group, if it had one: includes the page cache"
    )
    memory_limit_bytes: int | None = Field(None, description="memory limit enforced by the kernel, if any")
    oom_kills: int | None = Field(None, description="number of its processes that the OOM killer killed")
    average_gpus_busy: float | None = Field(None, description="of those assigned to it; 0.5: one GPU, half of the time")
    peak_gpu_memory_bytes: int | None = Field(None, description="in use on the GPUs assigned to it")


class Assignment(ClaimedFields, Value):
    """An attempt for the runner to run."""

    job_id: int
    name: str
    attempt: int
    request: ResourceRequest
    env: dict[str, str] = Field({}, description="the job's own; the workflow's is in RunnerSettings")
    outputs: list[str] = Field(
        [], description="paths that must exist after success, relative to the workflow's directory"
    )
    inputs: list[str] = Field(
        [],
        description="up to a hundred paths written by other jobs; sent to runners in allocations, because a shared file "
        "system may show them late",
    )
    recovery_script: str | None = Field(
        None, description="to run first, if this attempt is a retry by a rule that has one"
    )
    previous_return_code: int | None = None
    user_data_hash: str | None = Field(None, description="hash of the current user data that it reads")


class ActionAssignment(Value):
    """An action for the runner to run, after it has reported it as started and received the reply, and then to report."""

    action_id: int
    firing_id: int
    trigger_type: str
    commands: list[str]
    key: str = Field(
        "", description="the same for every run of these commands for this occasion, and different for any other"
    )


class JobAttempt(Value):
    """Identifies an attempt."""

    job_id: int
    attempt: int


class Started(Value):
    """An attempt started."""

    job_id: int
    attempt: int
    started_at: float


class Finished(Value):
    """An attempt ended. `return_code` is 128 + the signal number for a signal, None if nothing was started."""

    job_id: int
    attempt: int
    outcome: Outcome
    return_code: ExitCode | None
    started_at: float | None
    ended_at: float
    wall_seconds: float = Field(
        description="by the monotonic clock, so it is correct even if the wall clock was changed"
    )
    usage: Usage = Usage()
    reason: Reason | None = None
    detail: str | None = Field(
        None, description="a description in one line: which outputs are missing, which limit was hit"
    )
    stderr_tail: str | None = Field(None, description="last lines of stderr of an unsuccessful attempt, at most 4 KiB")
    stderr_line: int | None = Field(None, description="line number of the first of these lines, from 1")
    stdout_tail: str | None = Field(None, description="likewise for stdout, if it is a separate file")
    stdout_line: int | None = None
    slurm_state: str | None = Field(None, description="Slurm's state of its step, such as OUT_OF_MEMORY")
    fingerprint: str | None = Field(
        None,
        max_length=1000,
        description="of what ran: a late result of a job that has been edited since does not count; absent: unknown",
    )


class ActionFinished(Value):
    """How an action ended."""

    firing_id: int
    return_code: ExitCode
    detail: str | None = None


class GivenUp(Value):
    """A runner that was given up and whose processes may still be alive on this runner's machine."""

    runner_id: int
    pid: int
    process_started: str


class ExchangeReply(Value):
    """What the runner must do next."""

    assignments: list[Assignment] = []
    cancel: list[JobAttempt] = Field([], description="attempts to stop that this runner holds or has lost")
    actions: list[ActionAssignment] = []
    done: bool = Field(description="no work is left for any runner, now or later")
    waiting: int = Field(
        0, description="ready jobs not assigned to this runner (too large, or limit reached), if known"
    )
    stuck: bool = Field(
        False,
        description="ready jobs are left, none fits this runner, and nothing is running or due anywhere",
    )
    due_seconds: float | None = Field(None, description="until the next delayed retry may start; absent: there is none")
    idle_around: bool = Field(
        False, description="no job is running in this runner's allocation; set only if nothing is assigned"
    )
    lease_seconds: float
    given_up: list[GivenUp] = Field(
        [],
        description="earlier runners of the assigned work that may still be alive on this machine; to be ended before it starts",
    )
    runner_is_lost: bool = Field(False, description="the lease had expired: stop everything and register again")


@request("POST", "/workflows/{workflow_id}/runners/{runner_id}/exchange", access="run", largest_body=LARGE)
class Exchange(Request[ExchangeReply]):
    """The whole communication of a runner, in one transaction: report, unblock, claim, renew the lease.

    Repeating a report is harmless: each (job, attempt) is applied once. A report for an older attempt is recorded but changes
    nothing.
    """

    workflow_id: int
    runner_id: int
    started: list[Started] = []
    finished: list[Finished] = []
    released: list[JobAttempt] = Field([], description="claimed jobs that were never started and are given back")
    actions_finished: list[ActionFinished] = []
    held: list[JobAttempt] | None = Field(
        None,
        description="after a lost reply: all attempts that this runner holds; anything else assigned to it runs again",
    )
    actions_started: list[int] = Field(
        [], description="firings whose commands this runner will start after the reply: recorded before anything runs"
    )
    held_actions: list[int] = Field([], description="with `held`: the firings that it is running")
    number: int = Field(
        0,
        ge=0,
        le=2**53,
        description="sequence number of a runner's exchanges, from 1; one overtaken by a later one changes nothing; 0: unnumbered",
    )
    asked_again: bool = Field(False, description="the same exchange, repeated by the server while it waits for work")
    free: NodeCapacity = Field(
        description="capacity for jobs to claim now, without what claimed but unstarted jobs will use"
    )
    limit: int = Field(0, ge=0, le=10_000, description="at most this many assignments")
    ignore_resources: bool = Field(False, description="--max-parallel-jobs: limit jobs by number only")
    claim_ahead: int = Field(
        0,
        ge=0,
        le=10_000,
        description="after filling `free`, assign this many more jobs that fit the whole node, to start as others end",
    )
    total: NodeCapacity | None = Field(
        None, description="the whole node, for claim_ahead and for finding what can never fit"
    )
    stopping: bool = Field(False, description="the runner is leaving: only reports, no new work")
    wait_seconds: float = Field(0.0, ge=0.0, le=60.0, description="wait up to this long for work if there is none")
    workflow_created_at: float | None = Field(
        None, description="of the intended workflow: a replaced store may have another workflow with this id"
    )
    runner_started_at: float | None = Field(None, description="likewise for the runner")


class Delivered(Value):
    """How many late results were accepted."""

    num_counted: int = Field(description="changed the states of their jobs")
    num_recorded: int = Field(description="already known, or of jobs that had moved on")
    num_outdated: int = Field(
        0, description="of these, results of jobs that have changed since (store restored, or job edited)"
    )


@request("POST", "/workflows/{workflow_id}/late-results", access="run")
class DeliverResults(Request[Delivered]):
    """Deliver what a runner could not report before it ended, from the journal that it left.

    May be repeated: each (job, attempt) counts once. A result counts if no other attempt has started, even in a store that was
    restored from a backup without the attempt, as long as the job is still what ran: same command, environment and user data. It
    does not count if the store has lost user data that the attempt wrote.
    """

    workflow_id: int
    runner_id: int
    workflow_created_at: float | None = Field(None, description="of the intended workflow")
    runner_started_at: float | None = Field(None, description="of the runner that ran the attempts")
    finished: list[Finished] = []
    actions_finished: list[ActionFinished] = []


class RunnerSettings(Value):
    """What a runner needs to know about a workflow once."""

    workflow_id: int
    workflow_name: str
    run_id: int
    directory: str
    env: dict[str, str]
    settings: dict[str, Any]


@request("GET", "/workflows/{workflow_id}/runner-settings")
class GetRunnerSettings(Request[RunnerSettings]):
    """Get what a runner needs to know about a workflow."""

    workflow_id: int


class Result(Value):
    """How an attempt ended, and what it used."""

    id: int
    workflow_id: int
    job_id: int
    job_name: str
    run_id: int
    attempt: int
    runner_id: int | None
    state: State = Field(description="how the attempt ended: completed, failed, terminated or canceled")
    return_code: int | None
    reason: str | None
    detail: str | None
    started_at: float | None
    ended_at: float
    wall_seconds: float
    usage: Usage
    stderr_tail: str | None = None
    stderr_line: int | None = Field(None, description="line number of the first of these lines, from 1")
    stdout_tail: str | None = None
    stdout_line: int | None = None
    slurm_state: str | None = Field(None, description="the cluster's state of its step or allocation")
    is_current: bool = Field(description="false if the job had moved on (late report of a lost runner)")


@request("GET", "/workflows/{workflow_id}/results")
class ListResults(Request[Page[Result]]):
    """List results of a workflow, oldest first."""

    workflow_id: int
    run_id: int | None = None
    job_id: int | None = None
    state: State | None = None
    failed_only: bool = False
    latest_only: bool = Field(False, description="only the last attempt of each job, in the given run if any")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/results/{result_id}")
class GetResult(Request[Result]):
    """Get one result."""

    result_id: int


class RunSummary(Value):
    """A summary of a run."""

    workflow: Workflow
    wall_seconds: float | None = Field(description="from the start of the run to its end or to now")
    cpu_seconds: float
    peak_memory_bytes: int
    num_attempts: int
    num_retries: int
    failed: list[Result] = Field(
        description="last attempts of unsuccessful jobs, the first `limit` in the order in which they ended"
    )
    num_failed: int
    blocked_by: dict[str, int] = Field(
        {}, description="number of unfinished jobs blocked by each of these, largest first"
    )


@request("GET", "/workflows/{workflow_id}/summary")
class SummarizeRun(Request[RunSummary]):
    """Summarize the current run of a workflow."""

    workflow_id: int
    limit: int = Field(10, ge=0, le=1000)
