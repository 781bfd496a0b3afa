"""Estimates from history: what commands should ask for, by what their likes have used."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from torc.api.base import MEDIUM, Request, Value, request


class Suggestion(Value):
    """What a command should ask for, and what that was learnt from."""

    command: str
    program: str
    memory_bytes: int
    runtime_seconds: int
    num_samples: int = Field(description="completed attempts that it was learnt from")
    matched: Literal["command", "program"] = Field(
        description="they had the same command but for numbers, or only the same program"
    )
    most_memory_bytes: int
    longest_seconds: float


class Suggestions(Value):
    """Suggestions for those commands of which enough is known."""

    suggestions: list[Suggestion]
    unknown: list[str] = Field(description="commands of which too few likes have completed")
    num_attempts: int = Field(description="completed attempts that were looked at, the latest ones")


@request("POST", "/resource-suggestions", access="read", largest_body=MEDIUM)
class SuggestResources(Request[Suggestions]):
    """Suggest what commands should ask for, learnt from earlier jobs of all workflows that the caller may see.

    A margin is put on what 95 of 100 attempts stayed below; nobody is given less than a tenth more than the most that was
    used. Attempts that did not complete teach nothing: they may have been cut off. Changes nothing.
    """

    commands: list[str] = Field(min_length=1, max_length=10_000)
    margin: float = Field(1.3, ge=1.0, le=100.0)
    min_samples: int = Field(3, ge=1)
    history: int = Field(20_000, ge=1, le=200_000, description="look at so many of the latest attempts")


SuggestResources.writes = False  # a question, too long for a query


class CommandKind(Value):
    """Jobs of one class whose commands differ in numbers alone."""

    requirement: str
    command: str = Field(description="of the last of them")
    num_jobs: int


class CommandKinds(Value):
    """What the first jobs of a workflow run."""

    kinds: list[CommandKind]


@request("GET", "/workflows/{workflow_id}/command-kinds")
class ListCommandKinds(Request[CommandKinds]):
    """List what jobs run by class and command, but for numbers: one command of each kind."""

    workflow_id: int
    limit: int = Field(10_000, ge=1, le=100_000, description="look at so many of the first jobs")
