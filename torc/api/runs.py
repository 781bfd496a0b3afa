"""What a runner and the store say to each other."""

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

#: an older runner, or a journal of one, has a negative number for a signal
ExitCode = Annotated[int, AfterValidator(counted)]

Outcome = Literal["succeeded", "failed", "terminated", "interrupted", "canceled"]
#: why an attempt did not succeed, where the return code does not say it
Reason = Literal[
    "timeout",
    "out_of_memory",
    "missing_output",
    "not_started",  # the process could not be made; `detail` says why
    "runner_stopped",
    "runner_lost",
    "canceled",
    "recovery_failed",
    "parent_killed",  # the process that had started it was killed, by a job or by somebody, and it with that
]
RunnerKind = Literal["local", SchedulerName, "ssh", "worker"]


class NodeCapacity(Value):
    """What a runner has, or has free, to give to jobs. `runtime_seconds` is its time left (None: unlimited)."""

    num_cpus: int = Field(ge=0)
    memory_bytes: int = Field(ge=0)
    num_gpus: int = Field(0, ge=0)
    runtime_seconds: float | None = None
    others: list[NodeCapacity] = Field([], description="the further nodes of a runner that has several")


class Runner(Value):
    """A process that runs attempts on one node."""

    id: int
    workflow_id: int
    run_id: int
    kind: RunnerKind
    host: str
    pid: int
    process_started: str = Field(
        description="identity of the process beyond its pid: its start in clock ticks since boot"
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
    allocation_id: int | None = Field(None, description="the allocation of a cluster that it lives in")
    node: str | None = Field(None, description="as the cluster names it")


@request("POST", "/workflows/{workflow_id}/runs", access="run", takes_long=True)
class StartRun(Request[Workflow]):
    """Begin a run, or go on with the one that was interrupted.

    Jobs of runners whose lease ended are given up first; interrupted jobs become ready. A workflow that is finished
    stays as it is (reset it first). A new run (run_id + 1) begins when nothing has run since the last reset.
    """

    workflow_id: int


@request("POST", "/workflows/{workflow_id}/runners", access="run")
class RegisterRunner(Request[Runner]):
    """Make a runner known; it must then `Exchange` within its lease."""

    workflow_id: int
    kind: RunnerKind = "local"
    host: str
    pid: int
    process_started: str
    boot_id: str
    capacity: NodeCapacity
    labels: dict[str, str] = {}
    surroundings: Surroundings | None = Field(None, description="where it runs, for the record")
    allocation_id: int | None = Field(None, description="the allocation of a cluster that it lives in")
    node: str | None = Field(None, description="as the cluster names it")
    job_token_hash: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        repr=False,
        description="SHA-256 of a secret S of 43 characters: while the runner lives, the token `torcjob_ID_S` carries `job`",
    )


@request("POST", "/workflows/{workflow_id}/runners/{runner_id}/end", access="run")
class EndRunner(Request[Runner]):
    """Take a runner off.

    Jobs that it still holds are lost to it: retried, or terminated when that happened too often.
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
    """What an attempt used, from the kernel's account of the process and the children that it waited for."""

    user_cpu_seconds: float = 0.0
    system_cpu_seconds: float = 0.0
    peak_memory_bytes: int = Field(
        0, description="largest of: the largest single process (rusage), the sampled tree, the cgroup"
    )
    read_bytes: int | None = None
    written_bytes: int | None = None
    average_memory_bytes: int | None = Field(None, description="mean of the samples of the whole tree")
    max_processes: int | None = None
    peak_memory_with_cache_bytes: int | None = Field(
        None, description="of the attempt's control group, where it had one: files that were read or written count"
    )
    memory_limit_bytes: int | None = Field(None, description="which the kernel kept it within, where it had one")
    oom_kills: int | None = Field(None, description="processes of it that the kernel killed for want of memory")
    average_gpus_busy: float | None = Field(None, description="of those that it was given; 0.5: one, half of the time")
    peak_gpu_memory_bytes: int | None = Field(None, description="in use on the GPUs that it was given")


class Assignment(ClaimedFields, Value):
    """One attempt that the runner has to make."""

    job_id: int
    name: str
    attempt: int
    request: ResourceRequest
    env: dict[str, str] = Field({}, description="the job's own; the workflow's comes with RunnerSettings")
    outputs: list[str] = Field(
        [], description="paths that must exist after success, relative to the workflow's directory"
    )
    inputs: list[str] = Field(
        [],
        description="paths that other jobs have written, a hundred at most: told to runners in allocations, for a shared file "
        "system may show them late",
    )
    recovery_script: str | None = Field(
        None, description="to run first: this attempt is a retry by a rule that has one"
    )
    previous_return_code: int | None = None
    user_data_hash: str | None = Field(None, description="of the user data that it reads, as it is now")


class ActionAssignment(Value):
    """An action that the runner has to carry out, once it has reported it as started and was answered, and to report."""

    action_id: int
    firing_id: int
    trigger_type: str
    commands: list[str]
    key: str = Field(
        "", description="the same whenever these commands are run for this occasion, and never for another"
    )


class JobAttempt(Value):
    """Names an attempt."""

    job_id: int
    attempt: int


class Started(Value):
    """An attempt began."""

    job_id: int
    attempt: int
    started_at: float


class Finished(Value):
    """An attempt ended. `return_code` is 128 + the number of a signal, None when nothing was started."""

    job_id: int
    attempt: int
    outcome: Outcome
    return_code: ExitCode | None
    started_at: float | None
    ended_at: float
    wall_seconds: float = Field(description="by the monotonic clock: right even when the wall clock was set back")
    usage: Usage = Usage()
    reason: Reason | None = None
    detail: str | None = Field(None, description="one line for people: which outputs are missing, which limit was hit")
    stderr_tail: str | None = Field(
        None, description="last lines of stderr of an attempt that did not succeed, <= 4 KiB"
    )
    stderr_line: int | None = Field(None, description="number of the first of these lines in the file, from 1")
    stdout_tail: str | None = Field(None, description="likewise of stdout, where it is a file of its own")
    stdout_line: int | None = None
    slurm_state: str | None = Field(None, description="what Slurm says of the step that it was, such as OUT_OF_MEMORY")
    fingerprint: str | None = Field(
        None,
        max_length=1000,
        description="of what ran: a late result of a job that was edited since does not count; none: not known",
    )


class ActionFinished(Value):
    """How an action went."""

    firing_id: int
    return_code: ExitCode
    detail: str | None = None


class GivenUp(Value):
    """A runner that was given up, and whose processes may live on, on the machine of the one that is told."""

    runner_id: int
    pid: int
    process_started: str


class ExchangeReply(Value):
    """What the runner has to do next."""

    assignments: list[Assignment] = []
    cancel: list[JobAttempt] = Field([], description="held by this runner and to be stopped; attempts it lost included")
    actions: list[ActionAssignment] = []
    done: bool = Field(description="nothing is left that this or any runner could be given, now or later")
    waiting: int = Field(
        0, description="ready jobs that this runner was not given (too large, or limit reached), if known"
    )
    stuck: bool = Field(
        False,
        description="ready jobs are left, this runner could be given none of them, and nothing runs or is due anywhere",
    )
    due_seconds: float | None = Field(
        None, description="until the next retry that has to wait is due; none: no job waits so"
    )
    idle_around: bool = Field(
        False, description="no job runs in the allocation of this runner; told when it is given nothing"
    )
    lease_seconds: float
    given_up: list[GivenUp] = Field(
        [], description="with work that others may have begun: who on this machine may still run it; to be ended before"
    )
    runner_is_lost: bool = Field(False, description="the lease had ended: stop everything, register anew")


@request("POST", "/workflows/{workflow_id}/runners/{runner_id}/exchange", access="run", largest_body=LARGE)
class Exchange(Request[ExchangeReply]):
    """The whole conversation of a runner, in one transaction: report, unblock, claim, renew the lease.

    Repeating a report is harmless: (job, attempt) is applied once. A report for an older attempt is recorded and
    changes nothing.
    """

    workflow_id: int
    runner_id: int
    started: list[Started] = []
    finished: list[Finished] = []
    released: list[JobAttempt] = Field([], description="claimed, never started, given back")
    actions_finished: list[ActionFinished] = []
    held: list[JobAttempt] | None = Field(
        None,
        description="after a lost answer: all that this runner knows to hold; anything else that was given to it runs again",
    )
    actions_started: list[int] = Field(
        [], description="firings whose commands this runner begins when this is answered: recorded before anything runs"
    )
    held_actions: list[int] = Field([], description="with `held`: the firings that it is carrying out")
    number: int = Field(
        0,
        ge=0,
        le=2**53,
        description="counts the exchanges of a runner from 1; one that a later one has overtaken changes nothing; 0: not counted",
    )
    asked_again: bool = Field(False, description="the same exchange once more, by the server, while it waits for work")
    free: NodeCapacity = Field(
        description="for the jobs to claim now; what claimed but unstarted jobs will take is not free"
    )
    limit: int = Field(0, ge=0, le=10_000, description="at most this many assignments")
    ignore_resources: bool = Field(False, description="--max-parallel-jobs: give by number alone")
    claim_ahead: int = Field(
        0,
        ge=0,
        le=10_000,
        description="after filling `free`, give this many more jobs that fit the whole node, to be started as others end",
    )
    total: NodeCapacity | None = Field(
        None, description="the whole node, for claim_ahead and for telling what can never fit"
    )
    stopping: bool = Field(False, description="the runner is leaving: reports only, no new work")
    wait_seconds: float = Field(0.0, ge=0.0, le=60.0, description="wait up to this long for work when there is none")
    workflow_created_at: float | None = Field(
        None, description="of the workflow that is meant: a store that was replaced may have another one of that number"
    )
    runner_started_at: float | None = Field(None, description="likewise of the runner")


class Delivered(Value):
    """What became of results that were delivered late."""

    num_counted: int = Field(description="that moved their jobs")
    num_recorded: int = Field(description="that were known, or whose jobs had moved on")
    num_outdated: int = Field(
        0, description="of these, results of what has changed since: a store was restored, and a job edited"
    )


@request("POST", "/workflows/{workflow_id}/late-results", access="run")
class DeliverResults(Request[Delivered]):
    """Deliver what a runner could not report before it ended, from the file that it left.

    Repeating it is harmless: (job, attempt) counts once. A result counts when nobody has begun another attempt, also in a
    store that was restored from a backup and has forgotten the attempt, as long as the job still is what ran: same
    command, environment and user data. Where the store has lost user data that the attempt wrote, it does not count.
    """

    workflow_id: int
    runner_id: int
    workflow_created_at: float | None = Field(None, description="of the workflow that is meant")
    runner_started_at: float | None = Field(None, description="of the runner that made the attempts")
    finished: list[Finished] = []
    actions_finished: list[ActionFinished] = []


class RunnerSettings(Value):
    """What of a workflow a runner needs to know once."""

    workflow_id: int
    workflow_name: str
    run_id: int
    directory: str
    env: dict[str, str]
    settings: dict[str, Any]


@request("GET", "/workflows/{workflow_id}/runner-settings")
class GetRunnerSettings(Request[RunnerSettings]):
    """Get what a runner needs to know of a workflow."""

    workflow_id: int


class Result(Value):
    """How an attempt ended and what it used."""

    id: int
    workflow_id: int
    job_id: int
    job_name: str
    run_id: int
    attempt: int
    runner_id: int | None
    state: State = Field(description="what the attempt ended as: completed, failed, terminated or canceled")
    return_code: int | None
    reason: str | None
    detail: str | None
    started_at: float | None
    ended_at: float
    wall_seconds: float
    usage: Usage
    stderr_tail: str | None = None
    stderr_line: int | None = Field(None, description="number of the first of these lines in the file, from 1")
    stdout_tail: str | None = None
    stdout_line: int | None = None
    slurm_state: str | None = Field(None, description="what the cluster said of its step or allocation")
    is_current: bool = Field(description="false when the job had moved on (a late report of a lost runner)")


@request("GET", "/workflows/{workflow_id}/results")
class ListResults(Request[Page[Result]]):
    """List results of a workflow, oldest first."""

    workflow_id: int
    run_id: int | None = None
    job_id: int | None = None
    state: State | None = None
    failed_only: bool = False
    latest_only: bool = Field(False, description="only the last attempt of each job, of the run where one is named")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/results/{result_id}")
class GetResult(Request[Result]):
    """Get one result."""

    result_id: int


class RunSummary(Value):
    """How a run went, summed up in the store."""

    workflow: Workflow
    wall_seconds: float | None = Field(description="from the start of the run to its end, or to now")
    cpu_seconds: float
    peak_memory_bytes: int
    num_attempts: int
    num_retries: int
    failed: list[Result] = Field(
        description="last attempts of unsuccessful jobs, the first `limit` in order of their end"
    )
    num_failed: int
    blocked_by: dict[str, int] = Field({}, description="unfinished jobs that wait behind each of these, largest first")


@request("GET", "/workflows/{workflow_id}/summary")
class SummarizeRun(Request[RunSummary]):
    """Sum up the current run of a workflow."""

    workflow_id: int
    limit: int = Field(10, ge=0, le=1000)
