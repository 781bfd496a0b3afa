"""List, show, create and delete what belongs to a workflow and has a name: files, user data, requirements and so on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torc.cli import rendering
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION
from torc.errors import Invalid

Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Id or name of the workflow.")]
Name = Annotated[str, typer.Option("--name", help="Unique within the workflow.")]
OnlyName = Annotated[str | None, typer.Option("--name", help="Only names that match this pattern, with * and ?.")]
Limit = Annotated[int, typer.Option("--limit", min=1)]
Fields = Annotated[str, typer.Option("--fields", help="A JSON object with the fields of the spec.")]
#: of what is shown by the fields that a spec gives it
FIELD_COLUMNS = rendering.columns("id", "name", "fields")


def listed(make: Any, workflow: str | None, limit: int, columns: Any) -> None:
    """Ask page by page and print. `make` takes the workflow's id, a limit and a cursor."""
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        items, more = rendering.all_pages(lambda cursor: opened.send(make(number, min(limit, 10_000), cursor)), limit)
    rendering.show_list(items, columns, more=more)


def asked(request: Any, columns: Any) -> None:
    """Ask for one thing and print it."""
    with torc(create=False) as opened:
        rendering.show_one(opened.send(request), columns)


def created(make: Any, workflow: str, columns: Any) -> None:
    """Make one thing and print it. `make` takes the workflow's id."""
    with torc(create=False) as opened:
        rendering.show_one(opened.send(make(workflow_id(opened, workflow))), columns)


def deleted(request: Any, what: str) -> None:
    """Delete one thing and say so."""
    with torc(create=False) as opened:
        opened.send(request)
    done({"deleted": what}, f"deleted {what}")


def checked(kind: Any, **fields: Any) -> Any:
    """Make a request. Raises Invalid, without what was given: it may be a password."""
    from pydantic import ValidationError

    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(part for part in first["loc"] if isinstance(part, str))  # not the place in a list
        raise Invalid(f"`{where}`: {first['msg']}", hint="`--help` tells what is taken") from None


def done(value: dict[str, Any], message: str) -> None:
    """Print what was done: `value` as JSON, or `message`."""
    rendering.show_json(value) if SESSION.json else print(message)
