"""Access groups and the workflows that they share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, text

from torc.api import access_groups as api
from torc.api.base import Page
from torc.errors import Conflict, Forbidden, NotFound
from torc.operations.access import is_above, require_owner
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import decode_cursor, encode_cursor, name_condition, workflow_row
from torc.operations.users import account_named
from torc.store.id_blocks import take_ids
from torc.store.json_columns import loads
from torc.workflow.access import SHARED

_COLUMNS = "g.*, a.name AS owner FROM access_group g LEFT JOIN account a ON a.id = g.owner_id"
_MINE = "g.id IN (SELECT group_id FROM access_member WHERE account_id = :me)"
_MEMBERS = text(
    "SELECT a.id, a.name FROM access_member m JOIN account a ON a.id = m.account_id WHERE m.group_id = :id ORDER BY a.name"
)
_SHARE = (
    "SELECT s.workflow_id, s.group_id, s.level, g.name FROM access_share s JOIN access_group g ON g.id = s.group_id "
    "WHERE s.workflow_id = :workflow_id"
)


def _group(tx: Tx, row: RowMapping) -> api.AccessGroup:
    members = [api.Member(user_id=number, name=name) for number, name in tx.db.execute(_MEMBERS, {"id": row["id"]})]
    fields = {name: row[name] for name in ("id", "name", "description", "owner", "created_at")}
    return api.AccessGroup(members=members, **fields)


def _row(tx: Tx, group_id: int) -> RowMapping:
    """Return the row of a group that the caller may see. Raises NotFound."""
    mine, values = ("", {}) if is_above(tx) else (f" AND ({_MINE} OR g.owner_id = :me)", _me(tx))
    query = text(f"SELECT {_COLUMNS} WHERE g.id = :id{mine}")
    row = tx.db.execute(query, {"id": group_id, **values}).mappings().first()
    if row is None:
        raise NotFound(
            f"there is no access group {group_id} that you can see", hint="`torc access-groups list` shows them"
        )
    return row


def _me(tx: Tx) -> dict[str, Any]:
    assert tx.rights is not None
    return {"me": tx.rights.account_id}


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
    if tx.db.execute(text("SELECT 1 FROM access_group WHERE name = :n"), {"n": request.name}).first():
        raise Conflict(f"there is an access group `{request.name}` already", hint="choose another name")
    number = take_ids(tx.db, "access_group")
    owner = tx.rights.account_id if tx.rights else None
    tx.db.execute(
        text(
            "INSERT INTO access_group (id, name, description, owner_id, created_at) "
            "VALUES (:id, :name, :description, :owner, :now)"
        ),
        {"id": number, "name": request.name, "description": request.description, "owner": owner, "now": tx.now},
    )
    if owner is not None:
        _join(tx, number, owner)
    return _group(tx, _row(tx, number))


def _join(tx: Tx, group_id: int, account_id: int) -> None:
    join = "INSERT INTO access_member (account_id, group_id) VALUES (:account, :group) ON CONFLICT DO NOTHING"
    tx.db.execute(text(join), {"account": account_id, "group": group_id})


@answers(api.ListAccessGroups)
def list_access_groups(tx: Tx, request: api.ListAccessGroups) -> Page[api.AccessGroup]:
    """List groups."""
    key = decode_cursor(request.cursor)
    conditions = ["g.id > :after"]
    values: dict[str, Any] = {"after": key[0] if key else 0, "n": request.limit + 1}
    if not is_above(tx):
        conditions.append(f"({_MINE} OR g.owner_id = :me)")
        values |= _me(tx)
    if request.name is not None:
        condition, named = name_condition(tx, "g.name", request.name)
        conditions.append(condition)
        values |= named
    query = f"SELECT {_COLUMNS} WHERE {' AND '.join(conditions)} ORDER BY g.id LIMIT :n"
    rows = tx.db.execute(text(query), values).mappings().all()
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
    for table in ("access_share", "access_member"):
        tx.db.execute(text(f"DELETE FROM {table} WHERE group_id = :id"), {"id": row["id"]})
    tx.db.execute(text("DELETE FROM access_group WHERE id = :id"), {"id": row["id"]})


@answers(api.AddMembers)
def add_members(tx: Tx, request: api.AddMembers) -> api.AccessGroup:
    """Add accounts to a group."""
    row = _owned(tx, request.access_group_id)
    for name in request.users:
        _join(tx, row["id"], account_named(tx, name)["id"])
    return _group(tx, row)


@answers(api.RemoveMember)
def remove_member(tx: Tx, request: api.RemoveMember) -> None:
    """Take an account out of a group."""
    is_own = tx.rights is not None and tx.rights.account_id == request.user_id
    row = _row(tx, request.access_group_id) if is_own else _owned(tx, request.access_group_id)
    leave = text("DELETE FROM access_member WHERE group_id = :group AND account_id = :account")
    if tx.db.execute(leave, {"group": row["id"], "account": request.user_id}).rowcount == 0:
        raise NotFound(
            f"user {request.user_id} is no member of `{row['name']}`",
            hint=f"`torc access-groups get {row['id']}` shows the members",
        )


def _share(row: Any) -> api.Share:
    workflow_id, group_id, number, name = row
    access = SHARED[number]
    assert access != "admin"
    return api.Share(workflow_id=workflow_id, access_group_id=group_id, access_group=name, permission=access)


@answers(api.ListShares)
def list_shares(tx: Tx, request: api.ListShares) -> list[api.Share]:
    """List the groups that a workflow is shared with."""
    workflow_row(tx, request.workflow_id)
    rows = tx.db.execute(text(f"{_SHARE} ORDER BY g.name"), {"workflow_id": request.workflow_id})
    return [_share(row) for row in rows]


@answers(api.ShareWorkflow)
def share_workflow(tx: Tx, request: api.ShareWorkflow) -> api.Share:
    """Share a workflow."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    require_owner(tx, row["user"], f"workflow {row['id']}")
    group = _row(tx, request.access_group_id)
    values = {"workflow_id": row["id"], "group": group["id"], "level": SHARED.index(request.permission)}
    tx.db.execute(
        text(
            "INSERT INTO access_share (workflow_id, group_id, level) VALUES (:workflow_id, :group, :level) "
            "ON CONFLICT (workflow_id, group_id) DO UPDATE SET level = :level"
        ),
        values,
    )
    tx.event(row["id"], "workflow_shared", access_group=group["name"], permission=request.permission)
    return api.Share(
        workflow_id=row["id"], access_group_id=group["id"], access_group=group["name"], permission=request.permission
    )


@answers(api.UnshareWorkflow)
def unshare_workflow(tx: Tx, request: api.UnshareWorkflow) -> None:
    """Share a workflow no more."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    require_owner(tx, row["user"], f"workflow {row['id']}")
    take = text("DELETE FROM access_share WHERE workflow_id = :workflow_id AND group_id = :group RETURNING group_id")
    if tx.db.execute(take, {"workflow_id": row["id"], "group": request.access_group_id}).first() is None:
        raise NotFound(
            f"workflow {row['id']} is not shared with the access group {request.access_group_id}",
            hint="`torc workflows get` and `torc access-groups list` show what there is",
        )
    tx.event(row["id"], "workflow_unshared", access_group_id=request.access_group_id)


@answers(api.ListAudit)
def list_audit(tx: Tx, request: api.ListAudit) -> Page[api.AuditRecord]:
    """List who did what."""
    key = decode_cursor(request.cursor)
    conditions = ["id < :before"]
    values: dict[str, Any] = {"before": key[0] if key else 2**62, "n": request.limit + 1}
    for field in ("actor", "action"):
        wanted = getattr(request, field)
        if wanted is not None:
            condition, named = name_condition(tx, field, wanted)
            ((name, value),) = named.items()
            conditions.append(condition.replace(f":{name}", f":{field}"))
            values[field] = value
    if request.workflow_id is not None:
        conditions.append("workflow_id = :workflow_id")
        values["workflow_id"] = request.workflow_id
    query = f"SELECT * FROM audit WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT :n"
    rows = tx.db.execute(text(query), values).mappings().all()
    items = [api.AuditRecord(**{**row, "data": loads(row["data"], {})}) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)
