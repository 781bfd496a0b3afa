"""`torc events`: what happened, and who did it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from torc.api.events import GetEvent, ListEvents
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.connection import torc, workflow_id
from torc.cli.named_objects import Limit
from torc.cli.session import SESSION
from torc.cli.terminal import must_be_heard, print_json

events = App("Show what happened, and who did it.")
_WAIT_SECONDS = 10.0
_COLUMNS = [
    ("id", rendering.attribute("id")),
    ("time", lambda e: rendering.when(e.time)),
    ("type", rendering.attribute("type")),
    ("actor", rendering.attribute("actor")),
    ("data", lambda e: json.dumps(e.data, ensure_ascii=False)),
]


@events.command("list")
def list_events(
    workflow: Which = None,
    kind: Annotated[str | None, typer.Option("--type", "-t", help="Only events of this type.")] = None,
    newest_first: Annotated[bool, typer.Option("--newest-first")] = False,
    limit: Limit = 1000,
) -> None:
    """List events, oldest first.

    Example: torc events list 3 --type jobs_failed
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        items, more = rendering.all_pages(
            lambda cursor: opened.send(
                ListEvents(
                    workflow_id=number, type=kind, newest_first=newest_first, limit=min(limit, 10_000), cursor=cursor
                )
            ),
            limit,
        )
    rendering.show_list(items, _COLUMNS, empty="no events", more=more)


@events.command("get")
def get_event(event_id: int) -> None:
    """Show one event.

    Example: torc events get 7
    """
    with torc(create=False) as opened:
        rendering.show_one(opened.send(GetEvent(event_id=event_id)), _COLUMNS)


@events.command()
def monitor(workflow: Which = None) -> None:
    """Print events as they occur, until the workflow ends or you press Ctrl-C.

    Example: torc events monitor 3
    """
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        after = 0
        while True:
            page = opened.send(ListEvents(workflow_id=number, after=after, wait_seconds=_WAIT_SECONDS, limit=1000))
            for event in page.items:
                after = event.id
                _print_event(event)
            if any(event.type == "run_ended" for event in page.items):
                return


def _print_event(event: Any) -> None:
    if SESSION.json:
        print_json(event.model_dump_json())
    else:
        print(
            f"{rendering.when(event.time)}  {event.type}  {event.actor}  {json.dumps(event.data, ensure_ascii=False)[:200]}"
        )
    must_be_heard()
