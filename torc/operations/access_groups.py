"""Access groups and the workflows that they share."""

from __future__ import annotations

from sqlalchemy import RowMapping

from torc.api import access_groups as api
from torc.api.base import Page
from torc.errors import Conflict, Forbidden, NotFound
from torc.operations.access import is_above, require_owner
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import decode_cursor, encode_cursor, workflow_row
from torc.operations.users import account_named
from torc.store import access_groups as group_rows
from torc.store import audit as audit_rows
from torc.store.audit import AuditFilter
from torc.store.json_columns import loads
from torc.workflow.access import SHARED


def _group(tx: Tx, row: RowMapping) -> api.AccessGroup:
    members = [api.Member(user_id=found["id"], name=found["name"]) for found in group_rows.members(tx.db, row["id"])]
    fields = {name: row[name] for name in ("id", "name", "description", "owner", "created_at")}
    return api.AccessGroup(members=members, **fields)


def _row(tx: Tx, group_id: int) -> RowMapping:
    """Return the row of a group that the caller may see. Raises NotFound."""
    row = group_rows.get(tx.db, group_id, account_id=_only_of(tx))
    if row is None:
        raise NotFound(
            f"there is no access group {group_id} that you can see", hint="`torc access-groups list` shows them"
        )
    return row


def _only_of(tx: Tx) -> int | None:
    """Return the account whose groups alone the caller may see."""
    if is_above(tx):
        return None
    assert tx.rights is not None
    return tx.rights.account_id


def _owned(tx: Tx, group_id: int) -> RowMapping:
    """Return the row of a group that the caller may change. Raises NotFound or Forbidden."""
    row = _row(tx, group_id)
    if row["owner"] is None and not is_above(tx):
        raise Forbidden(f"the access group `{row['name']}` belongs to the administrators", hint="ask one of them")
    require_owner(tx, row["owner"] or "", f"the access group `{row['name']}`")
    return row


@answers(api.CreateAccessGroup)
def create_access_group(tx: Tx, request: api.CreateAccessGroup) -> api.AccessGroup:
    """Make a group."""
    if group_rows.exists(tx.db, request.name):
        raise Conflict(f"there is an access group `{request.name}` already", hint="choose another name")
    owner = tx.rights.account_id if tx.rights else None
    number = group_rows.insert(tx.db, request.name, request.description, owner, tx.now)
    if owner is not None:
        group_rows.add_member(tx.db, number, owner)
    return _group(tx, _row(tx, number))


@answers(api.ListAccessGroups)
def list_access_groups(tx: Tx, request: api.ListAccessGroups) -> Page[api.AccessGroup]:
    """List groups."""
    key = decode_cursor(request.cursor)
    rows = group_rows.page(
        tx.db,
        tx.dialect,
        account_id=_only_of(tx),
        name=request.name,
        after=key[0] if key else 0,
        limit=request.limit + 1,
    )
    items = [_group(tx, row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(api.GetAccessGroup)
def get_access_group(tx: Tx, request: api.GetAccessGroup) -> api.AccessGroup:
    """Get one group."""
    return _group(tx, _row(tx, request.access_group_id))


@answers(api.DeleteAccessGroup)
def delete_access_group(tx: Tx, request: api.DeleteAccessGroup) -> None:
    """Delete a group."""
    row = _owned(tx, request.access_group_id)
    group_rows.delete(tx.db, row["id"])


@answers(api.AddMembers)
def add_members(tx: Tx, request: api.AddMembers) -> api.AccessGroup:
    """Add accounts to a group."""
    row = _owned(tx, request.access_group_id)
    for name in request.users:
        group_rows.add_member(tx.db, row["id"], account_named(tx, name)["id"])
    return _group(tx, row)


@answers(api.RemoveMember)
def remove_member(tx: Tx, request: api.RemoveMember) -> None:
    """Remove an account from a group."""
    is_own = tx.rights is not None and tx.rights.account_id == request.user_id
    row = _row(tx, request.access_group_id) if is_own else _owned(tx, request.access_group_id)
    if not group_rows.remove_member(tx.db, row["id"], request.user_id):
        raise NotFound(
            f"user {request.user_id} is no member of `{row['name']}`",
            hint=f"`torc access-groups get {row['id']}` shows the members",
        )


def _share(row: RowMapping) -> api.Share:
    access = SHARED[row["level"]]
    assert access != "admin"
    return api.Share(
        workflow_id=row["workflow_id"],
        access_group_id=row["group_id"],
        access_group=row["group_name"],
        permission=access,
    )


@answers(api.ListShares)
def list_shares(tx: Tx, request: api.ListShares) -> list[api.Share]:
    """List the groups that a workflow is shared with."""
    workflow_row(tx, request.workflow_id)
    return [_share(row) for row in group_rows.shares(tx.db, request.workflow_id)]


@answers(api.ShareWorkflow)
def share_workflow(tx: Tx, request: api.ShareWorkflow) -> api.Share:
    """Share a workflow."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    require_owner(tx, row["user"], f"workflow {row['id']}")
    group = _row(tx, request.access_group_id)
    group_rows.share(tx.db, row["id"], group["id"], SHARED.index(request.permission))
    tx.event(row["id"], "workflow_shared", access_group=group["name"], permission=request.permission)
    return api.Share(
        workflow_id=row["id"], access_group_id=group["id"], access_group=group["name"], permission=request.permission
    )


@answers(api.UnshareWorkflow)
def unshare_workflow(tx: Tx, request: api.UnshareWorkflow) -> None:
    """Stop sharing a workflow."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    require_owner(tx, row["user"], f"workflow {row['id']}")
    if not group_rows.unshare(tx.db, row["id"], request.access_group_id):
        raise NotFound(
            f"workflow {row['id']} is not shared with the access group {request.access_group_id}",
            hint="`torc workflows get` and `torc access-groups list` show what there is",
        )
    tx.event(row["id"], "workflow_unshared", access_group_id=request.access_group_id)


@answers(api.ListAudit)
def list_audit(tx: Tx, request: api.ListAudit) -> Page[api.AuditRecord]:
    """List who did what."""
    key = decode_cursor(request.cursor)
    wanted = AuditFilter(request.actor, request.action, request.workflow_id)
    before = key[0] if key else None
    rows = audit_rows.newest(tx.db, tx.dialect, wanted, before=before, limit=request.limit + 1)
    items = [api.AuditRecord(**{**row, "data": loads(row["data"], {})}) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)
