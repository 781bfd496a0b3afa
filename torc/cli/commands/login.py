"""`torc login`, `logout` and `whoami`: get a token from a server, keep it, show who one is there."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from torc.api import users as api
from torc.cli import rendering
from torc.cli.commands.users import PasswordStdin
from torc.cli.connection import torc
from torc.cli.named_objects import checked
from torc.cli.options.amounts import seconds
from torc.cli.secret_input import ask_password, first_line
from torc.cli.session import SESSION
from torc.client import credentials
from torc.client.connect import user_name
from torc.errors import Forbidden, Invalid, TorcError, Unauthorized
from torc.urls import LOOPBACK

Url = Annotated[
    str | None, typer.Argument(metavar="[URL]", help="The server; default: the one that commands here use.")
]
_ME = [
    *rendering.columns("user", "user_id"),
    ("admin", rendering.attribute("is_admin")),
    ("may", rendering.attribute("scope")),
    ("workflow", rendering.attribute("workflow_id")),
    ("token", rendering.attribute("token_id")),
    ("until", lambda me: rendering.when(me.expires_at)),
    ("access groups", lambda me: ", ".join(me.access_groups)),
]


def login(  # noqa: PLR0913, PLR0917 - options of a command
    url: Url = None,
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="Name of the account; default: your name on this machine.")
    ] = None,
    scope: Annotated[str, typer.Option("--scope", help="Rights of the token: read, run, write or admin.")] = "write",
    expires: Annotated[str, typer.Option("--expires", help="Lifetime of the token.")] = "90d",
    password_stdin: PasswordStdin = False,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read a token from standard input instead.")
    ] = False,
    keyring: Annotated[
        bool | None,
        typer.Option("--keyring/--no-keyring", help="Keep the token in the keyring; default: if there is one."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Sign in even if others can read the connection.")
    ] = False,
) -> None:
    """Sign in to a server. Later commands use the token that it issues.

    Example: torc login https://torc.example.org --user alice
    """
    from torc.client.remote import Remote

    server = _server(url)
    _check_secrecy(server, insecure)
    ca_file, server_uid = _ca_file(), _server_uid(server)
    users = set() if server_uid is None else {server_uid}
    if token_stdin:
        token = first_line("a token")
        remote = Remote(server, token=token, ca_file=ca_file, server_users=users)
    else:
        user = user or user_name()
        password = ask_password(f"password of {user} at {server}", from_stdin=password_stdin)
        remote = Remote(server, password=(user, password), ca_file=ca_file, server_users=users)
    try:
        kept = _given(remote, token) if token_stdin else _made(remote, scope, expires)
    finally:
        remote.close()
    in_keyring = credentials.has_keyring() if keyring is None else keyring
    path = credentials.keep(server, replace(kept, server_uid=server_uid), os.environ, in_keyring=in_keyring)
    if SESSION.json:
        rendering.show_json(
            {"url": server, "user": kept.user, "token_id": kept.token_id, "expires_at": kept.expires_at}
        )
        return
    until = f" until {rendering.when(kept.expires_at)}" if kept.expires_at else ""
    print(f"signed in to {server} as {kept.user}{until}; the token is in {path or 'the keyring'}")
    if SESSION.settings.place()[0] is None and not _is_asked_here(server):
        rendering.note(f"commands ask it with --url {server}, or always: torc config set url {server}")


def _server_uid(server: str) -> int | None:
    """Return who else on this machine runs a server. Raises Forbidden if it was somebody else when it was signed in to last."""
    from torc.client.port_owner import server_uid, uid_of

    found = server_uid(server)
    if found is None:
        return None
    named = SESSION.settings.text("server_user")
    known = {uid_of(named)} if named else credentials.server_users(server, os.environ)
    if known and found not in known:
        raise Forbidden(
            f"a process of user {found} listens at {server}, which user {min(known)} ran before",
            hint="start the server; or if it has moved to that user: torc logout, and sign in again",
        )
    if not known:
        rendering.note(
            f"note: user {found} of this machine runs the server at {server}; only that user gets your tokens"
        )
    return found


def _ca_file() -> str | None:
    found = SESSION.settings.text("ca_file")
    return None if found is None else str(Path(found).expanduser())


def _is_asked_here(server: str) -> bool:
    try:
        return credentials.server_of(_server(None)) == credentials.server_of(server)
    except TorcError:
        return False


def _made(remote: Any, scope: str, expires: str) -> credentials.Credential:
    """Have a token made by showing the password."""
    name = f"torc login on {socket.gethostname()}"
    made = remote.send(
        checked(api.CreateToken, name=name, scope=scope, expires_in_seconds=seconds(expires, "--expires"))
    )
    return credentials.Credential(made.user, made.id, made.expires_at, made.token)


def _given(remote: Any, token: str) -> credentials.Credential:
    """Ask whose token it is."""
    me = remote.send(api.GetMe())
    return credentials.Credential(me.user, me.token_id, me.expires_at, token)


def _check_secrecy(server: str, insecure: bool) -> None:
    parts = urlsplit(server)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK and not insecure:
        raise Forbidden(
            f"the password would go to {server} in the clear",
            hint="use https:// (torc server start --tls-cert), or say --insecure where nobody can listen",
        )


def _server(url: str | None) -> str:
    """Return the URL that was named, or that commands here ask. Raises Invalid."""
    if url is not None:
        from torc.client.remote import checked_url

        return checked_url(url)
    with torc(create=False) as opened:
        found = getattr(opened, "url", None)
    if found is None:
        raise Invalid("no server is asked from here", hint="name it: torc login URL")
    return str(found)


def logout(url: Url = None) -> None:
    """Sign out: the token is revoked and deleted. Tokens that were created with it, such as those of workers, remain valid.

    Example: torc logout https://torc.example.org
    """
    from torc.client.remote import Remote

    server = _server(url)
    token = credentials.token_for(server, os.environ)
    found = credentials.forget(server, os.environ)
    if found is None:
        raise Invalid(f"nobody is signed in to {server}", hint="`torc whoami` tells who you are there")
    revoked = False
    if token is not None and found.token_id is not None:
        users = set() if found.server_uid is None else {found.server_uid}
        remote = Remote(server, token=token, ca_file=_ca_file(), server_users=users)
        try:
            remote.send(api.RevokeToken(token_id=found.token_id, keep_made=True))
            revoked = True
        except Unauthorized:
            revoked = True  # it held no more
        except TorcError as error:
            rendering.note(f"note: the token is forgotten here, but was not revoked: {error.message}")
        finally:
            remote.close()
    if SESSION.json:
        rendering.show_json({"url": server, "user": found.user, "revoked": revoked})
    else:
        print(f"signed out of {server}")


def whoami() -> None:
    """Show who you are on the server, and what you may do there.

    Example: torc whoami
    """
    with torc(create=False) as opened:
        rendering.show_one(opened.send(api.GetMe()), _ME)
