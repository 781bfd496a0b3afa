"""Follows a workflow whose runners live in allocations: says how both stand, and submits what becomes due. Ctrl-C leaves them alone."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torc.api.base import Torc
from torc.api.events import ListEvents
from torc.cli import rendering
from torc.cli.allocations import shown_state
from torc.cli.commands.run import summarize
from torc.cli.session import SESSION
from torc.display_text import visible_line
from torc.errors import Unavailable

_WAIT_SECONDS = 5.0
_MOST_REASONS = 3
INTERRUPTED = 130


def follow(opened: Torc, number: int, folder: Path) -> int:
    """Follow to the end, and give the exit code: as `torc run`, or 130 when somebody stopped the following."""
    from torc.cli.cluster_access import scheduler_for, take_in_left
    from torc.schedulers.follow import Follower

    scheduler = scheduler_for(opened, number, folder)
    follower = Follower(opened, number, scheduler, before_looking=lambda: take_in_left(opened, number, folder))
    newest = opened.send(ListEvents(workflow_id=number, newest_first=True, limit=1)).items
    after, shown = newest[0].id if newest else 0, ""
    try:
        while True:
            now = follower.step()
            line = _line(now)
            if line != shown and not SESSION.json:
                print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr)
                shown = line
            for item in (*now.submitted, *now.changed):
                _tell(item, folder)
            if _is_over(now):
                break
            wait = min(_WAIT_SECONDS, max(0.2, follower.pace.wait()))
            page = opened.send(ListEvents(workflow_id=number, after=after, wait_seconds=wait, limit=10_000))
            after = page.items[-1].id if page.items else after
    except KeyboardInterrupt:
        say_how_to_come_back(number, scheduler.type.name)
        return INTERRUPTED
    except Unavailable:  # the store: a cluster that is away is waited for
        say_how_to_come_back(number, scheduler.type.name)
        raise
    code = summarize(opened, number, folder)
    if now.workflow.ended_at is None and not SESSION.json:
        from torc.schedulers.unfit_jobs import unfit_jobs

        rendering.note(f"no allocation is left, and jobs are: torc submit {number} asks for more")
        for line in unfit_jobs(opened, number, scheduler):
            rendering.note(f"  {visible_line(line)}")
        return code or 1
    if now.workflow.state == "failed" and not SESSION.json:
        rendering.note(
            f"more memory or time for jobs that lacked it, in new allocations: torc watch {number} --recover"
        )
    return code


def say_how_to_come_back(number: int, scheduler: str) -> None:
    """Say that the allocations go on, and how to see or end them."""
    rendering.note("the allocations go on without you")
    rendering.note(f"  come back:    torc watch {number}")
    rendering.note(f"  look:         torc status {number}; torc {scheduler} list {number}")
    rendering.note(
        f"  end them:     torc {scheduler} cancel {number}; the whole workflow: torc workflows cancel {number}"
    )


def _is_over(now: Any) -> bool:
    if now.workflow.ended_at is not None:
        return True
    return not now.open and now.workflow.state != "running"


def _line(now: Any) -> str:
    workflow = now.workflow
    counts = ", ".join(f"{count:,} {state}" for state, count in sorted(workflow.counts.by_state.items()))
    return f"{workflow.name} {shown_state(workflow, now.open)}: {counts}{_places(now.open)}"


def _places(items: Sequence[Any]) -> str:
    if not items:
        return ""
    states = Counter(str(item.state) for item in items)
    reasons = Counter(item.reason for item in items if item.state in {"submitting", "pending"} and item.reason)
    why = f" ({', '.join(reason for reason, _ in reasons.most_common(_MOST_REASONS))})" if reasons else ""
    return "; allocations: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())) + why


def _tell(item: Any, folder: Path) -> None:
    """Say what became of an allocation, where that is worth a line."""
    name = f"allocation {item.cluster_job_id or item.id} ({item.scheduler or item.name})"
    if item.state == "ended" and item.cluster_job_id is None:
        rendering.note(f"  {name} was refused: {item.reason}")
    elif item.cluster_state == "DEFERRED":
        rendering.note(f"  {name} is deferred and will be submitted again: {item.reason}")
    elif item.state == "ended" and item.cluster_state not in {None, "COMPLETED", "CANCELLED"}:
        rendering.note(f"  {name} ended: {item.cluster_state}{f', {item.reason}' if item.reason else ''}")
    if item.state == "ended" and item.started_at is not None and not item.num_runners:
        _tell_log(item, name, folder)


def _tell_log(item: Any, name: str, folder: Path) -> None:
    """Show the end of the log of an allocation from which no runner was ever heard: most often it could not reach the server."""
    from torc.schedulers.logs import last_lines

    lines = last_lines(folder, item.workflow_id, item.cluster_job_id or "")
    if not lines:
        rendering.note(f"  no runner of {name} ever reported, and there is no log in {folder}")
        return
    rendering.note(f"  no runner of {name} ever reported. Its log ends with:")
    for line in lines:
        rendering.note(f"    {visible_line(line)}")
