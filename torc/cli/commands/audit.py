"""`torc audit`: who did what from where."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from torc.api import access_groups as api
from torc.cli import rendering
from torc.cli.connection import torc
from torc.cli.named_objects import Limit

_COLUMNS = [
    ("id", rendering.attribute("id")),
    ("time", lambda a: rendering.when(a.time)),
    *rendering.columns("actor", "address"),
    ("token", rendering.attribute("token_id")),
    *rendering.columns("action"),
    ("workflow", rendering.attribute("workflow_id")),
    ("data", lambda a: json.dumps(a.data, ensure_ascii=False)),
]


def audit(
    workflow: Annotated[int | None, typer.Option("--workflow", help="Only entries about this workflow (id).")] = None,
    actor: Annotated[
        str | None,
        typer.Option("--actor", help="Only actors that match this pattern, such as user:alice, with * and ?."),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option("--action", help="Only actions that match this pattern, such as DeleteWorkflow, with * and ?."),
    ] = None,
    limit: Limit = 100,
) -> None:
    """Show who did what through a server, and from where, newest first. Administrators only.

    Example: torc audit --action 'Delete*'
    """
    with torc(create=False) as opened:
        items, more = rendering.all_pages(
            lambda cursor: opened.send(
                api.ListAudit(workflow_id=workflow, actor=actor, action=action, limit=min(limit, 10_000), cursor=cursor)
            ),
            limit,
        )
    rendering.show_list(items, _COLUMNS, empty="nothing was done through a server", more=more)
