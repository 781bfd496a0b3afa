"""What jobs refer to by name: resource requirement classes, failure handlers, Slurm schedulers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import RowMapping

from torc.api import data as api
from torc.api.base import Page
from torc.errors import Conflict
from torc.operations.dispatch import Tx, answers
from torc.operations.named_objects import (
    ObjectKind,
    checked,
    delete_part,
    insert_part,
    locked_part,
    page_of,
    part_row,
    update_part,
)
from torc.planning.scheduler_types import DEFAULT_TYPE, ROW_KINDS, SCHEDULER_TYPES
from torc.spec import model
from torc.store import attempts, jobs, requirements, spec_rows
from torc.store.conditions import Conditions
from torc.store.json_columns import loads
from torc.store.named import OF_SCHEDULERS

REQUIREMENT = ObjectKind("requirement", "resource requirement", "resource-requirements")
HANDLER = ObjectKind("named", "failure handler", "failure-handlers", "failure_handler")
SCHEDULERS = {
    each.name: ObjectKind("named", each.noun, each.commands, each.row_kind) for each in SCHEDULER_TYPES.values()
}
SLURM = SCHEDULERS["slurm"]


# -- requirement classes ----------------------------------------------------------------------------------------


def _requirement(row: RowMapping, num_jobs: int | None = None) -> api.Requirement:
    return api.Requirement(**{key: row[key] for key in row}, num_jobs=num_jobs)


@answers(api.ListRequirements)
def list_requirements(tx: Tx, request: api.ListRequirements) -> Page[api.Requirement]:
    """List requirement classes."""
    rows, cursor = page_of(tx, REQUIREMENT, request)
    return Page(items=[_requirement(row) for row in rows], cursor=cursor)


@answers(api.GetRequirement)
def get_requirement(tx: Tx, request: api.GetRequirement) -> api.Requirement:
    """Get one requirement class."""
    row = part_row(tx, REQUIREMENT, request.requirement_id)
    num_jobs = requirements.num_jobs(tx.db, tx.dialect, row["workflow_id"], row["id"])
    return _requirement(row, num_jobs)


@answers(api.CreateRequirement)
def create_requirement(tx: Tx, request: api.CreateRequirement) -> api.Requirement:
    """Add a requirement class."""
    values = request.model_dump(exclude={"workflow_id", "name"})
    number = insert_part(tx, REQUIREMENT, request.workflow_id, request.name, values)
    return get_requirement(tx, api.GetRequirement(requirement_id=number))


@answers(api.UpdateRequirement)
def update_requirement(tx: Tx, request: api.UpdateRequirement) -> api.Requirement:
    """Change a requirement class."""
    values = request.model_dump(exclude={"requirement_id"}, exclude_none=True)
    update_part(tx, REQUIREMENT, locked_part(tx, REQUIREMENT, request.requirement_id), values)
    return get_requirement(tx, api.GetRequirement(requirement_id=request.requirement_id))


@answers(api.DeleteRequirement)
def delete_requirement(tx: Tx, request: api.DeleteRequirement) -> None:
    """Delete a requirement class that no job uses."""
    delete_part(tx, REQUIREMENT, request.requirement_id, _jobs_with(tx, "requirement_id"))
    attempts.forget_requirement(tx.db, request.requirement_id)


def _jobs_with(tx: Tx, column: jobs.Reference) -> Callable[[RowMapping], str | None]:
    return lambda row: jobs.first_with(tx.db, tx.dialect, row["workflow_id"], column, row["id"])


# -- failure handlers and Slurm schedulers ----------------------------------------------------------------------


def _fields(kind: type[model.SpecPart], name: str, fields: Mapping[str, Any]) -> dict[str, str]:
    checked(kind, **{**fields, "name": name})
    return {"fields": json.dumps({key: value for key, value in fields.items() if key != "name"})}


def _handler(row: RowMapping) -> api.FailureHandler:
    return api.FailureHandler(
        id=row["id"], workflow_id=row["workflow_id"], name=row["name"], fields=loads(row["fields"], {})
    )


def _scheduler(row: RowMapping) -> api.SlurmScheduler:
    return api.SlurmScheduler(
        id=row["id"], workflow_id=row["workflow_id"], name=row["name"], fields=loads(row["fields"], {})
    )


@answers(api.ListFailureHandlers)
def list_failure_handlers(tx: Tx, request: api.ListFailureHandlers) -> Page[api.FailureHandler]:
    """List failure handlers."""
    rows, cursor = page_of(tx, HANDLER, request)
    return Page(items=[_handler(row) for row in rows], cursor=cursor)


@answers(api.GetFailureHandler)
def get_failure_handler(tx: Tx, request: api.GetFailureHandler) -> api.FailureHandler:
    """Get one failure handler."""
    return _handler(part_row(tx, HANDLER, request.failure_handler_id))


@answers(api.CreateFailureHandler)
def create_failure_handler(tx: Tx, request: api.CreateFailureHandler) -> api.FailureHandler:
    """Add a failure handler."""
    fields = _fields(model.FailureHandlerSpec, request.name, request.fields)
    number = insert_part(tx, HANDLER, request.workflow_id, request.name, fields)
    return get_failure_handler(tx, api.GetFailureHandler(failure_handler_id=number))


@answers(api.UpdateFailureHandler)
def update_failure_handler(tx: Tx, request: api.UpdateFailureHandler) -> api.FailureHandler:
    """Replace the fields of a failure handler."""
    row = locked_part(tx, HANDLER, request.failure_handler_id)
    update_part(tx, HANDLER, row, _fields(model.FailureHandlerSpec, row["name"], request.fields))
    return get_failure_handler(tx, api.GetFailureHandler(failure_handler_id=row["id"]))


@answers(api.DeleteFailureHandler)
def delete_failure_handler(tx: Tx, request: api.DeleteFailureHandler) -> None:
    """Delete a failure handler that no job uses."""
    delete_part(tx, HANDLER, request.failure_handler_id, _jobs_with(tx, "failure_handler_id"))


def _any_scheduler(row: RowMapping) -> api.WorkflowScheduler:
    return api.WorkflowScheduler(
        id=row["id"],
        workflow_id=row["workflow_id"],
        type=ROW_KINDS[row["kind"]].name,
        name=row["name"],
        fields=loads(row["fields"], {}),
    )


@answers(api.ListSchedulers)
def list_schedulers(tx: Tx, request: api.ListSchedulers) -> Page[api.WorkflowScheduler]:
    """List schedulers of all types."""
    of_any = ObjectKind("named", DEFAULT_TYPE.noun, DEFAULT_TYPE.commands)
    rows, cursor = page_of(tx, of_any, request, Conditions(f"t.kind {OF_SCHEDULERS}"))
    return Page(items=[_any_scheduler(row) for row in rows], cursor=cursor)


@answers(api.UpdateScheduler)
def update_scheduler(tx: Tx, request: api.UpdateScheduler) -> api.WorkflowScheduler:
    """Replace the fields of a scheduler, whatever its type."""
    found = part_row(tx, ObjectKind("named", DEFAULT_TYPE.noun, DEFAULT_TYPE.commands), request.scheduler_id)
    of = ROW_KINDS.get(found["kind"], DEFAULT_TYPE)  # what is no scheduler is not found among those of that type
    row = locked_part(tx, SCHEDULERS[of.name], request.scheduler_id)
    update_part(tx, SCHEDULERS[of.name], row, _fields(model.SCHEDULER_MODELS[of.name], row["name"], request.fields))
    return _any_scheduler(part_row(tx, SCHEDULERS[of.name], row["id"]))


@answers(api.ListSlurmSchedulers)
def list_slurm_schedulers(tx: Tx, request: api.ListSlurmSchedulers) -> Page[api.SlurmScheduler]:
    """List Slurm schedulers."""
    rows, cursor = page_of(tx, SLURM, request)
    return Page(items=[_scheduler(row) for row in rows], cursor=cursor)


@answers(api.GetSlurmScheduler)
def get_slurm_scheduler(tx: Tx, request: api.GetSlurmScheduler) -> api.SlurmScheduler:
    """Get one Slurm scheduler."""
    return _scheduler(part_row(tx, SLURM, request.slurm_scheduler_id))


@answers(api.CreateSlurmScheduler)
def create_slurm_scheduler(tx: Tx, request: api.CreateSlurmScheduler) -> api.SlurmScheduler:
    """Add a Slurm scheduler."""
    fields = _fields(model.SlurmSchedulerSpec, request.name, request.fields)
    number = insert_part(tx, SLURM, request.workflow_id, request.name, fields)
    return get_slurm_scheduler(tx, api.GetSlurmScheduler(slurm_scheduler_id=number))


@answers(api.UpdateSlurmScheduler)
def update_slurm_scheduler(tx: Tx, request: api.UpdateSlurmScheduler) -> api.SlurmScheduler:
    """Replace the fields of a Slurm scheduler."""
    row = locked_part(tx, SLURM, request.slurm_scheduler_id)
    update_part(tx, SLURM, row, _fields(model.SlurmSchedulerSpec, row["name"], request.fields))
    return get_slurm_scheduler(tx, api.GetSlurmScheduler(slurm_scheduler_id=row["id"]))


@answers(api.DeleteSlurmScheduler)
def delete_slurm_scheduler(tx: Tx, request: api.DeleteSlurmScheduler) -> None:
    """Delete a Slurm scheduler that no job or action uses."""
    row = locked_part(tx, SLURM, request.slurm_scheduler_id)
    for action in spec_rows.actions(tx.db, tx.dialect, row["workflow_id"]):
        if action.settings.get("scheduler") == row["name"]:
            raise Conflict(
                f"Slurm scheduler `{row['name']}` is used by action {action.position + 1} of the workflow",
                hint="bring in a spec without it: torc workflows reinitialize --spec SPEC",
            )
    delete_part(tx, SLURM, request.slurm_scheduler_id, _jobs_with(tx, "scheduler_id"))
