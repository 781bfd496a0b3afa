"""Workflows as a whole: create, inspect, change, reset, delete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from torc.api.base import LARGE, Page, Request, Value, request
from torc.spec.formats import Format
from torc.workflow.states import State

WorkflowState = Literal["idle", "running", "interrupted", "completed", "failed", "canceled"]
SortMethod = Literal["none", "gpus_runtime_memory", "gpus_memory_runtime"]


class Counts(Value):
    """The number of jobs in each state; states without jobs are absent."""

    by_state: dict[State, int]

    @property
    def total(self) -> int:
        """All jobs of the workflow."""
        return sum(self.by_state.values())

    def __getitem__(self, state: State) -> int:
        return self.by_state.get(state, 0)


class Workflow(Value):
    """A stored workflow."""

    id: int
    name: str
    state: WorkflowState = Field(
        description="idle: never run or reset; interrupted: stopped before its end, `torc run ID` continues it; "
        "failed: ended, and some jobs did not complete"
    )
    user: str
    description: str | None = None
    project: str | None = None
    metadata: dict[str, Any] = {}
    env: dict[str, str] = {}
    settings: dict[str, Any] = Field({}, description="the other workflow fields of the spec")
    directory: str = Field(description="where it was submitted: jobs run in it and paths are relative to it")
    run_id: int = Field(description="0 before the first run; increases with each new run (not with a resume)")
    version: int = Field(description="increases with every change by a person or a tool (not with progress)")
    is_archived: bool = False
    created_at: float = Field(description="seconds since the epoch, UTC; likewise the other times")
    updated_at: float
    started_at: float | None = Field(None, description="when the current run started")
    ended_at: float | None = None
    counts: Counts


class SourceFile(Value):
    """A text file that a spec refers to, sent along with it."""

    path: str
    text: str


@request("POST", "/workflows", access="write", largest_body=LARGE, takes_long=True)
class CreateWorkflow(Request[Workflow]):
    """Create a workflow from the text of a spec.

    Stores nothing unless the whole spec is valid (else `invalid`, with the diagnostics in the details).
    """

    spec: str
    format: Format | None = Field(None, description="default: detected by trying each")
    name: str = Field("<spec>", description="name of the document in diagnostics, usually its path")
    files: list[SourceFile] = Field([], description="the `@file`s referenced by the spec's parameters")
    directory: str = Field(description="absolute directory in which jobs run and to which paths are relative")
    links: dict[str, str] = Field(
        {},
        description="paths of the spec that symbolic links lead elsewhere, and where; relative if below `directory`",
    )
    user: str | None = Field(None, description="owner if the spec has none")
    max_jobs: int = Field(5_000_000, ge=1)


@request("GET", "/workflows")
class ListWorkflows(Request[Page[Workflow]]):
    """List workflows, newest first."""

    name: str | None = None
    user: str | None = None
    include_archived: bool = False
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/workflows/{workflow_id}")
class GetWorkflow(Request[Workflow]):
    """Get one workflow with its counts."""

    workflow_id: int


@request("PATCH", "/workflows/{workflow_id}", access="write")
class UpdateWorkflow(Request[Workflow]):
    """Change fields of a workflow; omitted fields keep their values."""

    workflow_id: int
    name: str | None = None
    user: str | None = Field(None, min_length=1, description="new owner; administrators only")
    description: str | None = None
    project: str | None = None
    metadata: dict[str, Any] | None = None
    env: dict[str, str] | None = None
    settings: dict[str, Any] | None = Field(None, description="merged into the current ones; null removes one")


@request("DELETE", "/workflows/{workflow_id}", access="write", takes_long=True)
class DeleteWorkflow(Request[None]):
    """Delete a workflow with everything stored about it. Refused (`conflict`) while runners work on it, unless forced."""

    workflow_id: int
    force: bool = False


@request("POST", "/workflows/prune", access="admin", takes_long=True)
class PruneWorkflows(Request[list[Workflow]]):
    """Delete workflows that have long been inactive, all or none. Returns those that were, or would be, deleted.

    Workflows with active runners, or with unfinished jobs of a started run, are kept.
    """

    older_than_seconds: float = Field(
        ge=0.0, description="since the end of the last run or, without any run, since the last change"
    )
    keep: int = Field(
        0, ge=0, le=10_000, description="for each name, this many of the newest are kept whatever their age"
    )
    archived_only: bool = False
    only: list[int] | None = Field(
        None, max_length=1_000_000, description="none but these, such as those that a dry run has shown"
    )
    dry_run: bool = False


@request("POST", "/workflows/{workflow_id}/archive", access="write")
class ArchiveWorkflow(Request[Workflow]):
    """Hide a workflow from lists and default choices, or show it again."""

    workflow_id: int
    archived: bool = True


@request("POST", "/workflows/{workflow_id}/cancel", access="write", takes_long=True)
class CancelWorkflow(Request[Workflow]):
    """Cancel every unfinished job; runners are told to stop theirs."""

    workflow_id: int


class Change(Value):
    """What a reset does, or would do, to a job."""

    job_id: int
    job_name: str
    state: State
    new_state: State | None = Field(description="absent: the job was removed")
    reason: str


class Changes(Value):
    """What was changed or, in a dry run, would be."""

    applied: bool
    run_id: int
    changes: list[Change] = Field(description="at most `limit` of them, in order of job id")
    total: int


@request("POST", "/workflows/{workflow_id}/initialize", access="write", takes_long=True)
class InitializeWorkflow(Request[Workflow]):
    """Evaluate the prerequisites of uninitialized jobs (added one by one) and make them blocked or ready."""

    workflow_id: int


@request("POST", "/workflows/{workflow_id}/reset", access="write", takes_long=True)
class ResetWorkflow(Request[Changes]):
    """Reset job states for a new run: all of them, or the unsuccessful ones and everything downstream.

    Refused (`conflict`) while runners work on the workflow, unless forced.
    """

    workflow_id: int
    failed_only: bool = False
    force: bool = False
    dry_run: bool = False
    limit: int = Field(1000, ge=0, le=100_000)


class FileFact(Value):
    """The state of a path in the caller's file system, which the store cannot see."""

    path: str
    exists: bool
    size_bytes: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = Field(None, description="needed only if size or mtime differ from the recorded values")


class ReinitializeReply(Value):
    """Either what the caller still has to find out about files, or the changes."""

    needs_files: list[str] = Field([], description="paths for which no facts were given")
    needs_hash: list[str] = Field([], description="paths whose contents must be hashed")
    result: Changes | None = None


@request("POST", "/workflows/{workflow_id}/reinitialize", access="write", largest_body=LARGE, takes_long=True)
class ReinitializeWorkflow(Request[ReinitializeReply]):
    """Rerun the jobs whose inputs have changed since their last success, and everything downstream.

    Compares input files (size and mtime first, then content), commands, environment, user data and missing outputs with their state
    when the job completed. Failed jobs are reset too. With `spec`, the workflow is changed to match the edited spec: jobs are
    matched by name; new jobs are added, and jobs no longer in the spec are removed with their results. Nothing is changed as long as
    the reply asks for facts about files.
    """

    workflow_id: int
    files: list[FileFact] = Field([], description="known facts about files; the reply lists what else is needed")
    spec: str | None = Field(None, description="text of an edited spec")
    format: Format | None = Field(None, description="of the spec; default: detected by trying each")
    name: str = Field("<spec>", description="name of the document in diagnostics, usually its path")
    spec_files: list[SourceFile] = Field([], description="the `@file`s referenced by the spec's parameters")
    directory: str | None = Field(None, description="the workflow's directory, for comparing the paths of the spec")
    links: dict[str, str] = Field({}, description="as in CreateWorkflow")
    force: bool = False
    dry_run: bool = False
    limit: int = Field(1000, ge=0, le=100_000)


class Problem(Value):
    """A violated invariant."""

    invariant: str
    detail: str


@request("GET", "/workflows/{workflow_id}/check", takes_long=True)
class CheckWorkflow(Request[list[Problem]]):
    """Check every invariant of what is stored about a workflow. Returns an empty list if all hold."""

    workflow_id: int


@dataclass(frozen=True, slots=True)
class GraphJob:
    """A job as needed for drawing and simulation. Not a pydantic model: there are hundreds of thousands."""

    id: int
    name: str
    state: State
    gate: int | None
    requirement: int
    priority: int
    cancel_on_blocking_job_failure: bool


class GraphRequirement(Value):
    """A requirement class."""

    name: str
    num_cpus: int
    num_gpus: int
    num_nodes: int
    memory_bytes: int
    runtime_seconds: int


class Graph(Value):
    """The jobs of a workflow with their gates and classes, all as indexes into these lists."""

    workflow: Workflow
    jobs: list[GraphJob]
    gates: list[list[int]]
    requirements: list[GraphRequirement]


@request("GET", "/workflows/{workflow_id}/graph", takes_long=True)
class GetGraph(Request[Graph]):
    """Get the whole graph of a workflow."""

    workflow_id: int


class Part(Value):
    """Similar jobs, shown as one node of an outline."""

    label: str = Field(description="the name of the job, or the common part of the names with `*` for the rest")
    stage: int
    num_jobs: int
    states: dict[State, int]


class Outline(Value):
    """A workflow as a readable graph: at most some forty nodes, whatever the number of jobs."""

    workflow: Workflow
    parts: list[Part]
    edges: list[tuple[int, int]] = Field(description="indexes of parts: the second waits for jobs of the first")
    is_exact: bool = Field(
        description="false: in a large workflow, edges are those of the first and last job of a part"
    )


@request("GET", "/workflows/{workflow_id}/outline", takes_long=True)
class OutlineWorkflow(Request[Outline]):
    """Outline a workflow: similar jobs as one node, with the number of jobs in each state, and the dependencies."""

    workflow_id: int


class RecordFilesReply(Value):
    """What was recorded, and which hashes are needed to distinguish a touched file from a changed one."""

    recorded: int
    needs_hash: list[str]


@request("POST", "/workflows/{workflow_id}/files/facts", access="run", largest_body=LARGE)
class RecordFiles(Request[RecordFilesReply]):
    """Record the state of files that jobs read in a run, for later comparison by ReinitializeWorkflow.

    Records that jobs which completed before `since` depend on are kept.
    """

    workflow_id: int
    files: list[FileFact] = Field(max_length=100_000)
    since: float = Field(description="when this session of the run started, in seconds since the epoch")
