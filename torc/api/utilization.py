"""What jobs used, compared with what they requested."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from torc.api.base import Request, Value, request


class Spread(Value):
    """Distribution of use over the attempts of a class."""

    median: float
    p95: float = Field(description="95th percentile")
    most: float


class ClassUse(Value):
    """A requirement class, and what its attempts used."""

    requirement: str
    num_attempts: int
    num_cpus: int
    memory_bytes: int
    runtime_seconds: int
    memory: Spread = Field(description="peak of each attempt, bytes")
    wall: Spread = Field(description="seconds")
    cpus: Spread = Field(description="CPUs kept busy on average")
    advice: list[str] = Field([], description="resources of which it requests far more than it uses")


class Exceeded(Value):
    """An attempt that used more than it requested."""

    job_id: int
    job_name: str
    attempt: int
    requirement: str
    resource: Literal["memory", "runtime", "cpus"]
    asked: float = Field(description="bytes, seconds or CPUs")
    used: float


class Utilization(Value):
    """What a workflow's jobs used and requested."""

    workflow_id: int
    num_attempts: int
    classes: list[ClassUse] = Field(description="those with the most attempts first")
    exceeded: list[Exceeded] = Field(description="largest excess first, the first `limit`")
    num_exceeded: int


@request("GET", "/workflows/{workflow_id}/utilization")
class CheckUtilization(Request[Utilization]):
    """Compare what attempts used with what they requested: which used more, and which classes request far too much."""

    workflow_id: int
    run_id: int | None = Field(None, description="only this run; default: all runs")
    limit: int = Field(100, ge=0, le=10_000)


class Correction(Value):
    """A requirement class that requests more than its jobs use."""

    requirement_id: int
    requirement: str
    num_attempts: int = Field(description="number of attempts that this is based on")
    memory_bytes: int
    new_memory_bytes: int
    runtime_seconds: int
    new_runtime_seconds: int


class Corrections(Value):
    """What was reduced or, in a dry run, would be."""

    applied: bool
    corrections: list[Correction]


@request("POST", "/workflows/{workflow_id}/correct-resources", access="write", takes_long=True)
class CorrectResources(Request[Corrections]):
    """Reduce the requests of requirement classes to what their jobs have used, plus a margin.

    The new request is `factor` times the 95th percentile, but at least 10 % more than the highest use. Only classes with enough
    completed attempts are changed. Attempts that did not complete are ignored: they may have been cut off.
    """

    workflow_id: int
    factor: float = Field(1.5, ge=1.0, le=100.0, description="factor applied to the 95th percentile")
    min_attempts: int = Field(3, ge=1)
    dry_run: bool = False
