"""Which rights a caller has, and what it may see. The decision itself is `torc.workflow.access.decide`.

Everything is asked of the database in the transaction of the request: what was revoked a moment ago holds no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import text

from torc.api.base import Request
from torc.errors import Forbidden, NotFound, Unauthorized
from torc.operations.transaction import Tx
from torc.workflow.access import SHARED, Access, AccessDecision, Rights, decide, level

_BY_TOKEN = """SELECT a.name, a.is_admin, a.is_disabled, t.scope, t.workflow_id, t.expires_at, t.revoked_at
    FROM token t JOIN account a ON a.id = t.account_id WHERE t.id = :token_id AND a.id = :account_id"""
_BY_PASSWORD = """SELECT name, is_admin, is_disabled, 'admin', NULL, NULL, NULL FROM account WHERE id = :account_id"""
_BY_RUNNER = """SELECT w."user", r.workflow_id, r.is_active, r.lease_expires_at
    FROM runner r JOIN workflow w ON w.id = r.workflow_id WHERE r.id = :runner_id"""
#: a runner that has been silent for so long will not come back: what was given to its jobs opens nothing more
_SILENT_SECONDS = 3600.0
_HELD = """SELECT w.id, w."user", (SELECT max(s.level) FROM access_share s JOIN access_member m ON m.group_id = s.group_id
    WHERE s.workflow_id = w.id AND m.account_id = :account_id)"""
_SIGN_IN = "sign in again: torc login URL"


class AccessSubject(NamedTuple):
    """Where the thing is that a request names, and what people call it."""

    field: str
    table: str
    noun: str
    command: str


SUBJECTS = (
    AccessSubject("workflow_id", "workflow", "workflow", "workflows list"),
    AccessSubject("job_id", "job", "job", "jobs list"),
    AccessSubject("file_id", "file", "file", "files list"),
    AccessSubject("user_data_id", "user_data", "user data", "user-data list"),
    AccessSubject("requirement_id", "requirement", "resource requirement", "resource-requirements list"),
    AccessSubject("failure_handler_id", "named", "failure handler", "failure-handlers list"),
    AccessSubject("slurm_scheduler_id", "named", "Slurm scheduler", "slurm-schedulers list"),
    AccessSubject("event_id", "event", "event", "events list"),
    AccessSubject("runner_id", "runner", "runner", "compute-nodes list"),
    AccessSubject("result_id", "attempt", "result", "results list"),
    AccessSubject("allocation_id", "allocation", "allocation", "slurm list"),
)


def admit(tx: Tx, request: Request[Any]) -> Tx:
    """Let a request pass, with the rights that it has. Raises Unauthorized, Forbidden, or NotFound for what is hidden."""
    subject = subject_of(type(request))
    return admit_kind(tx, type(request), None if subject is None else getattr(request, subject.field))


def admit_kind(tx: Tx, kind: type[Request[Any]], number: int | None) -> Tx:
    """Let a kind of request pass that is about the thing `number` in its path, before its other fields are known."""
    rights = rights_of(tx)
    if rights is None:
        return tx
    tx = replace(tx, rights=rights)
    subject = subject_of(kind)
    held = None
    if subject is not None:
        assert number is not None
        held = held_to(tx, number, subject)
        if held is None:
            raise _hidden(subject, number)
    decision = decide(kind.access, rights, held)
    if decision is AccessDecision.HIDDEN:
        assert subject is not None and number is not None
        raise _hidden(subject, number)
    if decision is AccessDecision.REFUSED:
        raise _refused(kind, rights, held[1] if held else None)
    return tx


def rights_of(tx: Tx) -> Rights | None:
    """Return the rights of the caller's account; None: it is the owner of the database. Raises Unauthorized."""
    caller = tx.caller
    if caller is None or caller.is_owner:
        return None
    if caller.runner_id is not None:
        return _rights_of_jobs(tx, caller.runner_id)
    assert caller.account_id is not None
    values = {"token_id": caller.token_id, "account_id": caller.account_id}
    found = tx.dialect.fetch(tx.db, _BY_PASSWORD if caller.token_id is None else _BY_TOKEN, values)
    if not found:
        raise Unauthorized("this token holds no more", hint=_SIGN_IN)
    name, is_admin, is_disabled, scope, workflow_id, expires_at, revoked_at = found[0]
    if is_disabled:
        raise Unauthorized(f"the account `{name}` is disabled", hint="ask an administrator of the server")
    if revoked_at is not None:
        raise Unauthorized("this token was revoked", hint=_SIGN_IN)
    if expires_at is not None and expires_at <= tx.now:
        raise Unauthorized("this token has expired", hint=_SIGN_IN)
    if caller.token_id is None and not is_admin:
        scope = "write"
    return Rights(name, caller.account_id, bool(is_admin), scope, workflow_id, caller.token_id, expires_at)


def _rights_of_jobs(tx: Tx, runner_id: int) -> Rights:
    """Return what the jobs of a runner may do, for as long as it works. Raises Unauthorized."""
    found = tx.dialect.fetch(tx.db, _BY_RUNNER, {"runner_id": runner_id})
    if not found or not found[0][2] or found[0][3] + _SILENT_SECONDS < tx.now:
        raise Unauthorized(
            "this token is for the jobs of a runner that has ended",
            hint="a process that outlives its runner needs its own token: set TORC_TOKEN_FILE",
        )
    user, workflow_id = found[0][:2]
    return Rights(user, 0, False, "job", workflow_id)


@cache
def subject_of(kind: type[Request[Any]]) -> AccessSubject | None:
    """Return what of a workflow a request is about: the first such thing in its path."""
    fields = [part[1:-1] for part in kind.http_path.split("/") if part.startswith("{")]
    known = {subject.field: subject for subject in SUBJECTS}
    return next((known[field] for field in fields if field in known), None)


def held_to(tx: Tx, number: int, subject: AccessSubject = SUBJECTS[0]) -> tuple[int, Access | None] | None:
    """Return the workflow of a thing and the right that the caller's account holds to it; None: there is no such thing."""
    assert tx.rights is not None
    source = "workflow w WHERE w.id = :id"
    if subject.table != "workflow":
        source = f"{subject.table} x JOIN workflow w ON w.id = x.workflow_id WHERE x.id = :id"
    found = tx.dialect.fetch(tx.db, f"{_HELD} FROM {source}", {"id": number, "account_id": tx.rights.account_id})
    if not found:
        return None
    workflow_id, user, shared = found[0]
    if user == tx.rights.user:
        return workflow_id, "write"
    return workflow_id, None if shared is None else SHARED[shared]


def visible(tx: Tx) -> tuple[Sequence[str], dict[str, Any]]:
    """Return the conditions on rows of `workflow` that leave what the caller may see, and their parameters."""
    rights = tx.rights
    if rights is None:
        return (), {}
    values: dict[str, Any] = {"seen_account": rights.account_id, "seen_user": rights.user}
    conditions = [] if rights.sees_all else [_VISIBLE]
    if rights.workflow_id is not None:
        conditions.append("id = :seen_workflow")
        values["seen_workflow"] = rights.workflow_id
    return conditions, values


def require_visible(tx: Tx, workflow_id: int) -> None:
    """Refuse a workflow that is not there, or that the caller may not see, alike. Raises NotFound."""
    seen, values = visible(tx)
    query = f"SELECT 1 FROM workflow WHERE {' AND '.join([*seen, 'id = :asked'])}"
    if tx.db.execute(text(query), {**values, "asked": workflow_id}).first() is None:
        raise NotFound(f"there is no workflow {workflow_id}", hint="`torc workflows list` shows what there is")


_VISIBLE = """("user" = :seen_user OR id IN (SELECT s.workflow_id FROM access_share s
    JOIN access_member m ON m.group_id = s.group_id WHERE m.account_id = :seen_account))"""


def require_owner(tx: Tx, user: str, what: str) -> None:
    """Refuse whoever neither owns something nor is an administrator. Raises Forbidden."""
    if tx.rights is not None and not tx.rights.sees_all and tx.rights.user != user:
        raise Forbidden(f"{what} belongs to {user}", hint=f"ask {user}, or an administrator")


def is_above(tx: Tx) -> bool:
    """Return whether the caller is an administrator (with a token that says so) or the owner of the database."""
    return tx.rights is None or tx.rights.sees_all


def _hidden(subject: AccessSubject, number: int) -> NotFound:
    # the same whether it is not there or not for the caller: ids tell nothing
    return NotFound(
        f"there is no {subject.noun} {number} that you can see", hint=f"`torc {subject.command}` shows what there is"
    )


def _refused(kind: type[Request[Any]], rights: Rights, held: Access | None) -> Forbidden:
    what, needed = kind.__name__, kind.access
    if needed == "admin" and not rights.is_admin:
        return Forbidden(f"{what} is for administrators", hint="ask one of the server")
    if level(rights.scope) < level(needed):
        return Forbidden(
            f"{what} needs the right to {_verb(needed)}, and this token carries `{rights.scope}`",
            hint=f"make one that carries more: torc tokens create NAME --scope {needed}",
        )
    if held is not None and level(held) < level(needed):
        return Forbidden(
            f"{what} needs the right to {_verb(needed)}, and this workflow is shared with you to {held}",
            hint="ask its owner to share it with more rights",
        )
    return Forbidden(f"{what} is not for this token: it is for one workflow alone", hint="use another token")


def _verb(access: Access) -> str:
    return {"admin": "administer", "job": "act as a job"}.get(access, access)
