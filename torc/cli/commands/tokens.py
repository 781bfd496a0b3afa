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

tokens = App("Manage tokens, which programs use instead of a password.")
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
    name: Annotated[str, typer.Argument(help="Name of the token: what it is for.")],
    scope: Annotated[
        str, typer.Option("--scope", help=f"One of {', '.join(LEVELS)}; each includes the ones before it.")
    ] = "write",
    expires: Annotated[str | None, typer.Option("--expires", help="Lifetime, such as 30d; default: no limit.")] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="Only for this workflow.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Create it for this user; administrators only.")] = None,
) -> None:
    """Create a token. It is shown only once; set TORC_TOKEN to it to use it.

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
    user: Annotated[str | None, typer.Option("--user", help="Only tokens of this user; administrators only.")] = None,
    ended: Annotated[bool, typer.Option("--all", help="Include revoked and expired tokens.")] = False,
    limit: Limit = 1000,
) -> None:
    """List tokens: your own, or as an administrator, all of them.

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
    keep_made: Annotated[bool, typer.Option("--keep-made", help="Keep the tokens that were created with it.")] = False,
) -> None:
    """Revoke a token and the tokens that were created with it, at once.

    Example: torc tokens revoke 7
    """
    with torc(create=False) as opened:
        opened.send(api.RevokeToken(token_id=token_id, keep_made=keep_made))
    done({"revoked": token_id}, f"revoked token {token_id}")
