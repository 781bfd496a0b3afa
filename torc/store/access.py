"""Which rights accounts, tokens and runners' jobs have, and which workflows an account may see.

Asked in the transaction of every request, so through `Dialect.fetch`.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from sqlalchemy import Connection, text

from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.workflow.access import Access, Rights

_BY_TOKEN = """SELECT a.name, a.is_admin, a.is_disabled, t.scope, t.workflow_id, t.expires_at, t.revoked_at
    FROM token t JOIN account a ON a.id = t.account_id WHERE t.id = :token_id AND a.id = :account_id"""
_BY_PASSWORD = """SELECT name, is_admin, is_disabled, 'admin', NULL, NULL, NULL FROM account WHERE id = :account_id"""
_RUNNER = """SELECT w."user", r.workflow_id, r.is_active, r.lease_expires_at
    FROM runner r JOIN workflow w ON w.id = r.workflow_id WHERE r.id = :runner_id"""
_HELD = """SELECT w.id, w."user", (SELECT max(s.level) FROM access_share s JOIN access_member m ON m.group_id = s.group_id
    WHERE s.workflow_id = w.id AND m.account_id = :account_id)"""
_VISIBLE = """("user" = :seen_user OR id IN (SELECT s.workflow_id FROM access_share s
    JOIN access_member m ON m.group_id = s.group_id WHERE m.account_id = :seen_account))"""


class SignedIn(NamedTuple):
    """An account as it signed in: by a token, or by password with all its rights."""

    name: str
    is_admin: bool
    is_disabled: bool
    scope: Access
    workflow_id: int | None
    expires_at: float | None
    revoked_at: float | None


class RunnerLease(NamedTuple):
    """The runner whose jobs call, and whose workflow it works on."""

    user: str
    workflow_id: int
    is_active: bool
    lease_expires_at: float


class HeldWorkflow(NamedTuple):
    """A workflow, its owner, and the level at which groups share it with an account (None: they do not)."""

    workflow_id: int
    user: str
    shared_level: int | None


def signed_in(db: Connection, dialect: Dialect, account_id: int, token_id: int | None) -> SignedIn | None:
    """Return an account with the rights of a token, or as it signed in by password."""
    values = {"token_id": token_id, "account_id": account_id}
    found = dialect.fetch(db, _BY_PASSWORD if token_id is None else _BY_TOKEN, values)
    return SignedIn(*found[0]) if found else None


def runner_lease(db: Connection, dialect: Dialect, runner_id: int) -> RunnerLease | None:
    """Return whether a runner is at work, and for whom."""
    found = dialect.fetch(db, _RUNNER, {"runner_id": runner_id})
    return RunnerLease(*found[0]) if found else None


def held_workflow(db: Connection, dialect: Dialect, table: str, number: int, account_id: int) -> HeldWorkflow | None:
    """Return the workflow that a row of a table belongs to, as an account holds it."""
    found = dialect.fetch(db, _held(table), {"id": number, "account_id": account_id})
    return HeldWorkflow(*found[0]) if found else None


@cache
def _held(table: str) -> str:
    if table == "workflow":
        return f"{_HELD} FROM workflow w WHERE w.id = :id"
    return f"{_HELD} FROM {table} x JOIN workflow w ON w.id = x.workflow_id WHERE x.id = :id"


def visible(rights: Rights | None) -> Conditions:
    """Return the conditions on rows of `workflow` that leave what a caller may see."""
    conditions = Conditions()
    if rights is None:
        return conditions
    if not rights.sees_all:
        conditions.add(_VISIBLE, seen_account=rights.account_id, seen_user=rights.user)
    if rights.workflow_id is not None:
        conditions.add("id = :seen_workflow", seen_workflow=rights.workflow_id)
    return conditions


def among_visible(rights: Rights | None, column: str) -> Conditions:
    """Return the condition that a column refers to a workflow that a caller may see."""
    seen = visible(rights)
    return Conditions(f"{column} IN (SELECT id FROM workflow WHERE {seen})", **seen.values) if seen else seen


def is_visible(db: Connection, rights: Rights | None, workflow_id: int) -> bool:
    """Return whether a workflow exists and a caller may see it."""
    conditions = visible(rights)
    conditions.add("id = :asked", asked=workflow_id)
    return db.execute(text(f"SELECT 1 FROM workflow WHERE {conditions}"), conditions.values).first() is not None
