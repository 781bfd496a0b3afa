"""Workflows as a whole: create, look at, change, reset, remove."""

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
    """How many jobs are in each state; states without jobs are absent."""

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
        description="idle: never run or reset; interrupted: stopped before its end, `torc run ID` goes on; "
        "failed: ended, and some jobs did not complete"
    )
    user: str
    description: str | None = None
    project: str | None = None
    metadata: dict[str, Any] = {}
    env: dict[str, str] = {}
    settings: dict[str, Any] = Field({}, description="the remaining workflow fields of the spec")
    directory: str = Field(description="where it was submitted: paths are relative to it and jobs run in it")
    run_id: int = Field(description="0 before the first run; grows with each new run (not with a resume)")
    version: int = Field(description="grows with every change that a person or a tool made (not with progress)")
    is_archived: bool = False
    created_at: float = Field(description="seconds since the epoch, UTC; likewise the other times")
    updated_at: float
    started_at: float | None = Field(None, description="when the current run started")
    ended_at: float | None = None
    counts: Counts


class SourceFile(Value):
    """A text that a spec refers to, sent along with it."""

    path: str
    text: str


@request("POST", "/workflows", access="write", largest_body=LARGE, takes_long=True)
class CreateWorkflow(Request[Workflow]):
    """Create a workflow from the text of a spec.

    Nothing is stored unless all of it is valid (else `invalid`, with the diagnostics in its details).
    """

    spec: str
    format: Format | None = Field(None, description="tried in turn when left out")
    name: str = Field("<spec>", description="name of the document in diagnostics, usually its path")
    files: list[SourceFile] = Field([], description="the `@file`s that the parameters of the spec refer to")
    directory: str = Field(description="absolute directory that paths are relative to and in which jobs run")
    links: dict[str, str] = Field(
        {},
        description="paths of the spec that lead elsewhere through symbolic links, and where; relative below `directory`",
    )
    user: str | None = Field(None, description="owner when the spec names none")
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
    """Change fields of a workflow; those left out stay."""

    workflow_id: int
    name: str | None = None
    user: str | None = Field(None, min_length=1, description="give it to somebody else: administrators")
    description: str | None = None
    project: str | None = None
    metadata: dict[str, Any] | None = None
    env: dict[str, str] | None = None
    settings: dict[str, Any] | None = Field(None, description="merged into the present ones; a null removes one")


@request("DELETE", "/workflows/{workflow_id}", access="write", takes_long=True)
class DeleteWorkflow(Request[None]):
    """Delete a workflow with everything stored about it. Refused (`conflict`) while runners work on it, unless forced."""

    workflow_id: int
    force: bool = False


@request("POST", "/workflows/prune", access="admin", takes_long=True)
class PruneWorkflows(Request[list[Workflow]]):
    """Delete workflows that nothing has happened to for long, all or none. Gives those that were, or would be, deleted.

    Those with runners at work, or jobs that are not finished while a run has begun, stay.
    """

    older_than_seconds: float = Field(
        ge=0.0, description="since the last run ended or, where there was none, since the last change"
    )
    keep: int = Field(0, ge=0, le=10_000, description="of each name, so many of the newest stay whatever their age")
    archived_only: bool = False
    only: list[int] | None = Field(
        None, max_length=1_000_000, description="none but these, such as those that a dry run has shown"
    )
    dry_run: bool = False


@request("POST", "/workflows/{workflow_id}/archive", access="write")
class ArchiveWorkflow(Request[Workflow]):
    """Put a workflow out of the way of lists and default choices, or bring it back."""

    workflow_id: int
    archived: bool = True


@request("POST", "/workflows/{workflow_id}/cancel", access="write", takes_long=True)
class CancelWorkflow(Request[Workflow]):
    """Cancel every job that has not finished; runners are told to stop theirs."""

    workflow_id: int


class Change(Value):
    """What a reset does, or would do, to one job."""

    job_id: int
    job_name: str
    state: State
    new_state: State | None = Field(description="absent: the job was removed")
    reason: str


class Changes(Value):
    """What was changed (or, in a dry run, would be)."""

    applied: bool
    run_id: int
    changes: list[Change] = Field(description="at most `limit` of them, in order of job id")
    total: int


@request("POST", "/workflows/{workflow_id}/initialize", access="write", takes_long=True)
class InitializeWorkflow(Request[Workflow]):
    """Look at the prerequisites of uninitialized jobs (added one by one) and make them blocked or ready."""

    workflow_id: int


@request("POST", "/workflows/{workflow_id}/reset", access="write", takes_long=True)
class ResetWorkflow(Request[Changes]):
    """Reset job states for a new run: all of them, or the unsuccessful ones with all that is behind them.

    Refused (`conflict`) while runners work on the workflow, unless forced.
    """

    workflow_id: int
    failed_only: bool = False
    force: bool = False
    dry_run: bool = False
    limit: int = Field(1000, ge=0, le=100_000)


class FileFact(Value):
    """What the caller's file system says of a path. Only the caller can see it: the store never looks."""

    path: str
    exists: bool
    size_bytes: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = Field(None, description="needed only where size or mtime differ from what was recorded")


class ReinitializeReply(Value):
    """Either what is still to be found out about files, or the changes."""

    needs_files: list[str] = Field([], description="paths of which no facts were given")
    needs_hash: list[str] = Field([], description="paths whose content has to be hashed to tell")
    result: Changes | None = None


@request("POST", "/workflows/{workflow_id}/reinitialize", access="write", largest_body=LARGE, takes_long=True)
class ReinitializeWorkflow(Request[ReinitializeReply]):
    """Let those jobs run again whose inputs changed since their last success, and all that is behind them.

    Looks at input files (size and mtime first, then content), commands, environment, user data and missing outputs,
    each compared with how it was when the job completed. Failed jobs are reset too. With `spec`, the workflow
    becomes what the edited spec says: jobs are matched by name; new ones are added, those that it no longer has are
    removed with their results. Nothing is changed while the reply asks for facts of files.
    """

    workflow_id: int
    files: list[FileFact] = Field([], description="what is known of files; the reply says what else is needed")
    spec: str | None = Field(None, description="text of an edited spec")
    format: Format | None = Field(None, description="of the spec; tried in turn when left out")
    name: str = Field("<spec>", description="name of the document in diagnostics, usually its path")
    spec_files: list[SourceFile] = Field([], description="the `@file`s that the parameters of the spec refer to")
    directory: str | None = Field(None, description="of the workflow, for comparing the paths of the spec")
    links: dict[str, str] = Field({}, description="as for a new workflow")
    force: bool = False
    dry_run: bool = False
    limit: int = Field(1000, ge=0, le=100_000)


class Problem(Value):
    """An invariant that does not hold."""

    invariant: str
    detail: str


@request("GET", "/workflows/{workflow_id}/check", takes_long=True)
class CheckWorkflow(Request[list[Problem]]):
    """Check every invariant of what is stored about a workflow. An empty list is what you want."""

    workflow_id: int


@dataclass(frozen=True, slots=True)
class GraphJob:
    """A job as the planner sees it: enough to draw and to simulate. No model: there are hundreds of thousands of them."""

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
    """The jobs of a workflow, their gates and classes, all by index into the lists here."""

    workflow: Workflow
    jobs: list[GraphJob]
    gates: list[list[int]]
    requirements: list[GraphRequirement]


@request("GET", "/workflows/{workflow_id}/graph", takes_long=True)
class GetGraph(Request[Graph]):
    """Get the whole graph of a workflow."""

    workflow_id: int


class Part(Value):
    """Jobs that do the same, as one node of an outline."""

    label: str = Field(description="the name of one job, or what the names have in common, with `*` for the rest")
    stage: int
    num_jobs: int
    states: dict[State, int]


class Outline(Value):
    """A workflow as a graph that can be read: at most some forty parts, whatever the number of jobs."""

    workflow: Workflow
    parts: list[Part]
    edges: list[tuple[int, int]] = Field(description="parts by index: the second waits for jobs of the first")
    is_exact: bool = Field(
        description="false: of a large workflow, edges are those of the first and last job of a part"
    )


@request("GET", "/workflows/{workflow_id}/outline", takes_long=True)
class OutlineWorkflow(Request[Outline]):
    """Outline a workflow: jobs that are alike as one, how many of them are in each state, and what waits for what."""

    workflow_id: int


class RecordFilesReply(Value):
    """What was recorded, and what is still needed for telling a touched file from a changed one."""

    recorded: int
    needs_hash: list[str]


@request("POST", "/workflows/{workflow_id}/files/facts", access="run", largest_body=LARGE)
class RecordFiles(Request[RecordFilesReply]):
    """Record how files look that jobs read in a run, for a later ReinitializeWorkflow to compare with.

    What jobs that completed before `since` have seen stays recorded.
    """

    workflow_id: int
    files: list[FileFact] = Field(max_length=100_000)
    since: float = Field(description="when this session of the run began, seconds since the epoch")
