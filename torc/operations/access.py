"""Which rights a caller has, and what it may see. The decision itself is `torc.workflow.access.decide`.

Everything is looked up in the transaction of the request, so a revocation takes effect at once.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from torc.api.base import Request
from torc.errors import Forbidden, NotFound, Unauthorized
from torc.operations.transaction import Tx
from torc.planning.scheduler_types import DEFAULT_TYPE
from torc.store import access as access_rows
from torc.workflow.access import SHARED, Access, AccessDecision, Rights, decide, level

#: a runner that has been silent for so long will not come back: what was given to its jobs opens nothing more
_SILENT_SECONDS = 3600.0
_SIGN_IN = "sign in again: torc login URL"


class AccessSubject(NamedTuple):
    """Where to find the thing that a request names, and how to refer to it."""

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
    AccessSubject("scheduler_id", "named", DEFAULT_TYPE.noun, f"{DEFAULT_TYPE.commands} list"),
    AccessSubject("event_id", "event", "event", "events list"),
    AccessSubject("runner_id", "runner", "runner", "compute-nodes list"),
    AccessSubject("result_id", "attempt", "result", "results list"),
    AccessSubject("allocation_id", "allocation", "allocation", "slurm list"),
)


def admit(tx: Tx, request: Request[Any]) -> Tx:
    """Check that the caller may send a request; return its rights. Raises Unauthorized, Forbidden, or NotFound for what is hidden."""
    subject = subject_of(type(request))
    return admit_kind(tx, type(request), None if subject is None else getattr(request, subject.field))


def admit_kind(tx: Tx, kind: type[Request[Any]], number: int | None) -> Tx:
    """Check a kind of request about the thing `number` in its path, before its other fields are known."""
    rights = rights_of(tx)
    if rights is None:
        return tx
    tx = tx.with_rights(rights)
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
    """Return the rights of the caller's account; None for the owner of the database. Raises Unauthorized."""
    caller = tx.caller
    if caller is None or caller.is_owner:
        return None
    if caller.runner_id is not None:
        return _rights_of_jobs(tx, caller.runner_id)
    assert caller.account_id is not None
    found = access_rows.signed_in(tx.db, tx.dialect, caller.account_id, caller.token_id)
    if found is None:
        raise Unauthorized("this token is no longer valid", hint=_SIGN_IN)
    if found.is_disabled:
        raise Unauthorized(f"the account `{found.name}` is disabled", hint="ask an administrator of the server")
    if found.revoked_at is not None:
        raise Unauthorized("this token was revoked", hint=_SIGN_IN)
    if found.expires_at is not None and found.expires_at <= tx.now:
        raise Unauthorized("this token has expired", hint=_SIGN_IN)
    is_admin = bool(found.is_admin)
    scope: Access = "write" if caller.token_id is None and not is_admin else found.scope
    return Rights(found.name, caller.account_id, is_admin, scope, found.workflow_id, caller.token_id, found.expires_at)


def _rights_of_jobs(tx: Tx, runner_id: int) -> Rights:
    """Return what the jobs of a runner may do while it is active. Raises Unauthorized."""
    found = access_rows.runner_lease(tx.db, tx.dialect, runner_id)
    if found is None or not found.is_active or found.lease_expires_at + _SILENT_SECONDS < tx.now:
        raise Unauthorized(
            "this token is for the jobs of a runner that has ended",
            hint="a process that outlives its runner needs its own token: set TORC_TOKEN_FILE",
        )
    return Rights(found.user, 0, False, "job", found.workflow_id)


@cache
def subject_of(kind: type[Request[Any]]) -> AccessSubject | None:
    """Return what of a workflow a request is about: the first such thing in its path."""
    fields = [part[1:-1] for part in kind.http_path.split("/") if part.startswith("{")]
    known = {subject.field: subject for subject in SUBJECTS}
    return next((known[field] for field in fields if field in known), None)


def held_to(tx: Tx, number: int, subject: AccessSubject = SUBJECTS[0]) -> tuple[int, Access | None] | None:
    """Return the workflow of a thing and the right that the caller's account holds to it; None: there is no such thing."""
    assert tx.rights is not None
    found = access_rows.held_workflow(tx.db, tx.dialect, subject.table, number, tx.rights.account_id)
    if found is None:
        return None
    if found.user == tx.rights.user:
        return found.workflow_id, "write"
    return found.workflow_id, None if found.shared_level is None else SHARED[found.shared_level]


def require_visible(tx: Tx, workflow_id: int) -> None:
    """Refuse a workflow that does not exist, or that the caller may not see, with the same error. Raises NotFound."""
    if not access_rows.is_visible(tx.db, tx.rights, workflow_id):
        raise NotFound(f"there is no workflow {workflow_id}", hint="`torc workflows list` shows what there is")


def require_owner(tx: Tx, user: str, what: str) -> None:
    """Refuse callers that neither own something nor are administrators. Raises Forbidden."""
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
            f"{what} needs the right to {_verb(needed)}, and this token has `{rights.scope}`",
            hint=f"create one with more rights: torc tokens create NAME --scope {needed}",
        )
    if held is not None and level(held) < level(needed):
        return Forbidden(
            f"{what} needs the right to {_verb(needed)}, and this workflow is shared with you to {held}",
            hint="ask its owner to share it with more rights",
        )
    return Forbidden(f"{what} is not for this token: it is for one workflow alone", hint="use another token")


def _verb(access: Access) -> str:
    return {"admin": "administer", "job": "act as a job"}.get(access, access)
