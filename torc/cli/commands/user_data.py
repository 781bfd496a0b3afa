"""`torc user-data`: JSON that jobs pass on."""

from __future__ import annotations

from typing import Annotated

import typer

from torc.api import data as api
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.commands.workflows import json_value
from torc.cli.named_objects import Limit, Name, OnlyName, Workflow, asked, created, deleted, listed

user_data = App("JSON that jobs exchange.")
_COLUMNS = rendering.columns("id", "name", "data", "is_ephemeral", "producer")


@user_data.command("list")
def list_user_data(workflow: Which = None, name: OnlyName = None, limit: Limit = 1000) -> None:
    """List the user data of a workflow.

    Example: torc user-data list 3
    """
    listed(lambda w, n, c: api.ListUserData(workflow_id=w, name=name, limit=n, cursor=c), workflow, limit, _COLUMNS)


@user_data.command("get")
def get_user_data(user_data_id: int) -> None:
    """Show one piece of user data.

    Example: torc user-data get 4 -f json
    """
    asked(api.GetUserData(user_data_id=user_data_id), _COLUMNS)


@user_data.command("create")
def create_user_data(
    workflow: Workflow,
    name: Name,
    data: Annotated[str, typer.Option("--data", help="JSON.")] = "null",
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Clear it when the workflow is reset.")] = False,
) -> None:
    """Add user data.

    Example: torc user-data create 3 --name limits --data '{"low": 1}'
    """
    value = json_value(data, "--data")
    created(
        lambda w: api.CreateUserData(workflow_id=w, name=name, data=value, is_ephemeral=ephemeral), workflow, _COLUMNS
    )


@user_data.command("update")
def update_user_data(user_data_id: int, data: Annotated[str, typer.Option("--data", help="JSON.")]) -> None:
    """Change user data. Jobs use this to pass on results.

    Example: torc user-data update 4 --data '{"best": 0.1}'
    """
    asked(api.SetUserData(user_data_id=user_data_id, data=json_value(data, "--data")), _COLUMNS)


@user_data.command("delete")
def delete_user_data(user_data_id: int) -> None:
    """Delete user data that no job reads or writes.

    Example: torc user-data delete 4
    """
    deleted(api.DeleteUserData(user_data_id=user_data_id), f"user data {user_data_id}")
