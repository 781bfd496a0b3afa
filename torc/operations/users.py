"""Accounts: make them, change them, delete them, import them. Not for deciding what they may do: `access`."""

from __future__ import annotations

import re

from sqlalchemy import RowMapping

from torc.api import users as api
from torc.api.base import Page
from torc.errors import Conflict, Forbidden, Invalid, NotFound
from torc.operations.dispatch import Tx, answers, prepares
from torc.operations.passwords import hash_password, is_known_hash
from torc.operations.row_mapping import decode_cursor, encode_cursor
from torc.store import access_groups as group_rows
from torc.store import tokens as token_rows
from torc.store import users as user_rows

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_MOST_LINES = 100_000


def account_row(tx: Tx, user_id: int) -> RowMapping:
    """Return the row of an account. Raises NotFound."""
    row = user_rows.get(tx.db, user_id)
    if row is None:
        raise NotFound(f"there is no user {user_id}", hint="`torc users list` shows them")
    return row


def account_named(tx: Tx, name: str) -> RowMapping:
    """Return the row of an account by its name. Raises NotFound."""
    row = user_rows.named(tx.db, name)
    if row is None:
        raise NotFound(f"there is no user `{name}`", hint="an administrator adds users: torc users create NAME")
    return row


def is_name(shown: str) -> bool:
    """Return whether an account could have this name."""
    return _NAME.fullmatch(shown) is not None


def _user(row: RowMapping) -> api.User:
    flags = {name: bool(row[name]) for name in ("is_admin", "is_disabled", "has_password")}
    return api.User(
        id=row["id"], name=row["name"], created_at=row["created_at"], num_workflows=row["num_workflows"], **flags
    )


@answers(api.GetMe)
def get_me(tx: Tx, _request: api.GetMe) -> api.Me:
    """Return who the caller is."""
    rights = tx.rights
    if rights is None:
        return api.Me(user=tx.actor.partition(":")[2] or tx.actor, user_id=None, is_admin=True, scope="admin")
    return api.Me(
        user=rights.user,
        user_id=rights.account_id,
        is_admin=rights.is_admin,
        scope=rights.scope,
        workflow_id=rights.workflow_id,
        token_id=rights.token_id,
        expires_at=rights.expires_at,
        access_groups=group_rows.names_of_account(tx.db, rights.account_id),
    )


@prepares(api.CreateUser)
def hash_of_new(request: api.CreateUser) -> str | None:
    """Hash the password of an account that is to be made."""
    return None if request.password is None else hash_password(checked(request.name, request.password))


@answers(api.CreateUser)
def create_user(tx: Tx, request: api.CreateUser) -> api.User:
    """Make an account."""
    if user_rows.named(tx.db, request.name) is not None:
        raise Conflict(f"there is a user `{request.name}` already", hint="choose another name")
    number = user_rows.insert(tx.db, request.name, tx.prepared, tx.now, is_admin=request.is_admin)
    return _user(account_row(tx, number))


@answers(api.ListUsers)
def list_users(tx: Tx, request: api.ListUsers) -> Page[api.User]:
    """List accounts."""
    key = decode_cursor(request.cursor)
    after = key[0] if key else 0
    rows = user_rows.page(tx.db, tx.dialect, name=request.name, after=after, limit=request.limit + 1)
    items = [_user(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(api.GetUser)
def get_user(tx: Tx, request: api.GetUser) -> api.User:
    """Get one account."""
    return _user(account_row(tx, request.user_id))


@answers(api.UpdateUser)
def update_user(tx: Tx, request: api.UpdateUser) -> api.User:
    """Change what an account is."""
    row = account_row(tx, request.user_id)
    loses = request.is_admin is False or request.is_disabled is True
    if loses and tx.rights is not None and tx.rights.account_id == row["id"]:
        raise Conflict("nobody can take rights from themselves", hint="ask another administrator")
    user_rows.update(tx.db, row["id"], is_admin=request.is_admin, is_disabled=request.is_disabled)
    return _user(account_row(tx, row["id"]))


@answers(api.DeleteUser)
def delete_user(tx: Tx, request: api.DeleteUser) -> None:
    """Delete an account."""
    row = account_row(tx, request.user_id)
    if tx.rights is not None and tx.rights.account_id == row["id"]:
        raise Conflict("nobody can delete their own account", hint="ask another administrator")
    # somebody of the same name later would find them to be theirs
    if row["num_workflows"]:
        raise Conflict(
            f"{row['num_workflows']} workflow(s) belong to `{row['name']}`",
            hint="give them to somebody else (`torc workflows update ID --user NAME`) or disable the account "
            f"(`torc users update {row['name']} --disable`)",
        )
    group = group_rows.name_of_owned(tx.db, row["id"])
    if group is not None:
        raise Conflict(f"the access group `{group}` belongs to `{row['name']}`", hint="delete the group first")
    user_rows.delete(tx.db, row["id"])


@prepares(api.SetPassword)
def hash_of_set(request: api.SetPassword) -> str:
    """Hash a new password."""
    return hash_password(request.password)


@answers(api.SetPassword)
def set_password(tx: Tx, request: api.SetPassword) -> None:
    """Set a password."""
    if tx.rights is not None and not tx.rights.sees_all:
        if tx.rights.account_id != request.user_id:
            raise NotFound(
                f"there is no user {request.user_id} that you can see", hint="`torc whoami` tells your own id"
            )
        if tx.rights.token_id is not None:
            raise Forbidden("the old password is needed to set a new one", hint="call with it: HTTP Basic, not a token")
    row = account_row(tx, request.user_id)
    checked(row["name"], request.password)
    user_rows.set_password(tx.db, row["id"], tx.prepared)
    if request.revoke_tokens:
        token_rows.revoke_all(tx.db, row["id"], tx.now)


def checked(name: str, password: str) -> str:
    """Give a password back. Raises Invalid for the one that everybody would try first."""
    if password.lower() == name.lower():
        raise Invalid("the password is the name of the user", hint="choose another one")
    return password


@prepares(api.ImportUsers)
def read_htpasswd(request: api.ImportUsers) -> dict[str, str]:
    """Read the lines of an htpasswd file: name -> hash. Raises Invalid, with every line that cannot be used."""
    found: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(request.htpasswd.splitlines()[:_MOST_LINES], 1):
        name, colon, stored = line.strip().partition(":")
        if not name or name.startswith("#"):
            continue
        if not colon or not is_name(name):
            problems.append(f"line {number}: write NAME:HASH, the name of letters, digits and ._@+-")
        elif name in found:
            problems.append(f"line {number}: `{name}` is there twice")
        elif not is_known_hash(stored):
            problems.append(f"line {number}: the password of `{name}` is hashed in a way that is not safe, or unknown")
        else:
            found[name] = stored
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise Invalid(problems[0] + more, hint="bcrypt is taken: htpasswd -B FILE NAME", problems=problems[:100])
    return found


@answers(api.ImportUsers)
def import_users(tx: Tx, request: api.ImportUsers) -> list[api.User]:
    """Make accounts of the lines of an htpasswd file."""
    wanted: dict[str, str] = tx.prepared
    known = user_rows.ids(tx.db, wanted)
    taken = [name for name, number in known.items() if number is not None]
    if taken and not request.replace:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise Conflict(f"there is a user `{taken[0]}`{more} already", hint="take out the line, or say --replace")
    numbers = []
    for name, stored in wanted.items():
        number = known[name]
        if number is None:
            number = user_rows.insert(tx.db, name, stored, tx.now)
        else:
            user_rows.set_password(tx.db, number, stored)
        numbers.append(number)
    return [_user(account_row(tx, number)) for number in numbers]
