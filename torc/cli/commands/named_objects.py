"""`torc failure-handlers` and `torc slurm-schedulers`: things with the fields of a spec."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torc.api import data as api
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.data_objects import Limit, Name, Workflow, asked, created, deleted, listed
from torc.cli.commands.status import Which
from torc.cli.commands.workflows import json_object

failure_handlers = App("What to do about failed attempts.")
slurm_schedulers = App("Slurm allocations of a workflow.")
Fields = Annotated[str, typer.Option("--fields", help="A JSON object with the fields of the spec.")]
_COLUMNS = rendering.columns("id", "name", "fields")


def _fields(text: str) -> dict[str, Any]:
    return json_object(text, "--fields") or {}


@failure_handlers.command("list")
def list_failure_handlers(workflow: Which = None, limit: Limit = 1000) -> None:
    """List failure handlers.

    Example: torc failure-handlers list 3
    """
    listed(lambda w, n, c: api.ListFailureHandlers(workflow_id=w, limit=n, cursor=c), workflow, limit, _COLUMNS)


@failure_handlers.command("get")
def get_failure_handler(failure_handler_id: int) -> None:
    """Show one failure handler.

    Example: torc failure-handlers get 1
    """
    asked(api.GetFailureHandler(failure_handler_id=failure_handler_id), _COLUMNS)


@failure_handlers.command("create")
def create_failure_handler(workflow: Workflow, name: Name, fields: Fields) -> None:
    """Add a failure handler.

    Example: torc failure-handlers create 3 --name retry --fields '{"rules": [{"exit_codes": [75]}]}'
    """
    created(lambda w: api.CreateFailureHandler(workflow_id=w, name=name, fields=_fields(fields)), workflow, _COLUMNS)


@failure_handlers.command("update")
def update_failure_handler(failure_handler_id: int, fields: Fields) -> None:
    """Replace the fields of a failure handler.

    Example: torc failure-handlers update 1 --fields '{"rules": [{"match_all_exit_codes": true}]}'
    """
    asked(api.UpdateFailureHandler(failure_handler_id=failure_handler_id, fields=_fields(fields)), _COLUMNS)


@failure_handlers.command("delete")
def delete_failure_handler(failure_handler_id: int) -> None:
    """Delete a failure handler that no job uses.

    Example: torc failure-handlers delete 1
    """
    deleted(api.DeleteFailureHandler(failure_handler_id=failure_handler_id), f"failure handler {failure_handler_id}")


@slurm_schedulers.command("list")
def list_slurm_schedulers(workflow: Which = None, limit: Limit = 1000) -> None:
    """List Slurm schedulers.

    Example: torc slurm-schedulers list 3
    """
    listed(lambda w, n, c: api.ListSlurmSchedulers(workflow_id=w, limit=n, cursor=c), workflow, limit, _COLUMNS)


@slurm_schedulers.command("get")
def get_slurm_scheduler(slurm_scheduler_id: int) -> None:
    """Show one Slurm scheduler.

    Example: torc slurm-schedulers get 1
    """
    asked(api.GetSlurmScheduler(slurm_scheduler_id=slurm_scheduler_id), _COLUMNS)


@slurm_schedulers.command("create")
def create_slurm_scheduler(workflow: Workflow, name: Name, fields: Fields) -> None:
    """Add a Slurm scheduler.

    Example: torc slurm-schedulers create 3 --name short --fields '{"account": "proj", "walltime": "04:00:00"}'
    """
    created(lambda w: api.CreateSlurmScheduler(workflow_id=w, name=name, fields=_fields(fields)), workflow, _COLUMNS)


@slurm_schedulers.command("update")
def update_slurm_scheduler(slurm_scheduler_id: int, fields: Fields) -> None:
    """Replace the fields of a Slurm scheduler.

    Example: torc slurm-schedulers update 1 --fields '{"account": "proj", "nodes": 2}'
    """
    asked(api.UpdateSlurmScheduler(slurm_scheduler_id=slurm_scheduler_id, fields=_fields(fields)), _COLUMNS)


@slurm_schedulers.command("delete")
def delete_slurm_scheduler(slurm_scheduler_id: int) -> None:
    """Delete a Slurm scheduler that no job uses.

    Example: torc slurm-schedulers delete 1
    """
    deleted(api.DeleteSlurmScheduler(slurm_scheduler_id=slurm_scheduler_id), f"Slurm scheduler {slurm_scheduler_id}")
