"""Every table. What is static about a job and what moves stand in one row; what is shared stands once.

Prerequisites are kept as gates (distinct sets of prerequisite jobs) and inputs as input sets, so that M jobs before N
jobs cost M + N rows. Times are seconds since the epoch, UTC. States are the values of `torc.workflow.states.State`.
Ids are handed out in blocks (`IdBlock`), so that rows made together have consecutive ids on every database.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, Text, text
from sqlalchemy.ext.compiler import compiles
from sqlmodel import Field, SQLModel

Id = BigInteger().with_variant(Integer, "sqlite")


class Json(JSON):
    """JSON that SQLite keeps to the letter: a column declared JSON has numeric affinity there, and 1.0 becomes 1."""

    cache_ok = True


@compiles(Json, "sqlite")
def _json_is_text(*_: object, **__: object) -> str:
    return "TEXT"


def id_column() -> Any:
    """Return the column of an id that is handed out in a block."""
    return Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=False))


def reference(target: str, *, nullable: bool = False, index: bool = False, primary_key: bool = False) -> Any:
    """Return a column that refers to a row of another table, and goes with it."""
    return Field(
        default=None,
        sa_column=Column(
            Id, ForeignKey(target, ondelete="CASCADE"), nullable=nullable, index=index, primary_key=primary_key
        ),
    )


def json_column(*, nullable: bool = False) -> Any:
    """Return a column of JSON."""
    return Field(default=None, sa_column=Column(Json(none_as_null=True), nullable=nullable))


def text_column(*, nullable: bool = True) -> Any:
    """Return a column of text."""
    return Field(default=None, sa_column=Column(Text, nullable=nullable))


def _where(condition: str, name: str, *columns: str) -> Index:
    """Return an index of those rows that meet a condition."""
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


class IdBlock(SQLModel, table=True):
    """The next free id of each table."""

    __tablename__ = "id_block"
    name: str = Field(primary_key=True)
    next_id: int = Field(sa_column=Column(BigInteger, nullable=False))


class WorkflowRow(SQLModel, table=True):
    """A workflow. Its displayed state is worked out from the flags, the runners and the counts."""

    __tablename__ = "workflow"
    __table_args__ = (Index("workflow_user", "user", "id"), _where("charged_to IS NOT NULL", "workflow_charged", "id"))
    id: int = id_column()
    name: str = Field(sa_column=Column(Text, nullable=False, index=True))
    user: str = text_column(nullable=False)
    description: str | None = text_column()
    project: str | None = text_column()
    meta: dict[str, Any] = json_column()
    env: dict[str, str] = json_column()
    settings: dict[str, Any] = json_column()
    directory: str = text_column(nullable=False)
    run_id: int = 0
    version: int = 1
    is_archived: bool = False
    is_canceled: bool = False
    #: something has run since the last reset: StartRun continues instead of starting a new run
    is_begun: bool = False
    #: some action waits for jobs; where not, exchanges do not look
    has_job_actions: bool = False
    #: the plan of an assistant that its jobs are charged to, while what the plan began goes on
    charged_to: int | None = Field(default=None, sa_column=Column(Id, nullable=True))
    created_at: float
    updated_at: float
    started_at: float | None = None
    ended_at: float | None = None


class LoadingRow(SQLModel, table=True):
    """A workflow that is being stored in several transactions; it has no row of its own before the last of them."""

    __tablename__ = "loading"
    workflow_id: int = id_column()
    user: str = text_column(nullable=False)
    num_jobs: int
    renewed_at: float  # by who stores it, with each transaction


class JobCountRow(SQLModel, table=True):
    """How many jobs of a workflow are in a state; kept by whoever moves them, in the same transaction."""

    __tablename__ = "job_count"
    workflow_id: int = reference("workflow.id", primary_key=True)
    state: str = Field(primary_key=True)
    count: int = 0


class RequirementRow(SQLModel, table=True):
    """A requirement class. Jobs with equal requests share one."""

    __tablename__ = "requirement"
    __table_args__ = (Index("requirement_name", "workflow_id", "name", unique=True),)
    id: int = id_column()
    workflow_id: int = reference("workflow.id")
    name: str = text_column(nullable=False)
    num_cpus: int
    num_gpus: int
    num_nodes: int
    memory_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    runtime_seconds: int


class NamedRow(SQLModel, table=True):
    """Failure handlers, schedulers, machines for workers: a kind, a name, and the fields as the spec gave them."""

    __tablename__ = "named"
    __table_args__ = (Index("named_name", "workflow_id", "kind", "name", unique=True),)
    id: int = id_column()
    workflow_id: int = reference("workflow.id")
    kind: str  # failure_handler | remote_worker | slurm_scheduler, and so on for each batch scheduler
    name: str = text_column(nullable=False)
    fields: dict[str, Any] = json_column()


class GateRow(SQLModel, table=True):
    """A distinct set of prerequisites. Open when `remaining` is 0."""

    __tablename__ = "gate"
    id: int = id_column()
    workflow_id: int = reference("workflow.id", index=True)
    total: int
    remaining: int  # prerequisites that are not counted off
    stage: int | None = None  # of the jobs behind it: one more than that of its last prerequisite; NULL: not known


class GatePrerequisiteRow(SQLModel, table=True):
    """A job that holds a gate shut until it is counted off."""

    __tablename__ = "gate_prerequisite"
    __table_args__ = {"sqlite_with_rowid": False}
    job_id: int = reference("job.id", primary_key=True)
    gate_id: int = reference("gate.id", primary_key=True, index=True)


class InputSetRow(SQLModel, table=True):
    """A distinct set of files and user data that jobs read."""

    __tablename__ = "input_set"
    id: int = id_column()
    workflow_id: int = reference("workflow.id", index=True)


class InputFileRow(SQLModel, table=True):
    """A file of an input set."""

    __tablename__ = "input_file"
    __table_args__ = {"sqlite_with_rowid": False}
    input_set_id: int = reference("input_set.id", primary_key=True)
    file_id: int = reference("file.id", primary_key=True, index=True)


class InputUserDataRow(SQLModel, table=True):
    """User data of an input set."""

    __tablename__ = "input_user_data"
    __table_args__ = {"sqlite_with_rowid": False}
    input_set_id: int = reference("input_set.id", primary_key=True)
    user_data_id: int = reference("user_data.id", primary_key=True, index=True)


class FileRow(SQLModel, table=True):
    """A file, with what was known of it when the run last looked (for reinitialize)."""

    __tablename__ = "file"
    __table_args__ = (Index("file_name", "workflow_id", "name", unique=True),)
    id: int = id_column()
    workflow_id: int = reference("workflow.id")
    name: str = text_column(nullable=False)
    path: str = text_column(nullable=False)
    producer_job_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True, index=True))
    size_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    mtime_ns: int | None = Field(default=None, sa_column=Column(BigInteger))
    sha256: str | None = None


class UserDataRow(SQLModel, table=True):
    """A named piece of JSON."""

    __tablename__ = "user_data"
    __table_args__ = (Index("user_data_name", "workflow_id", "name", unique=True),)
    id: int = id_column()
    workflow_id: int = reference("workflow.id")
    name: str = text_column(nullable=False)
    #: JSON as text: in a column of type JSON, SQLite would make the number 1.0 out of it and then the integer 1
    data: str | None = text_column()
    is_ephemeral: bool = False
    producer_job_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True, index=True))


class JobRow(SQLModel, table=True):
    """A job: what it is (above) and where it stands (below). Only `torc.store.transitions.apply` writes `state`."""

    __tablename__ = "job"
    __table_args__ = (
        Index("job_name", "workflow_id", "name", unique=True),
        Index("job_gate", "gate_id"),
        Index("job_input_set", "input_set_id"),
        # claims read these: flat however many jobs have finished
        _where(
            "state = 'ready' AND due_at IS NULL",
            "job_ready",
            "workflow_id",
            "requirement_id",
            "scheduler_id",
            "order_key",
            "id",
        ),
        _where("due_at IS NOT NULL", "job_due", "workflow_id", "due_at"),
        # whoever asks why jobs failed reads this; queries must say the condition in the same words
        _where("state IN ('failed', 'terminated', 'pending_failed')", "job_failed", "workflow_id", "id"),
        _where("runner_id IS NOT NULL", "job_held", "runner_id"),
    )
    id: int = id_column()
    workflow_id: int = reference("workflow.id")
    name: str = text_column(nullable=False)
    command: str = text_column(nullable=False)
    invocation_script: str | None = text_column()
    env: dict[str, str] | None = json_column(nullable=True)  # NULL: none of its own
    priority: int = 0
    order_key: int = 0  # -priority: ascending order is the order of claiming
    requirement_id: int = reference("requirement.id")
    gate_id: int | None = reference("gate.id", nullable=True)
    input_set_id: int | None = reference("input_set.id", nullable=True)
    failure_handler_id: int | None = reference("named.id", nullable=True)
    scheduler_id: int | None = reference("named.id", nullable=True)
    cancel_on_blocking_job_failure: bool = True
    supports_termination: bool = False
    has_outputs: bool = False  # files to look for after success
    # -- what moves
    state: str
    counted: bool = False  # counted off the gates that it holds shut
    attempt: int = 0  # number of the current or last attempt; grows over all runs
    runner_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True))
    started_at: float | None = None
    return_code: int | None = None
    reason: str | None = text_column()
    recovery: dict[str, Any] | None = json_column(
        nullable=True
    )  # for the retry that is due: script, last return code, rule
    due_at: float | None = None  # ready, but nobody gets it before: a retry that has to wait
    keep_background_processes: bool | None = None  # NULL: no
    fingerprint: str | None = text_column()  # of command, environment and user data at its last success


class MentionRow(SQLModel, table=True):
    """A place where a command holds the id of user data: what a spec wrote as `${user_data.input.NAME}`."""

    __tablename__ = "mention"
    __table_args__ = {"sqlite_with_rowid": False}
    job_id: int = reference("job.id", primary_key=True)
    field: str = Field(primary_key=True)  # command | invocation_script
    at: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})  # index of its first character
    user_data_id: int = reference("user_data.id", index=True)


class AttemptRow(SQLModel, table=True):
    """How one execution ended. (job, attempt) is recorded once, however often it is reported."""

    __tablename__ = "attempt"
    __table_args__ = (
        Index("attempt_key", "job_id", "attempt", unique=True),
        Index("attempt_workflow", "workflow_id", "id"),
    )
    id: int = Field(default=None, sa_column=Column(Id, primary_key=True))  # by the database
    workflow_id: int = reference("workflow.id")
    job_id: int = reference("job.id")
    run_id: int
    attempt: int
    runner_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True))
    state: str
    return_code: int | None = None
    reason: str | None = text_column()
    detail: str | None = text_column()
    rule: int | None = None  # index of the failure handler's rule that this failure was retried by
    is_current: bool = True
    started_at: float | None = None
    ended_at: float
    wall_seconds: float
    user_cpu_seconds: float
    system_cpu_seconds: float
    peak_memory_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    usage: dict[str, Any] | None = json_column(nullable=True)  # the rest of what was measured
    stderr_tail: str | None = text_column()
    stderr_line: int | None = None  # number of its first line in the file
    stdout_tail: str | None = text_column()
    stdout_line: int | None = None
    slurm_state: str | None = None  # what the cluster said of its step or allocation
    requirement_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True))  # the class that it ran with


class RunnerRow(SQLModel, table=True):
    """A process that runs attempts."""

    __tablename__ = "runner"
    id: int = id_column()
    workflow_id: int = reference("workflow.id", index=True)
    run_id: int
    kind: str
    host: str = text_column(nullable=False)
    pid: int
    process_started: str
    boot_id: str
    capacity: dict[str, Any] = json_column()
    labels: dict[str, str] = json_column()
    is_active: bool = True
    started_at: float
    ended_at: float | None = None
    end_reason: str | None = text_column()
    lease_expires_at: float
    num_completed: int = 0
    num_failed: int = 0
    allocation_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True, index=True))
    node: str | None = text_column()  # as the cluster names it
    job_token_hash: str | None = text_column()  # of the token that it gives to its jobs
    last_exchange: int = Field(default=0, sa_column=Column(Id, nullable=False, server_default="0"))  # its number


class AllocationRow(SQLModel, table=True):
    """An allocation of a cluster: recorded before it is asked for, followed to its end."""

    __tablename__ = "allocation"
    __table_args__ = (Index("allocation_workflow", "workflow_id", "state"),)
    id: int = id_column()
    workflow_id: int = reference("workflow.id")
    run_id: int
    mark: str = text_column(nullable=False)
    name: str = text_column(nullable=False)
    scheduler: str | None = text_column()
    firing_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True))
    request: dict[str, Any] = json_column()
    num_nodes: int
    walltime_seconds: int
    partition: str | None = text_column()
    account: str | None = text_column()
    qos: str | None = text_column()
    cpus_per_node: int | None = None
    memory_bytes_per_node: int | None = Field(default=None, sa_column=Column(BigInteger))
    gpus_per_node: int = 0
    # -- what was seen of it
    cluster: str | None = text_column()
    cluster_job_id: str | None = text_column()
    state: str  # submitting | pending | running | ended
    cluster_state: str | None = None
    reason: str | None = text_column()
    nodes: list[str] = json_column()
    failed_nodes: list[str] | None = json_column(nullable=True)  # one of them failed under it
    created_at: float
    submitted_at: float | None = None
    expected_start_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    seen_at: float | None = None
    cancel_requested_at: float | None = None
    exit_code: str | None = None
    restarts: int = 0
    node_seconds_used: float = 0.0
    node_seconds_wasted: float | None = None


class ActionRow(SQLModel, table=True):
    """Something to do when something happens."""

    __tablename__ = "action"
    id: int = id_column()
    workflow_id: int = reference("workflow.id", index=True)
    position: int
    trigger_type: str
    action_type: str
    commands: list[str] = json_column()
    settings: dict[str, Any] = json_column()
    persistent: bool = False
    remaining: int = 0  # jobs of the action that have not come that far in this run


class ActionJobRow(SQLModel, table=True):
    """A job that an action waits for."""

    __tablename__ = "action_job"
    __table_args__ = {"sqlite_with_rowid": False}
    job_id: int = reference("job.id", primary_key=True)
    action_id: int = reference("action.id", primary_key=True, index=True)
    reached: bool = False


class FiringRow(SQLModel, table=True):
    """An action that is due, being carried out, or done. Unique keys make it happen once."""

    __tablename__ = "firing"
    __table_args__ = (Index("firing_key", "action_id", "run_id", "occasion", unique=True),)
    id: int = Field(default=None, sa_column=Column(Id, primary_key=True))
    workflow_id: int = reference("workflow.id", index=True)
    action_id: int = reference("action.id")
    run_id: int
    occasion: str  # "" once a run; "runner:ID" for on_worker_*
    state: str  # due | taken | running | done | failed
    runner_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True))
    return_code: int | None = None
    detail: str | None = text_column()


class ProvenanceRow(SQLModel, table=True):
    """Where results come from: the spec as written (`spec`), what runners ran in (`environment`, once each), and where (`runner`)."""

    __tablename__ = "provenance"
    __table_args__ = (Index("provenance_workflow", "workflow_id", "kind", "hash"),)
    id: int = Field(default=None, sa_column=Column(Id, primary_key=True))
    workflow_id: int = reference("workflow.id")
    kind: str
    run_id: int = 0
    runner_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True, index=True))
    hash: str
    facts: dict[str, Any] = json_column()


class EventRow(SQLModel, table=True):
    """Something that happened."""

    __tablename__ = "event"
    __table_args__ = (Index("event_workflow", "workflow_id", "id"),)
    id: int = Field(default=None, sa_column=Column(Id, primary_key=True))
    workflow_id: int = reference("workflow.id")
    time: float
    type: str
    actor: str = text_column(nullable=False)
    job_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True))
    data: dict[str, Any] = json_column()
