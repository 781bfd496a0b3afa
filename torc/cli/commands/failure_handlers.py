"""`torc failure-handlers`: what to do about failed attempts."""

from __future__ import annotations

from torc.api import data as api
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.commands.workflows import json_object
from torc.cli.named_objects import FIELD_COLUMNS as COLUMNS
from torc.cli.named_objects import Fields, Limit, Name, Workflow, asked, created, deleted, listed

failure_handlers = App("What to do about failed attempts.")


@failure_handlers.command("list")
def list_failure_handlers(workflow: Which = None, limit: Limit = 1000) -> None:
    """List failure handlers.

    Example: torc failure-handlers list 3
    """
    listed(lambda w, n, c: api.ListFailureHandlers(workflow_id=w, limit=n, cursor=c), workflow, limit, COLUMNS)


@failure_handlers.command("get")
def get_failure_handler(failure_handler_id: int) -> None:
    """Show one failure handler.

    Example: torc failure-handlers get 1
    """
    asked(api.GetFailureHandler(failure_handler_id=failure_handler_id), COLUMNS)


@failure_handlers.command("create")
def create_failure_handler(workflow: Workflow, name: Name, fields: Fields) -> None:
    """Add a failure handler.

    Example: torc failure-handlers create 3 --name retry --fields '{"rules": [{"exit_codes": [75]}]}'
    """
    created(
        lambda w: api.CreateFailureHandler(workflow_id=w, name=name, fields=json_object(fields, "--fields") or {}),
        workflow,
        COLUMNS,
    )


@failure_handlers.command("update")
def update_failure_handler(failure_handler_id: int, fields: Fields) -> None:
    """Replace the fields of a failure handler.

    Example: torc failure-handlers update 1 --fields '{"rules": [{"match_all_exit_codes": true}]}'
    """
    asked(
        api.UpdateFailureHandler(failure_handler_id=failure_handler_id, fields=json_object(fields, "--fields") or {}),
        COLUMNS,
    )


@failure_handlers.command("delete")
def delete_failure_handler(failure_handler_id: int) -> None:
    """Delete a failure handler that no job uses.

    Example: torc failure-handlers delete 1
    """
    deleted(api.DeleteFailureHandler(failure_handler_id=failure_handler_id), f"failure handler {failure_handler_id}")
