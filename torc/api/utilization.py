"""What jobs used, set against what they asked for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from torc.api.base import Request, Value, request


class Spread(Value):
    """How much the attempts of a class used."""

    median: float
    p95: float = Field(description="95 of 100 used no more")
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
    advice: list[str] = Field([], description="of what it asks for far more than it uses")


class Exceeded(Value):
    """An attempt that used more than it asked for."""

    job_id: int
    job_name: str
    attempt: int
    requirement: str
    resource: Literal["memory", "runtime", "cpus"]
    asked: float = Field(description="bytes, seconds or CPUs")
    used: float


class Utilization(Value):
    """What a workflow's jobs used and asked for."""

    workflow_id: int
    num_attempts: int
    classes: list[ClassUse] = Field(description="those with the most attempts first")
    exceeded: list[Exceeded] = Field(description="furthest above what was asked for first, the first `limit`")
    num_exceeded: int


@request("GET", "/workflows/{workflow_id}/utilization")
class CheckUtilization(Request[Utilization]):
    """Set what attempts used against what they asked for: who used more, and which classes ask for far too much."""

    workflow_id: int
    run_id: int | None = Field(None, description="only this run; left out: all of them")
    limit: int = Field(100, ge=0, le=10_000)


class Correction(Value):
    """A requirement class that asks for more than its jobs use."""

    requirement_id: int
    requirement: str
    num_attempts: int = Field(description="that this was learnt from")
    memory_bytes: int
    new_memory_bytes: int
    runtime_seconds: int
    new_runtime_seconds: int


class Corrections(Value):
    """What was lowered or, in a dry run, would be."""

    applied: bool
    corrections: list[Correction]


@request("POST", "/workflows/{workflow_id}/correct-resources", access="write", takes_long=True)
class CorrectResources(Request[Corrections]):
    """Lower what requirement classes ask for to what their jobs have used, with some room.

    That is `factor` times what 95 of 100 attempts stayed below, and never less than a tenth more than the most that was used.
    Only of classes that enough attempts have completed of. Attempts that did not complete teach nothing: they may have been
    cut off.
    """

    workflow_id: int
    factor: float = Field(1.5, ge=1.0, le=100.0, description="times what 95 of 100 attempts stayed below")
    min_attempts: int = Field(3, ge=1)
    dry_run: bool = False
