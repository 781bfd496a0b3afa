"""Workflows as a whole: look at them, change them, put them away, delete them, check them."""

from __future__ import annotations

import difflib
from typing import Any

from torc.api.base import Page
from torc.api.workflows import (
    ArchiveWorkflow,
    CheckWorkflow,
    DeleteWorkflow,
    GetWorkflow,
    ListWorkflows,
    Problem,
    UpdateWorkflow,
    Workflow,
)
from torc.errors import Conflict, Forbidden, Invalid
from torc.operations.access import is_above
from torc.operations.dispatch import Tx, answers
from torc.operations.input_hashes import keep_fingerprints
from torc.operations.named_objects import checked
from torc.operations.row_mapping import (
    decode_cursor,
    encode_cursor,
    grow_version,
    workflow_of,
    workflow_row,
    workflows_of,
)
from torc.operations.users import account_named
from torc.planning.scheduler_types import SCHEDULER_TYPES
from torc.spec import model
from torc.store import runners as runner_rows
from torc.store import users as user_rows
from torc.store import workflows as workflow_rows
from torc.store.invariants import problems
from torc.store.json_columns import loads
from torc.store.workflows import WorkflowFilter

#: fields of a spec that are kept as settings and that may be changed later
SETTINGS = (
    *(each.defaults_field for each in SCHEDULER_TYPES.values()),
    "resource_monitor",
    "use_pending_failed",
    "jobs_sort_method",
    "compute_node_expiration_buffer_seconds",
    "compute_node_wait_for_new_jobs_seconds",
    "compute_node_ignore_workflow_completion",
    "compute_node_wait_for_healthy_database_minutes",
    "compute_node_min_time_for_new_jobs_seconds",
    "enforce_memory",
    "pin_cpus",
    "execution",
)


@answers(GetWorkflow)
def get_workflow(tx: Tx, request: GetWorkflow) -> Workflow:
    """Get one workflow."""
    return workflow_of(tx, workflow_row(tx, request.workflow_id))


@answers(ListWorkflows)
def list_workflows(tx: Tx, request: ListWorkflows) -> Page[Workflow]:
    """List workflows, newest first."""
    key = decode_cursor(request.cursor)
    wanted = WorkflowFilter(request.include_archived, request.name, request.user)
    before = key[0] if key else None
    rows = workflow_rows.newest(tx.db, tx.dialect, tx.rights, wanted, before=before, limit=request.limit + 1)
    more = len(rows) > request.limit
    items = workflows_of(tx, rows[: request.limit])
    return Page(items=items, cursor=encode_cursor(items[-1].id) if more else None)


@answers(UpdateWorkflow)
def update_workflow(tx: Tx, request: UpdateWorkflow) -> Workflow:
    """Change fields of a workflow."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    changes: dict[str, Any] = request.model_dump(exclude={"workflow_id"}, exclude_none=True)
    if "settings" in changes:
        merged = {**loads(row["settings"], {}), **changes["settings"]}
        changes["settings"] = {key: value for key, value in merged.items() if value is not None}
    if request.user is not None:
        _check_new_owner(tx, request.user)
    _check_fields(row["name"], changes)
    if changes.get("env", loads(row["env"], {})) != loads(row["env"], {}):
        refuse_while_running(tx, row["id"], "given another environment", force=False)
        keep_fingerprints(tx, row["id"])
    if "metadata" in changes:
        changes["meta"] = changes.pop("metadata")
    if changes:
        workflow_rows.update(tx.db, row["id"], changes)
        grow_version(tx, row["id"])
        tx.event(row["id"], "workflow_updated", fields=sorted(changes))
    return get_workflow(tx, GetWorkflow(workflow_id=row["id"]))


def _check_new_owner(tx: Tx, user: str) -> None:
    if not is_above(tx):
        raise Forbidden("workflows are given to others by administrators", hint="ask one, or share it with a group")
    if user_rows.any_exists(tx.db):
        account_named(tx, user)


def _check_fields(name: str, changes: dict[str, Any]) -> None:
    settings = changes.get("settings", {})
    unknown = settings.keys() - set(SETTINGS)
    if unknown:
        field = min(unknown)
        near = difflib.get_close_matches(field, SETTINGS, 1)
        raise Invalid(
            f"`{field}` is not a setting of a workflow",
            hint=f"did you mean `{near[0]}`?" if near else f"settings are {', '.join(SETTINGS)}",
        )
    given = {key: value for key, value in changes.items() if key != "settings"}
    checked(model.WorkflowSpec, **{"name": name, "jobs": [{"name": "x", "command": "x"}], **given, **settings})


@answers(DeleteWorkflow, removes=True)
def delete_workflow(tx: Tx, request: DeleteWorkflow) -> None:
    """Delete a workflow."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    if not request.force:
        refuse_while_running(tx, row["id"], "deleted")
    workflow_rows.delete(tx.db, tx.dialect, row)


def refuse_while_running(tx: Tx, workflow_id: int, done: str, *, force: bool = True) -> None:
    """Raise Conflict when runners work on a workflow. `force`: whether the command has a --force to hint at."""
    active = runner_rows.num_active(tx.db, workflow_id)
    if active:
        raise Conflict(
            f"workflow {workflow_id} cannot be {done}: {active} runner{'s work' if active > 1 else ' works'} on it",
            hint=f"wait for the end, or stop them first (`torc workflows cancel {workflow_id}`)"
            + (", or use --force" if force else ""),
        )


@answers(ArchiveWorkflow)
def archive_workflow(tx: Tx, request: ArchiveWorkflow) -> Workflow:
    """Put a workflow away, or bring it back."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    if request.archived:
        refuse_while_running(tx, row["id"], "archived", force=False)
    if bool(row["is_archived"]) is not request.archived:
        workflow_rows.update(tx.db, row["id"], {"is_archived": request.archived})
        grow_version(tx, row["id"])
        tx.event(row["id"], "workflow_archived" if request.archived else "workflow_unarchived")
    return get_workflow(tx, GetWorkflow(workflow_id=row["id"]))


@answers(CheckWorkflow)
def check_workflow(tx: Tx, request: CheckWorkflow) -> list[Problem]:
    """Check every invariant."""
    workflow_row(tx, request.workflow_id)
    return [Problem(invariant=name, detail=detail) for name, detail in problems(tx.db, request.workflow_id)]
