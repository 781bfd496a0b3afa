"""`torc tokens`: what programs show instead of a password."""

from __future__ import annotations

from typing import Annotated

import typer

from torc.api import users as api
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.connection import torc, workflow_id
from torc.cli.named_objects import Limit, checked, done
from torc.cli.options.amounts import seconds
from torc.cli.session import SESSION
from torc.workflow.access import LEVELS

tokens = App("What programs show instead of a password.")
_COLUMNS = [
    *rendering.columns("id", "name", "user", "scope"),
    ("workflow", rendering.attribute("workflow_id")),
    ("created", lambda t: rendering.when(t.created_at)),
    ("expires", lambda t: rendering.when(t.expires_at) or "never"),
    ("used", lambda t: rendering.when(t.used_at)),
    ("revoked", lambda t: rendering.when(t.revoked_at)),
]


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[
        str, typer.Option("--scope", help=f"One of {', '.join(LEVELS)}: each includes those before.")
    ] = "write",
    expires: Annotated[
        str | None, typer.Option("--expires", help="How long it is valid, such as 30d; default: for ever.")
    ] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="For this workflow alone.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="For whom; administrators only.")] = None,
) -> None:
    """Make a token. It is shown this once; show it to servers by TORC_TOKEN.

    Example: torc tokens create nightly --scope run --expires 30d
    """
    with torc(create=False) as opened:
        number = None if workflow is None else workflow_id(opened, workflow)
        fields = {"name": name, "scope": scope, "workflow_id": number, "user": user}
        made = opened.send(checked(api.CreateToken, **fields, expires_in_seconds=seconds(expires, "--expires")))
    if SESSION.json:
        rendering.show_json(made)
        return
    print(made.token)
    until = rendering.when(made.expires_at) or "it is revoked"
    rendering.note(f"token {made.id} of {made.user} to {made.scope}, until {until}; it is not shown again")


@tokens.command("list")
def list_tokens(
    user: Annotated[str | None, typer.Option("--user", help="Of whom; administrators only.")] = None,
    ended: Annotated[bool, typer.Option("--all", help="Revoked and expired ones, too.")] = False,
    limit: Limit = 1000,
) -> None:
    """List tokens: your own, or all as an administrator.

    Example: torc tokens list
    """
    with torc(create=False) as opened:
        items, more = rendering.all_pages(
            lambda cursor: opened.send(
                api.ListTokens(user=user, include_ended=ended, limit=min(limit, 10_000), cursor=cursor)
            ),
            limit,
        )
    rendering.show_list(items, _COLUMNS, empty="there are no tokens", more=more)


@tokens.command("revoke")
def revoke_token(
    token_id: int,
    keep_made: Annotated[bool, typer.Option("--keep-made", help="Let those hold that were made with it.")] = False,
) -> None:
    """Revoke a token and those that were made with it; from then on they open nothing.

    Example: torc tokens revoke 7
    """
    with torc(create=False) as opened:
        opened.send(api.RevokeToken(token_id=token_id, keep_made=keep_made))
    done({"revoked": token_id}, f"revoked token {token_id}")
