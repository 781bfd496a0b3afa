"""Rows of access groups, of their members, and of the workflows that they share."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, text

from torc.store import rows
from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.store.id_blocks import take_ids

_SELECT = "SELECT g.*, a.name AS owner FROM access_group g LEFT JOIN account a ON a.id = g.owner_id"
_IS_OF_ACCOUNT = "(g.id IN (SELECT group_id FROM access_member WHERE account_id = :account) OR g.owner_id = :account)"
_NAMED = text("SELECT 1 FROM access_group WHERE name = :name")
_OWNED = text("SELECT name FROM access_group WHERE owner_id = :id LIMIT 1")
_MEMBERS = text(
    "SELECT a.id, a.name FROM access_member m JOIN account a ON a.id = m.account_id WHERE m.group_id = :id ORDER BY a.name"
)
_NAMES_OF = text(
    "SELECT g.name FROM access_group g JOIN access_member m ON m.group_id = g.id WHERE m.account_id = :id ORDER BY 1"
)
_JOIN = text("INSERT INTO access_member (account_id, group_id) VALUES (:account, :group) ON CONFLICT DO NOTHING")
_LEAVE = text("DELETE FROM access_member WHERE group_id = :group AND account_id = :account")
_DELETE_SHARES = text("DELETE FROM access_share WHERE group_id = :id")
_DELETE_MEMBERS = text("DELETE FROM access_member WHERE group_id = :id")
_SHARES = text(
    "SELECT s.workflow_id, s.group_id, s.level, g.name AS group_name FROM access_share s "
    "JOIN access_group g ON g.id = s.group_id WHERE s.workflow_id = :id ORDER BY g.name"
)
_SHARE = text(
    "INSERT INTO access_share (workflow_id, group_id, level) VALUES (:workflow_id, :group, :level) "
    "ON CONFLICT (workflow_id, group_id) DO UPDATE SET level = :level"
)
_UNSHARE = text("DELETE FROM access_share WHERE workflow_id = :workflow_id AND group_id = :group")


def get(db: Connection, group_id: int, *, account_id: int | None = None) -> RowMapping | None:
    """Return a group with the name of its `owner`; with an account, only a group that it owns or is a member of."""
    where = Conditions("g.id = :id", id=group_id)
    if account_id is not None:
        where.add(_IS_OF_ACCOUNT, account=account_id)
    return db.execute(text(f"{_SELECT} WHERE {where}"), where.values).mappings().first()


def page(
    db: Connection, dialect: Dialect, *, account_id: int | None, name: str | None, after: int, limit: int
) -> Sequence[RowMapping]:
    """Return groups in the order of their ids, as `get` does. `name` may hold `*` and `?`."""
    where = Conditions("g.id > :after", after=after, n=limit)
    if account_id is not None:
        where.add(_IS_OF_ACCOUNT, account=account_id)
    if name is not None:
        where.add_name(dialect, "g.name", name)
    return db.execute(text(f"{_SELECT} WHERE {where} ORDER BY g.id LIMIT :n"), where.values).mappings().all()


def exists(db: Connection, name: str) -> bool:
    """Return whether a group has this name."""
    return db.execute(_NAMED, {"name": name}).first() is not None


def name_of_owned(db: Connection, account_id: int) -> str | None:
    """Return the name of a group that an account owns."""
    found: str | None = db.execute(_OWNED, {"id": account_id}).scalar()
    return found


def insert(db: Connection, name: str, description: str | None, owner_id: int | None, now: float) -> int:
    """Add a group and return its id."""
    number = take_ids(db, "access_group")
    values = {"id": number, "name": name, "description": description, "owner_id": owner_id, "created_at": now}
    rows.insert(db, "access_group", values)
    return number


def delete(db: Connection, group_id: int) -> None:
    """Remove a group with its members and shares."""
    for statement in (_DELETE_SHARES, _DELETE_MEMBERS):
        db.execute(statement, {"id": group_id})
    rows.delete(db, "access_group", group_id)


# -- members ----------------------------------------------------------------------------------------------------


def members(db: Connection, group_id: int) -> Sequence[RowMapping]:
    """Return the accounts in a group (`id`, `name`) by name."""
    return db.execute(_MEMBERS, {"id": group_id}).mappings().all()


def names_of_account(db: Connection, account_id: int) -> list[str]:
    """Return the names of the groups that an account is a member of."""
    return list(db.execute(_NAMES_OF, {"id": account_id}).scalars())


def add_member(db: Connection, group_id: int, account_id: int) -> None:
    """Add an account to a group that may have it already."""
    db.execute(_JOIN, {"account": account_id, "group": group_id})


def remove_member(db: Connection, group_id: int, account_id: int) -> bool:
    """Remove an account from a group; return whether it was a member."""
    return db.execute(_LEAVE, {"group": group_id, "account": account_id}).rowcount > 0


# -- shared workflows -------------------------------------------------------------------------------------------


def shares(db: Connection, workflow_id: int) -> Sequence[RowMapping]:
    """Return how a workflow is shared (`workflow_id`, `group_id`, `group_name`, `level`), by the names of groups."""
    return db.execute(_SHARES, {"id": workflow_id}).mappings().all()


def share(db: Connection, workflow_id: int, group_id: int, level: int) -> None:
    """Share a workflow with a group at a level, whatever level it had before."""
    db.execute(_SHARE, {"workflow_id": workflow_id, "group": group_id, "level": level})


def unshare(db: Connection, workflow_id: int, group_id: int) -> bool:
    """Stop sharing a workflow with a group; returns whether it was shared."""
    return db.execute(_UNSHARE, {"workflow_id": workflow_id, "group": group_id}).rowcount > 0
