"""Rows of accounts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from torc.store import rows
from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.store.id_blocks import take_ids

_SELECT = """SELECT a.id, a.name, a.is_admin, a.is_disabled, a.created_at, a.password_hash IS NOT NULL AS has_password,
    (SELECT count(*) FROM workflow w WHERE w."user" = a.name) AS num_workflows FROM account a"""
_OF_ID = text(f"{_SELECT} WHERE a.id = :id")
_OF_NAME = text(f"{_SELECT} WHERE a.name = :name")
_ANY = text("SELECT 1 FROM account LIMIT 1")
_IDS = text("SELECT id FROM account WHERE name = :name")
_PASSWORD = text("SELECT id, password_hash FROM account WHERE name = :name")
_REPLACE_HASH = text("UPDATE account SET password_hash = :new WHERE id = :id AND password_hash = :old")
_DELETE_MEMBERSHIPS = text("DELETE FROM access_member WHERE account_id = :id")
_DELETE_TOKENS = text("DELETE FROM token WHERE account_id = :id")


def get(db: Connection, user_id: int) -> RowMapping | None:
    """Return an account, without its password."""
    return db.execute(_OF_ID, {"id": user_id}).mappings().first()


def named(db: Connection, name: str) -> RowMapping | None:
    """Return the account with a name, without its password."""
    return db.execute(_OF_NAME, {"name": name}).mappings().first()


def ids(db: Connection, names: Collection[str]) -> Mapping[str, int | None]:
    """Return the ids of accounts by name; None for names that nobody has."""
    return {name: db.execute(_IDS, {"name": name}).scalar() for name in names}


def any_exists(db: Connection) -> bool:
    """Return whether there is any account."""
    return db.execute(_ANY).first() is not None


def page(db: Connection, dialect: Dialect, *, name: str | None, after: int, limit: int) -> Sequence[RowMapping]:
    """Return accounts in the order of their ids. `name` may hold `*` and `?`."""
    where = Conditions("a.id > :after", after=after, n=limit)
    if name is not None:
        where.add_name(dialect, "a.name", name)
    return db.execute(text(f"{_SELECT} WHERE {where} ORDER BY a.id LIMIT :n"), where.values).mappings().all()


def insert(db: Connection, name: str, password_hash: str | None, now: float, *, is_admin: bool = False) -> int:
    """Add an account and return its id."""
    number = take_ids(db, "account")
    values: dict[str, Any] = {
        "id": number,
        "name": name,
        "password_hash": password_hash,
        "is_admin": is_admin,
        "is_disabled": False,
        "created_at": now,
    }
    rows.insert(db, "account", values)
    return number


def update(db: Connection, user_id: int, *, is_admin: bool | None = None, is_disabled: bool | None = None) -> None:
    """Change what an account is; None leaves it as it is."""
    changes = {"is_admin": is_admin, "is_disabled": is_disabled}
    rows.update(db, "account", user_id, {name: value for name, value in changes.items() if value is not None})


def delete(db: Connection, user_id: int) -> None:
    """Remove an account with its memberships and tokens."""
    for statement in (_DELETE_MEMBERSHIPS, _DELETE_TOKENS):
        db.execute(statement, {"id": user_id})
    rows.delete(db, "account", user_id)


def password(db: Connection, name: str) -> RowMapping | None:
    """Return the id and the `password_hash` of an account."""
    return db.execute(_PASSWORD, {"name": name}).mappings().first()


def set_password(db: Connection, user_id: int, password_hash: str) -> None:
    """Replace the password of an account."""
    rows.update(db, "account", user_id, {"password_hash": password_hash})


def replace_password_hash(db: Connection, user_id: int, old: str, new: str) -> None:
    """Store the same password with a new hash, unless it was changed meanwhile."""
    db.execute(_REPLACE_HASH, {"new": new, "old": old, "id": user_id})
