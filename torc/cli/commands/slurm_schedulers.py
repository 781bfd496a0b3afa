"""`torc slurm-schedulers`: the Slurm allocations that a workflow describes."""

from __future__ import annotations

from torc.api import data as api
from torc.cli.fields_commands import FieldsRequests, commands_for

slurm_schedulers = commands_for(
    "Slurm allocations of a workflow.",
    "Slurm scheduler",
    ("short", '{"account": "proj", "walltime": "04:00:00"}', '{"account": "proj", "nodes": 2}'),
    FieldsRequests(
        list=lambda workflow, limit, cursor: api.ListSlurmSchedulers(workflow_id=workflow, limit=limit, cursor=cursor),
        get=lambda number: api.GetSlurmScheduler(slurm_scheduler_id=number),
        create=lambda workflow, name, fields: api.CreateSlurmScheduler(workflow_id=workflow, name=name, fields=fields),
        update=lambda number, fields: api.UpdateSlurmScheduler(slurm_scheduler_id=number, fields=fields),
        delete=lambda number: api.DeleteSlurmScheduler(slurm_scheduler_id=number),
    ),
)
