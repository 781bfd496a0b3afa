"""Estimates from history: what commands should request, given what similar commands have used."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from torc.api.base import MEDIUM, Request, Value, request


class Suggestion(Value):
    """What a command should request, and on what evidence."""

    command: str
    program: str
    memory_bytes: int
    runtime_seconds: int
    num_samples: int = Field(description="number of completed attempts that it is based on")
    matched: Literal["command", "program"] = Field(
        description="they had the same command apart from numbers, or only the same program"
    )
    most_memory_bytes: int
    longest_seconds: float


class Suggestions(Value):
    """Suggestions for the commands about which enough is known."""

    suggestions: list[Suggestion]
    unknown: list[str] = Field(description="commands with too few similar completed attempts")
    num_attempts: int = Field(description="number of latest completed attempts examined")


@request("POST", "/resource-suggestions", access="read", largest_body=MEDIUM)
class SuggestResources(Request[Suggestions]):
    """Suggest what commands should request, based on earlier jobs of all workflows that the caller may see.

    The suggestion is the 95th percentile of what completed attempts used times `margin`, but at least 10 % more than the highest use.
    Attempts that did not complete are ignored: they may have been cut off. Changes nothing.
    """

    commands: list[str] = Field(min_length=1, max_length=10_000)
    margin: float = Field(1.3, ge=1.0, le=100.0)
    min_samples: int = Field(3, ge=1)
    history: int = Field(20_000, ge=1, le=200_000, description="number of latest attempts to examine")


SuggestResources.writes = False  # a query, but too long for a URL


class CommandKind(Value):
    """Jobs of one class whose commands differ only in numbers."""

    requirement: str
    command: str = Field(description="of the last such job")
    num_jobs: int


class CommandKinds(Value):
    """The kinds of commands among the first jobs of a workflow."""

    kinds: list[CommandKind]


@request("GET", "/workflows/{workflow_id}/command-kinds")
class ListCommandKinds(Request[CommandKinds]):
    """List the kinds of commands by class and command (ignoring numbers), with one example of each."""

    workflow_id: int
    limit: int = Field(10_000, ge=1, le=100_000, description="number of jobs to examine, from the first")
