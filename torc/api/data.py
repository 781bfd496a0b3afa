"""What jobs read, write and request: files, user data, resource requirements, failure handlers, Slurm schedulers."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from torc.api.base import MEDIUM, Page, Request, Value, request
from torc.planning.scheduler_types import SchedulerName
from torc.workflow.resources import DEFAULT_MEMORY_BYTES, DEFAULT_RUNTIME_SECONDS


class File(Value):
    """A file that jobs read or write."""

    id: int
    workflow_id: int
    name: str
    path: str = Field(description="relative to the workflow's directory, or absolute")
    producer: str | None = Field(
        None, description="name of the job that writes it; absent: it must exist before the start"
    )
    num_consumers: int | None = Field(None, description="jobs that read it (GetFile only)")
    size_bytes: int | None = Field(None, description="at the last check by a run; likewise the hash")
    sha256: str | None = None


@request("GET", "/workflows/{workflow_id}/files")
class ListFiles(Request[Page[File]]):
    """List the files of a workflow."""

    workflow_id: int
    name: str | None = Field(None, description="exact, or with `*` and `?`")
    required_existing: bool = Field(
        False, description="only files that must exist before the start: read, and written by no job"
    )
    read: bool = Field(False, description="only files that jobs read")
    written: bool = Field(False, description="only files that jobs write")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/files/{file_id}")
class GetFile(Request[File]):
    """Get one file."""

    file_id: int


@request("POST", "/workflows/{workflow_id}/files", access="write")
class CreateFile(Request[File]):
    """Add a file to a stored workflow."""

    workflow_id: int
    name: str = Field(min_length=1)
    path: str = Field(min_length=1)


@request("PATCH", "/files/{file_id}", access="write")
class UpdateFile(Request[File]):
    """Change a file's path."""

    file_id: int
    path: str = Field(min_length=1)


@request("DELETE", "/files/{file_id}", access="write")
class DeleteFile(Request[None]):
    """Delete a file that no job reads or writes."""

    file_id: int


class UserData(Value):
    """A named JSON value that jobs pass on."""

    id: int
    workflow_id: int
    name: str
    data: Any = None
    is_ephemeral: bool = Field(False, description="cleared when the workflow is reset")
    producer: str | None = None


@request("GET", "/workflows/{workflow_id}/user-data")
class ListUserData(Request[Page[UserData]]):
    """List the user data of a workflow."""

    workflow_id: int
    name: str | None = Field(None, description="exact, or with `*` and `?`")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/user-data/{user_data_id}")
class GetUserData(Request[UserData]):
    """Get one piece of user data."""

    user_data_id: int


@request("POST", "/workflows/{workflow_id}/user-data", access="write", largest_body=MEDIUM)
class CreateUserData(Request[UserData]):
    """Add user data to a stored workflow."""

    workflow_id: int
    name: str = Field(min_length=1)
    data: Any = None
    is_ephemeral: bool = False


@request("PUT", "/user-data/{user_data_id}", access="job", largest_body=MEDIUM)
class SetUserData(Request[UserData]):
    """Set user data. Jobs use this to pass data on."""

    user_data_id: int
    data: Any = None


@request("DELETE", "/user-data/{user_data_id}", access="write")
class DeleteUserData(Request[None]):
    """Delete user data that no job reads or writes."""

    user_data_id: int


class Requirement(Value):
    """A resource requirement class."""

    id: int
    workflow_id: int
    name: str
    num_cpus: int
    num_gpus: int
    num_nodes: int
    memory_bytes: int
    runtime_seconds: int
    num_jobs: int | None = Field(None, description="jobs of this class (GetRequirement only)")


@request("GET", "/workflows/{workflow_id}/resource-requirements")
class ListRequirements(Request[Page[Requirement]]):
    """List the requirement classes of a workflow."""

    workflow_id: int
    name: str | None = None
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/resource-requirements/{requirement_id}")
class GetRequirement(Request[Requirement]):
    """Get one requirement class."""

    requirement_id: int


@request("POST", "/workflows/{workflow_id}/resource-requirements", access="write")
class CreateRequirement(Request[Requirement]):
    """Add a requirement class."""

    workflow_id: int
    name: str = Field(min_length=1)
    num_cpus: int = Field(1, ge=1, le=2**31 - 1)
    num_gpus: int = Field(0, ge=0, le=2**31 - 1)
    num_nodes: int = Field(1, ge=1, le=2**31 - 1)
    memory_bytes: int = Field(DEFAULT_MEMORY_BYTES, ge=1, le=2**63 - 1)
    runtime_seconds: int = Field(DEFAULT_RUNTIME_SECONDS, ge=1, le=2**31 - 1)


@request("PATCH", "/resource-requirements/{requirement_id}", access="write")
class UpdateRequirement(Request[Requirement]):
    """Change a requirement class, for all jobs that use it and have not started."""

    requirement_id: int
    num_cpus: int | None = Field(None, ge=1, le=2**31 - 1)
    num_gpus: int | None = Field(None, ge=0, le=2**31 - 1)
    num_nodes: int | None = Field(None, ge=1, le=2**31 - 1)
    memory_bytes: int | None = Field(None, ge=1, le=2**63 - 1)
    runtime_seconds: int | None = Field(None, ge=1, le=2**31 - 1)


@request("DELETE", "/resource-requirements/{requirement_id}", access="write")
class DeleteRequirement(Request[None]):
    """Delete a requirement class that no job uses."""

    requirement_id: int


class FailureHandler(Value):
    """Rules for handling failed attempts, as in the spec."""

    id: int
    workflow_id: int
    name: str
    fields: dict[str, Any] = Field(description="as in the spec: `rules`")


class SlurmScheduler(Value):
    """The description of a Slurm allocation, as in the spec."""

    id: int
    workflow_id: int
    name: str
    fields: dict[str, Any] = Field(description="as in the spec: account, partition, nodes, walltime ...")


class WorkflowScheduler(Value):
    """The description of an allocation in a workflow's spec, for any batch scheduler."""

    id: int
    workflow_id: int
    type: SchedulerName = Field(description="the batch scheduler")
    name: str
    fields: dict[str, Any] = Field(description="as in the spec: account, partition, nodes, walltime ...")


@request("GET", "/workflows/{workflow_id}/schedulers")
class ListSchedulers(Request[Page[WorkflowScheduler]]):
    """List the allocation descriptions of a workflow, for all batch schedulers."""

    workflow_id: int
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("PATCH", "/schedulers/{scheduler_id}", access="write")
class UpdateScheduler(Request[WorkflowScheduler]):
    """Replace the fields of an allocation description; they are validated like those in a spec."""

    scheduler_id: int
    fields: dict[str, Any]


@request("GET", "/workflows/{workflow_id}/failure-handlers")
class ListFailureHandlers(Request[Page[FailureHandler]]):
    """List the failure handlers of a workflow."""

    workflow_id: int
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/failure-handlers/{failure_handler_id}")
class GetFailureHandler(Request[FailureHandler]):
    """Get one failure handler."""

    failure_handler_id: int


@request("POST", "/workflows/{workflow_id}/failure-handlers", access="write")
class CreateFailureHandler(Request[FailureHandler]):
    """Add a failure handler; its fields are validated like those in a spec."""

    workflow_id: int
    name: str = Field(min_length=1)
    fields: dict[str, Any]


@request("PATCH", "/failure-handlers/{failure_handler_id}", access="write")
class UpdateFailureHandler(Request[FailureHandler]):
    """Replace the fields of a failure handler."""

    failure_handler_id: int
    fields: dict[str, Any]


@request("DELETE", "/failure-handlers/{failure_handler_id}", access="write")
class DeleteFailureHandler(Request[None]):
    """Delete a failure handler that no job uses."""

    failure_handler_id: int


@request("GET", "/workflows/{workflow_id}/slurm-schedulers")
class ListSlurmSchedulers(Request[Page[SlurmScheduler]]):
    """List the Slurm schedulers of a workflow."""

    workflow_id: int
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/slurm-schedulers/{slurm_scheduler_id}")
class GetSlurmScheduler(Request[SlurmScheduler]):
    """Get one Slurm scheduler."""

    slurm_scheduler_id: int


@request("POST", "/workflows/{workflow_id}/slurm-schedulers", access="write")
class CreateSlurmScheduler(Request[SlurmScheduler]):
    """Add a Slurm scheduler; its fields are validated like those in a spec."""

    workflow_id: int
    name: str = Field(min_length=1)
    fields: dict[str, Any]


@request("PATCH", "/slurm-schedulers/{slurm_scheduler_id}", access="write")
class UpdateSlurmScheduler(Request[SlurmScheduler]):
    """Replace the fields of a Slurm scheduler."""

    slurm_scheduler_id: int
    fields: dict[str, Any]


@request("DELETE", "/slurm-schedulers/{slurm_scheduler_id}", access="write")
class DeleteSlurmScheduler(Request[None]):
    """Delete a Slurm scheduler that no job or action uses."""

    slurm_scheduler_id: int
