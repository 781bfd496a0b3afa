"""The plan: a spec after validation and expansion. Concrete jobs, files, user data and gates; no ids, no clock.

Everything refers to everything else by index into the plan's own sequences, so that a plan of a million jobs stays
small and the store can turn indexes into ids by adding an offset.

A command may refer to user data, whose ids exist only after the plan is stored: it then contains USER_DATA_MARK, the index of the
user data, and USER_DATA_MARK again (commands cannot contain this character otherwise). `with_user_data_ids` fills in the ids.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from torc.planning.scheduler_types import ROW_KINDS, SchedulerName
from torc.workflow.resources import ResourceRequest

USER_DATA_MARK = "\x00"
_MARKED = re.compile(USER_DATA_MARK + r"(\d+)" + USER_DATA_MARK)


class PlannedJob(NamedTuple):
    """One job. The indexes refer to sequences of the plan."""

    name: str
    command: str
    requirement: int = 0  # Plan.requirements
    gate: int | None = None  # Plan.gates; None: waits for nothing
    input_set: int | None = None  # Plan.input_sets
    output_files: tuple[int, ...] = ()  # Plan.files
    output_user_data: tuple[int, ...] = ()  # Plan.user_data
    priority: int = 0
    env: Mapping[str, str] = {}  # the job's own; shared between jobs where equal
    invocation_script: str | None = None
    failure_handler: int | None = None  # Plan.failure_handlers
    scheduler: int | None = None  # Plan.schedulers
    cancel_on_blocking_job_failure: bool = True
    supports_termination: bool = False
    keep_background_processes: bool = False


class JobField(NamedTuple):
    """A field with the same name in specs, plans, requests and replies, and of its column.

    Code that stores, replaces, exports, shows or changes jobs, or sends them to runners, uses JOB_FIELDS. Names, relations and
    references to other objects (requirement, failure handler, scheduler) are not included.
    """

    name: str
    kind: Literal["text", "object", "count", "bool"]  # of its value, and of its column in portable files
    default: Any = None
    is_nullable: bool = True  # NULL stands for the default
    is_templated: bool = False  # parameters are filled in, so that it differs among the jobs of one template
    is_claimed: bool = False  # sent to runners with the job
    is_executed: bool = False  # part of what is executed: shown for approval; a job runs again when it has changed
    is_editable: bool = True
    exported_since: int = 1  # version of the portable file format that introduced it


#: in the order of display
JOB_FIELDS = (
    JobField("command", "text", "", is_nullable=False, is_templated=True, is_claimed=True, is_executed=True),
    JobField("invocation_script", "text", is_templated=True, is_claimed=True, is_executed=True),
    JobField("env", "object", {}, is_templated=True, is_claimed=True, is_executed=True),
    JobField("priority", "count", 0, is_nullable=False),
    JobField("cancel_on_blocking_job_failure", "bool", True, is_nullable=False),
    JobField("supports_termination", "bool", False, is_nullable=False, is_claimed=True),
    JobField("keep_background_processes", "bool", False, is_claimed=True, exported_since=4),
)
#: what all jobs of a template share
JOB_SETTINGS = tuple(field for field in JOB_FIELDS if not field.is_templated)
#: what is executed
EXECUTED_FIELDS = tuple(field for field in JOB_FIELDS if field.is_executed)
#: the texts among these; they may refer to user data
JOB_TEXTS = tuple(field for field in EXECUTED_FIELDS if field.kind == "text")


class PlannedFile(NamedTuple):
    """A file, its path relative to the directory of submission."""

    name: str
    path: str
    producer: int | None = None  # Plan.jobs; None: must exist before the workflow starts


class PlannedUserData(NamedTuple):
    """A named JSON value. `data` is None until something is written."""

    name: str
    data: Any = None
    is_ephemeral: bool = False
    producer: int | None = None


class PlannedRequirement(NamedTuple):
    """A requirement class. Inline requirements have generated names (`inline_1`)."""

    name: str
    request: ResourceRequest


class InputSet(NamedTuple):
    """What a job reads. Jobs with equal inputs share one set: M files before N jobs cost M + N."""

    files: tuple[int, ...] = ()
    user_data: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """An action with its jobs resolved. `settings` has the fields relevant to its trigger and type."""

    trigger_type: str
    action_type: str
    jobs: tuple[int, ...] = ()
    commands: tuple[str, ...] = ()
    persistent: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamedObject:
    """An object stored as the spec defines it: a failure handler, or a scheduler of some type."""

    kind: str  # failure_handler, slurm_scheduler ...: as stored
    name: str
    fields: Mapping[str, Any]

    @property
    def type(self) -> SchedulerName:
        """Return the type of batch scheduler."""
        return ROW_KINDS[self.kind].name


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole workflow, ready to be stored, simulated or drawn."""

    name: str
    jobs: Sequence[PlannedJob]
    requirements: Sequence[PlannedRequirement]
    gates: Sequence[tuple[int, ...]] = ()  # each: sorted indexes of the prerequisite jobs, distinct and never empty
    input_sets: Sequence[InputSet] = ()
    files: Sequence[PlannedFile] = ()
    user_data: Sequence[PlannedUserData] = ()
    failure_handlers: Sequence[NamedObject] = ()
    schedulers: Sequence[NamedObject] = ()
    actions: Sequence[PlannedAction] = ()
    #: (index of the template in the spec, first job, number of jobs), in order
    templates: Sequence[tuple[int, int, int]] = ()
    user: str | None = None
    description: str | None = None
    project: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    #: number of jobs expanded from each of the spec's jobs, in order
    job_counts: Sequence[int] = ()
    #: the workflow's other fields by spec name (use_pending_failed, jobs_sort_method, enforce_memory,
    #: execution, compute_node_*, resource_monitor, slurm_defaults ...); omitted fields are absent
    settings: Mapping[str, Any] = field(default_factory=dict)


def with_user_data_ids(command: str, ids: Sequence[int]) -> str:
    """Replace each marked index in a command by the id at that index."""
    if USER_DATA_MARK not in command:
        return command
    return _MARKED.sub(lambda match: str(ids[int(match[1])]), command)


def mentions(command: str, ids: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    """Yield (index of the first character, id) for each reference to user data in a command after its marks were replaced."""
    if USER_DATA_MARK not in command:
        return
    grown = 0
    for match in _MARKED.finditer(command):
        number = ids(int(match[1]))
        yield match.start() + grown, number
        grown += len(str(number)) - len(match[0])


def job_mentions(job: PlannedJob, ids: Callable[[int], int]) -> Iterator[tuple[str, int, int]]:
    """Yield (field, index of the first character, id) for each reference to user data in what a job runs."""
    for name in (text.name for text in JOB_TEXTS):
        for at, number in mentions(getattr(job, name) or "", ids):
            yield name, at, number
