"""`torc users`: the accounts of a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.api import users as api
from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.connection import server_of, torc
from torc.cli.named_objects import Limit, checked, done
from torc.cli.secret_input import ask_password
from torc.errors import Invalid, NotFound
from torc.units import whole_number

users = App("Manage the accounts of a server.")

PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from a line of standard input.")
]
Who = Annotated[str, typer.Argument(metavar="USER", help="Name or id.")]
_USERS = [
    *rendering.columns("id", "name"),
    ("admin", rendering.attribute("is_admin")),
    ("disabled", rendering.attribute("is_disabled")),
    ("password", rendering.attribute("has_password")),
    ("workflows", rendering.attribute("num_workflows")),
    ("created", lambda u: rendering.when(u.created_at)),
]


@users.command("create")
def create_user(
    name: str,
    admin: Annotated[bool, typer.Option("--admin", help="An administrator, who may do everything.")] = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="An account that signs in only with tokens.")
    ] = False,
    password_stdin: PasswordStdin = False,
) -> None:
    """Create an account. The password is read from the terminal.

    Example: torc users create alice --admin
    """
    password = None if no_password else ask_password(f"password of {name}", from_stdin=password_stdin, twice=True)
    request = checked(api.CreateUser, name=name, password=password, is_admin=admin)
    with torc() as opened:
        rendering.show_one(opened.send(request), _USERS)


@users.command("list")
def list_users(
    name: Annotated[
        str | None, typer.Option("--name", help="Only names that match this pattern, with * and ?.")
    ] = None,
    limit: Limit = 1000,
) -> None:
    """List accounts.

    Example: torc users list
    """
    with torc(create=False) as opened:
        items, more = rendering.all_pages(
            lambda cursor: opened.send(api.ListUsers(name=name, limit=min(limit, 10_000), cursor=cursor)), limit
        )
    rendering.show_list(items, _USERS, empty="there are no users", more=more)


@users.command("get")
def get_user(user: Who) -> None:
    """Show one account.

    Example: torc users get alice
    """
    with torc(create=False) as opened:
        rendering.show_one(opened.send(api.GetUser(user_id=user_id(opened, user))), _USERS)


@users.command("update")
def update_user(
    user: Who,
    admin: Annotated[
        bool | None, typer.Option("--admin/--no-admin", help="Whether the account is an administrator.")
    ] = None,
    disable: Annotated[bool | None, typer.Option("--disable/--enable", help="Disable or enable the account.")] = None,
) -> None:
    """Change what an account may do.

    Example: torc users update alice --disable
    """
    if admin is None and disable is None:
        raise Invalid("nothing is to be changed", hint="say --admin, --no-admin, --disable or --enable")
    with torc(create=False) as opened:
        request = api.UpdateUser(user_id=user_id(opened, user), is_admin=admin, is_disabled=disable)
        rendering.show_one(opened.send(request), _USERS)


@users.command("set-password")
def set_password(
    user: Annotated[str | None, typer.Argument(metavar="[USER]", help="Name or id; default: yourself.")] = None,
    revoke_tokens: Annotated[bool, typer.Option("--revoke-tokens", help="Revoke all tokens of the account.")] = False,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin",
            help="Read the password from standard input; for your own, the old password comes first.",
        ),
    ] = False,
) -> None:
    """Set a password: your own, or as an administrator, anybody's.

    Example: torc users set-password
    """
    with torc(create=False) as opened:
        me = opened.send(api.GetMe())
        is_own = me.user_id is not None and user in {None, me.user, str(me.user_id)}
        if user is None and not is_own:
            raise Invalid("say whose password it is", hint="torc users set-password USER")
        number = me.user_id if is_own else user_id(opened, str(user))
        old = ask_password("old password", from_stdin=password_stdin) if is_own else None
        new = ask_password("new password", from_stdin=password_stdin, twice=True)
        request = checked(api.SetPassword, user_id=number, password=new, revoke_tokens=revoke_tokens)
        if old is None:
            opened.send(request)
        else:
            _by_password(opened, me.user, old, request)
    done({"user_id": number}, "the password is set")


def _by_password(opened: Torc, user: str, password: str, request: Any) -> None:
    """Ask a server with a password instead of the token."""
    server = server_of(opened)
    if server is None:
        opened.send(request)
        return
    by_password = server.with_other(password=(user, password))
    try:
        by_password.send(request)
    finally:
        by_password.close()


@users.command("delete")
def delete_user(user: Who) -> None:
    """Delete an account and its tokens. Refused while it owns workflows.

    Example: torc users delete alice
    """
    with torc(create=False) as opened:
        number = user_id(opened, user)
        opened.send(api.DeleteUser(user_id=number))
    done({"deleted": f"user {number}"}, f"deleted user {user}")


@users.command("import-htpasswd")
def import_htpasswd(
    file: Annotated[Path, typer.Argument(help="A file from `htpasswd -B`, or - for standard input.")],
    replace: Annotated[bool, typer.Option("--replace", help="Also set the passwords of existing users.")] = False,
) -> None:
    """Create an account for each line of an htpasswd file (bcrypt or argon2): all of them, or none.

    Example: torc users import-htpasswd /etc/apache2/htpasswd
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read {file}: {error}", hint="name a file that htpasswd -B wrote") from None
    with torc() as opened:
        made = opened.send(checked(api.ImportUsers, htpasswd=text, replace=replace))
    rendering.show_list(made, _USERS, empty="there is nobody in the file")


def user_id(opened: Torc, named: str) -> int:
    """Find an account by name or id. Raises NotFound."""
    found = opened.send(api.ListUsers(name=named, limit=1)).items if not set(named) & set("*?") else ()
    if found:
        return int(found[0].id)
    number = whole_number(named)
    if number is not None:
        return number
    raise NotFound(f"there is no user `{named}`", hint="`torc users list` shows them")
