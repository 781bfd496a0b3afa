"""The five commands about objects of a workflow that are a name and the fields of a spec: list, get, create, update, delete.

Annotations are values here, not text: those of the commands name a type that is made for each kind of object.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import typer

from torc.api.base import Request
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.commands.workflows import json_object
from torc.cli.named_objects import FIELD_COLUMNS as COLUMNS
from torc.cli.named_objects import Fields, Limit, Name, Workflow, asked, created, deleted, listed


class FieldsRequests(NamedTuple):
    """What is asked of the store about one kind of object."""

    list: Callable[[int, int, str | None], Request[Any]]  # workflow, limit, cursor
    get: Callable[[int], Request[Any]]
    create: Callable[[int, str, dict[str, Any]], Request[Any]]  # workflow, name, fields
    update: Callable[[int, dict[str, Any]], Request[Any]]
    delete: Callable[[int], Request[Any]]


def commands_for(about: str, noun: str, example: tuple[str, str, str], requests: FieldsRequests) -> App:
    """Make the commands. `example`: a name, fields to create it with, and fields to change it to."""
    app = App(about)
    command = f"torc {noun.lower().replace(' ', '-')}s"
    article = f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"
    name, fields, changed = example
    Id = Annotated[int, typer.Argument(metavar=noun.upper().replace(" ", "_") + "_ID")]

    def list_(workflow: Which = None, limit: Limit = 1000) -> None:
        listed(requests.list, workflow, limit, COLUMNS)

    def get(number: Id) -> None:
        asked(requests.get(number), COLUMNS)

    def create(workflow: Workflow, name: Name, fields: Fields) -> None:
        given = json_object(fields, "--fields") or {}
        created(lambda number: requests.create(number, name, given), workflow, COLUMNS)

    def update(number: Id, fields: Fields) -> None:
        asked(requests.update(number, json_object(fields, "--fields") or {}), COLUMNS)

    def delete(number: Id) -> None:
        deleted(requests.delete(number), f"{noun} {number}")

    for function, what, line in (
        (list_, f"List {noun}s.", "list 3"),
        (get, f"Show one {noun}.", "get 1"),
        (create, f"Add {article}.", f"create 3 --name {name} --fields '{fields}'"),
        (update, f"Replace the fields of {article}.", f"update 1 --fields '{changed}'"),
        (delete, f"Delete {article} that no job uses.", "delete 1"),
    ):
        function.__doc__ = f"{what}\n\nExample: {command} {line}"
        app.command(function.__name__.strip("_"))(function)
    return app
