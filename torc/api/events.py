"""The event log."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from torc.api.base import Page, Request, Value, request


class Event(Value):
    """Something that happened. State changes of several jobs at once are one event: `job_ids` in `data` lists them."""

    id: int
    workflow_id: int
    time: float = Field(description="seconds since the epoch, UTC")
    type: str = Field(description="workflow_created, run_started, jobs_completed, jobs_failed, runner_registered ...")
    actor: str = Field(description="who did it: user:NAME, runner:ID, automation:NAME, assistant:NAME")
    job_id: int | None = Field(None, description="when it concerns exactly one job")
    data: dict[str, Any] = {}


@request("GET", "/workflows/{workflow_id}/events")
class ListEvents(Request[Page[Event]]):
    """List events of a workflow, oldest first; `after` and `wait_seconds` follow new events."""

    workflow_id: int
    type: str | None = None
    job_id: int | None = None
    after: int | None = Field(None, description="only events with a larger id")
    newest_first: bool = False
    wait_seconds: float = Field(0.0, ge=0.0, le=60.0, description="wait up to this long if there is none yet")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/events/{event_id}")
class GetEvent(Request[Event]):
    """Get one event."""

    event_id: int
