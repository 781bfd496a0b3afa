"""Rows of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.store import rows
from torc.store.conditions import Conditions
from torc.store.dialect import Dialect

_SELECT = "SELECT t.*, a.name AS user_name FROM token t JOIN account a ON a.id = t.account_id"
_GET = text(f"{_SELECT} WHERE t.id = :id")
_SECRET = (
    "SELECT t.secret_hash, a.id, a.name, t.used_at FROM token t JOIN account a ON a.id = t.account_id WHERE t.id = :id"
)
_REVOKE = text("UPDATE token SET revoked_at = :now WHERE revoked_at IS NULL AND id = :id")
_REVOKE_DERIVED = text(
    "WITH RECURSIVE made(id) AS (SELECT id FROM token WHERE id = :id "
    "UNION SELECT t.id FROM token t JOIN made ON t.parent_id = made.id) "
    "UPDATE token SET revoked_at = :now WHERE revoked_at IS NULL AND id IN (SELECT id FROM made)"
)
_REVOKE_ALL = text("UPDATE token SET revoked_at = :now WHERE account_id = :id AND revoked_at IS NULL")
_IS_DERIVED = (
    "WITH RECURSIVE above(id) AS (SELECT :id UNION SELECT t.parent_id FROM token t JOIN above ON t.id = above.id) "
    "SELECT 1 FROM above WHERE id = :ancestor"
)


class TokenOwner(NamedTuple):
    """Whose token it is, with the hash of its secret."""

    secret_hash: str
    account_id: int
    user: str
    used_at: float | None


class TokenFilter(NamedTuple):
    """Which tokens to list: of a user, a single one, those valid at a time."""

    user: str | None = None
    token_id: int | None = None
    valid_at: float | None = None


def get(db: Connection, token_id: int) -> RowMapping | None:
    """Return a token with `user_name`."""
    return db.execute(_GET, {"id": token_id}).mappings().first()


def owner(db: Connection, dialect: Dialect, token_id: int) -> TokenOwner | None:
    """Return whose token it is."""
    found = dialect.fetch(db, _SECRET, {"id": token_id})
    return TokenOwner(*found[0]) if found else None


def page(db: Connection, wanted: TokenFilter, *, after: int, limit: int) -> Sequence[RowMapping]:
    """Return tokens with `user_name`, in the order of their ids."""
    where = Conditions("t.id > :after", after=after, n=limit)
    if wanted.valid_at is not None:
        where.add("t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > :now)", now=wanted.valid_at)
    if wanted.token_id is not None:
        where.add("t.id = :own", own=wanted.token_id)
    if wanted.user is not None:
        where.add("a.name = :user", user=wanted.user)
    return db.execute(text(f"{_SELECT} WHERE {where} ORDER BY t.id LIMIT :n"), where.values).mappings().all()


def insert(db: Connection, values: Mapping[str, Any]) -> None:
    """Add a token."""
    rows.insert(db, "token", values)


def note_use(db: Connection, token_id: int, now: float) -> None:
    """Record that a token was used."""
    rows.update(db, "token", token_id, {"used_at": now})


def revoke(db: Connection, token_id: int, now: float, *, with_derived: bool) -> None:
    """Revoke a token, alone or with all tokens created with it."""
    db.execute(_REVOKE_DERIVED if with_derived else _REVOKE, {"id": token_id, "now": now})


def revoke_all(db: Connection, account_id: int, now: float) -> None:
    """Revoke every token of an account."""
    db.execute(_REVOKE_ALL, {"id": account_id, "now": now})


def is_derived(db: Connection, dialect: Dialect, token_id: int, ancestor: int) -> bool:
    """Return whether a token is another one, or was created with it, directly or indirectly."""
    return bool(dialect.fetch(db, _IS_DERIVED, {"id": token_id, "ancestor": ancestor}))
