"""Tokens: `torc_ID_SECRET`. The secret is 256 random bits, so a plain SHA-256 of it is stored: nothing could be guessed from it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Any

from sqlalchemy import RowMapping

from torc.api import users as api
from torc.api.base import Page
from torc.errors import Forbidden, Invalid, NotFound
from torc.operations.access import held_to, is_above
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import decode_cursor, encode_cursor, workflow_row
from torc.operations.users import account_named
from torc.store import runners as runner_rows
from torc.store import tokens as token_rows
from torc.store.id_blocks import take_ids
from torc.store.tokens import TokenFilter, TokenOwner
from torc.workflow.access import Access, level

_TOKEN = re.compile(r"torc_([0-9]{1,18})_([A-Za-z0-9_-]{43})")
_OF_JOBS = re.compile(r"torcjob_([0-9]{1,18})_([A-Za-z0-9_-]{43})")


def read_token(shown: str) -> tuple[int, str] | None:
    """Return the id and the hash of a token that was shown; None: it does not look like one."""
    found = _TOKEN.fullmatch(shown)
    return None if found is None else (int(found[1]), hash_of(found[2]))


def hash_of(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def owner_of_token(tx: Tx, token_id: int, shown_hash: str) -> TokenOwner | None:
    """Return whose token it is; None: there is no such token.

    Whether it holds still is asked with each request (`access.rights_of`).
    """
    found = token_rows.owner(tx.db, tx.dialect, token_id)
    return found if found is not None and hmac.compare_digest(found.secret_hash, shown_hash) else None


def read_job_token(shown: str) -> tuple[int, str] | None:
    """Return the runner and the hash of a token that a runner has given to its jobs; None: it does not look like one."""
    found = _OF_JOBS.fullmatch(shown)
    return None if found is None else (int(found[1]), hash_of(found[2]))


def is_job_token(tx: Tx, runner_id: int, shown_hash: str) -> bool:
    """Return whether a runner has given this token to its jobs. Whether it holds still is asked with each request."""
    stored = runner_rows.job_token_hash(tx.db, tx.dialect, runner_id)
    return stored is not None and hmac.compare_digest(stored, shown_hash)


def note_use(tx: Tx, token_id: int) -> None:
    """Note that a token was shown."""
    token_rows.note_use(tx.db, token_id, tx.now)


def _token(row: RowMapping) -> api.Token:
    fields = ("id", "name", "scope", "workflow_id", "parent_id", "created_at", "expires_at", "revoked_at", "used_at")
    return api.Token(user=row["user_name"], **{name: row[name] for name in fields})


def _row(tx: Tx, token_id: int) -> RowMapping:
    row = token_rows.get(tx.db, token_id)
    rights = tx.rights
    is_own = row is not None and rights is not None and rights.account_id == row["account_id"]
    if row is None or not (is_own or is_above(tx)):
        raise NotFound(f"there is no token {token_id} that you can see", hint="`torc tokens list` shows them")
    return row


@answers(api.CreateToken)
def create_token(tx: Tx, request: api.CreateToken) -> api.NewToken:
    """Make a token."""
    account_id, is_admin, expires_at = _for_whom(tx, request)
    if request.scope == "admin" and not is_admin:
        _refuse_admin()
    if request.workflow_id is not None:
        if tx.rights is None or tx.rights.sees_all:
            workflow_row(tx, request.workflow_id)
        else:
            _require_sight(tx, request.workflow_id)
    secret = secrets.token_urlsafe(32)
    number = take_ids(tx.db, "token")
    values: dict[str, Any] = {
        "id": number,
        "account_id": account_id,
        "parent_id": tx.rights.token_id if tx.rights else None,
        "workflow_id": request.workflow_id,
        "name": request.name,
        "secret_hash": hash_of(secret),
        "scope": request.scope,
        "created_at": tx.now,
        "expires_at": expires_at,
    }
    token_rows.insert(tx.db, values)
    made = token_rows.get(tx.db, number)
    assert made is not None
    return api.NewToken(**_token(made).model_dump(), token=f"torc_{number}_{secret}")


def _for_whom(tx: Tx, request: api.CreateToken) -> tuple[int, bool, float | None]:
    """Return the account, whether it is an administrator's, and the end of the new token. Raises Forbidden or Invalid."""
    rights = tx.rights
    wanted = None if request.expires_in_seconds is None else tx.now + request.expires_in_seconds
    if request.user is not None and (rights is None or request.user != rights.user):
        if not is_above(tx):
            raise Forbidden("tokens of others are made by administrators", hint="leave out the user")
        row = account_named(tx, request.user)
        return row["id"], bool(row["is_admin"]), _earlier(wanted, rights.expires_at if rights else None)
    if rights is None:
        raise Invalid("a token needs an account", hint="say whose: torc tokens create NAME --user USER")
    if request.scope == "admin" and not rights.is_admin:
        _refuse_admin()
    if level(request.scope) > level(rights.scope):
        _refuse_more(request.scope, rights.scope)
    return rights.account_id, rights.is_admin, _earlier(wanted, rights.expires_at)


def _refuse_admin() -> None:
    raise Forbidden("only an administrator's token can carry `admin`", hint="ask for write, run or read")


def _refuse_more(wanted: Access, held: Access) -> None:
    raise Forbidden(
        f"a token with `{held}` cannot create one with `{wanted}`",
        hint="sign in by password for that: torc login URL --scope " + wanted,
    )


def _earlier(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def _require_sight(tx: Tx, workflow_id: int) -> None:
    held = held_to(tx, workflow_id)
    if held is None or held[1] is None:
        raise NotFound(f"there is no workflow {workflow_id} that you can see", hint="`torc workflows list` shows them")


@answers(api.ListTokens)
def list_tokens(tx: Tx, request: api.ListTokens) -> Page[api.Token]:
    """List tokens."""
    key = decode_cursor(request.cursor)
    user = request.user
    own: int | None = None
    if tx.rights is not None and not tx.rights.sees_all:
        if user not in {None, tx.rights.user}:
            raise Forbidden("tokens of others are for administrators", hint="leave out the user")
        user = tx.rights.user
        if tx.rights.workflow_id is not None:
            own = tx.rights.token_id or 0  # jobs of a runner have none
    wanted = TokenFilter(user, own, None if request.include_ended else tx.now)
    rows = token_rows.page(tx.db, wanted, after=key[0] if key else 0, limit=request.limit + 1)
    items = [_token(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(api.RevokeToken)
def revoke_token(tx: Tx, request: api.RevokeToken) -> None:
    """Revoke a token, and those that were made with it."""
    rights = tx.rights
    is_itself = rights is not None and rights.token_id == request.token_id
    if (
        rights is not None
        and not is_itself
        and (level(rights.scope) < level("write") or rights.workflow_id is not None)
    ):
        raise Forbidden("this token can only revoke itself", hint="use one with `write`")
    row = _row(tx, request.token_id)
    token_rows.revoke(tx.db, row["id"], tx.now, with_derived=not request.keep_made)
