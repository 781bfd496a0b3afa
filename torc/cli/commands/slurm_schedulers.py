"""`torc slurm-schedulers`: the Slurm allocations that a workflow describes."""

from __future__ import annotations

from torc.api import data as api
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.commands.workflows import json_object
from torc.cli.named_objects import FIELD_COLUMNS as COLUMNS
from torc.cli.named_objects import Fields, Limit, Name, Workflow, asked, created, deleted, listed

slurm_schedulers = App("Slurm allocations of a workflow.")


@slurm_schedulers.command("list")
def list_slurm_schedulers(workflow: Which = None, limit: Limit = 1000) -> None:
    """List Slurm schedulers.

    Example: torc slurm-schedulers list 3
    """
    listed(lambda w, n, c: api.ListSlurmSchedulers(workflow_id=w, limit=n, cursor=c), workflow, limit, COLUMNS)


@slurm_schedulers.command("get")
def get_slurm_scheduler(slurm_scheduler_id: int) -> None:
    """Show one Slurm scheduler.

    Example: torc slurm-schedulers get 1
    """
    asked(api.GetSlurmScheduler(slurm_scheduler_id=slurm_scheduler_id), COLUMNS)


@slurm_schedulers.command("create")
def create_slurm_scheduler(workflow: Workflow, name: Name, fields: Fields) -> None:
    """Add a Slurm scheduler.

    Example: torc slurm-schedulers create 3 --name short --fields '{"account": "proj", "walltime": "04:00:00"}'
    """
    created(
        lambda w: api.CreateSlurmScheduler(workflow_id=w, name=name, fields=json_object(fields, "--fields") or {}),
        workflow,
        COLUMNS,
    )


@slurm_schedulers.command("update")
def update_slurm_scheduler(slurm_scheduler_id: int, fields: Fields) -> None:
    """Replace the fields of a Slurm scheduler.

    Example: torc slurm-schedulers update 1 --fields '{"account": "proj", "nodes": 2}'
    """
    asked(
        api.UpdateSlurmScheduler(slurm_scheduler_id=slurm_scheduler_id, fields=json_object(fields, "--fields") or {}),
        COLUMNS,
    )


@slurm_schedulers.command("delete")
def delete_slurm_scheduler(slurm_scheduler_id: int) -> None:
    """Delete a Slurm scheduler that no job uses.

    Example: torc slurm-schedulers delete 1
    """
    deleted(api.DeleteSlurmScheduler(slurm_scheduler_id=slurm_scheduler_id), f"Slurm scheduler {slurm_scheduler_id}")
