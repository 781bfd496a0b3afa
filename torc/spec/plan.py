"""The plan: a spec after validation and expansion. Concrete jobs, files, user data and gates; no ids, no clock.

Everything refers to everything else by index into the plan's own sequences, so that a plan of a million jobs stays
small and the store can turn indexes into ids by adding an offset.

A command may mention user data, whose ids exist only once the plan is stored: it then holds USER_DATA_MARK, the index
of the user data, and USER_DATA_MARK again (no command can contain that character otherwise). `with_user_data_ids`
fills them in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torc.workflow.resources import ResourceRequest

USER_DATA_MARK = "\x00"
_MARKED = re.compile(USER_DATA_MARK + r"(\d+)" + USER_DATA_MARK)


class PlannedJob(NamedTuple):
    """One job. The indexes point into the sequences of the plan."""

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


class PlannedFile(NamedTuple):
    """A file, its path relative to the directory of submission."""

    name: str
    path: str
    producer: int | None = None  # Plan.jobs; None: must exist before the workflow starts


class PlannedUserData(NamedTuple):
    """A named piece of JSON. `data` is None until something is written to it."""

    name: str
    data: Any = None
    is_ephemeral: bool = False
    producer: int | None = None


class PlannedRequirement(NamedTuple):
    """A requirement class. Inline requirements have a made-up name (`inline_1`)."""

    name: str
    request: ResourceRequest


class InputSet(NamedTuple):
    """What a job reads. Jobs that read the same things share one set: M files before N jobs cost M + N."""

    files: tuple[int, ...] = ()
    user_data: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """An action with its jobs resolved. `settings` holds the fields that the trigger and the kind of action use."""

    trigger_type: str
    action_type: str
    jobs: tuple[int, ...] = ()
    commands: tuple[str, ...] = ()
    persistent: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamedObject:
    """A thing that later work acts on, kept as the spec gave it: failure handler, Slurm scheduler."""

    name: str
    fields: Mapping[str, Any]


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
    #: how many jobs each of the spec's jobs became, in its order
    job_counts: Sequence[int] = ()
    #: the workflow's remaining fields by their names in the spec (use_pending_failed, jobs_sort_method, enforce_memory,
    #: execution, compute_node_*, resource_monitor, slurm_defaults); those that the spec left out are absent
    settings: Mapping[str, Any] = field(default_factory=dict)


def with_user_data_ids(command: str, first_id: int) -> str:
    """Replace each marked index in a command by its id: `first_id` + index."""
    if USER_DATA_MARK not in command:
        return command
    return _MARKED.sub(lambda match: str(first_id + int(match[1])), command)


def mentions(command: str, ids: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    """Yield (index of the first character, id) of each mention of user data in a command after its marks were replaced."""
    if USER_DATA_MARK not in command:
        return
    grown = 0
    for match in _MARKED.finditer(command):
        number = ids(int(match[1]))
        yield match.start() + grown, number
        grown += len(str(number)) - len(match[0])


def job_mentions(job: PlannedJob, ids: Callable[[int], int]) -> Iterator[tuple[str, int, int]]:
    """Yield (field, index of the first character, id) of each mention of user data in what a job runs."""
    for name, text in (("command", job.command), ("invocation_script", job.invocation_script or "")):
        for at, number in mentions(text, ids):
            yield name, at, number


def fill_user_data_ids(command: str, ids: Sequence[int]) -> str:
    """Replace each marked index in a command by the id at that place, where the ids are not one block."""
    if USER_DATA_MARK not in command:
        return command
    return _MARKED.sub(lambda match: str(ids[int(match[1])]), command)
