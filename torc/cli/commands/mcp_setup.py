"""`torc mcp install` and `uninstall`: enter the MCP server and the skill where assistants look for them."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.cli import rendering
from torc.cli.session import SESSION
from torc.program import own_program


class ClientName(StrEnum):
    """Clients whose files are known."""

    CLAUDE_CODE = "claude-code"
    VSCODE = "vscode"
    COPILOT_CLI = "copilot-cli"
    CURSOR = "cursor"


class Scope(StrEnum):
    """For whom."""

    USER = "user"
    PROJECT = "project"


ClientOption = Annotated[ClientName, typer.Option("--client", help="The assistant to configure.")]
ScopeOption = Annotated[
    Scope,
    typer.Option("--scope", help="user: for you, everywhere; project: for everybody who works in this directory."),
]
NoSkill = Annotated[
    bool, typer.Option("--no-skill", help="Leave out the skill, a text that teaches assistants to use Torc.")
]
Print = Annotated[bool, typer.Option("--print", help="Show what would be written, but write nothing.")]


def install(
    client: ClientOption, scope: ScopeOption = Scope.USER, no_skill: NoSkill = False, print_only: Print = False
) -> None:
    """Add the MCP server, and a skill that teaches Torc, to the configuration of an assistant.

    Existing entries are kept. To choose a server, database or policy for the assistant, use the configuration (`torc
    config`).

    Example: torc mcp install --client claude-code
    """
    client_config = _client_config()
    known = client_config.CLIENTS[client.value]
    where = client_config.place(known, scope.value, known.files[scope.value], Path.cwd(), os.environ)
    changes = [client_config.entered(known, where, _command(scope), {})]
    if not no_skill:
        changes += client_config.skill_entered(_skills(client_config, known, scope))
    _do(client_config, changes, scope, print_only)
    if print_only or SESSION.json:
        return
    rendering.note(f"{known.title} starts it from now on; begin a new session there")
    if scope is Scope.PROJECT and os.sep in _command(scope)[0]:
        rendering.note("note: `torc` is not on your PATH, so the file names it by its path on this machine")


def uninstall(
    client: ClientOption, scope: ScopeOption = Scope.USER, no_skill: NoSkill = False, print_only: Print = False
) -> None:
    """Remove the MCP server and the skill from the configuration of an assistant.

    Example: torc mcp uninstall --client vscode --scope project
    """
    client_config = _client_config()
    known = client_config.CLIENTS[client.value]
    where = client_config.place(known, scope.value, known.files[scope.value], Path.cwd(), os.environ)
    changes = [client_config.taken_out(known, where)]
    if not no_skill:
        changes += client_config.skill_taken_out(_skills(client_config, known, scope))
    _do(client_config, changes, scope, print_only)
    if not print_only and not no_skill:
        client_config.tidy(_skills(client_config, known, scope))


def _client_config() -> Any:
    return importlib.import_module(
        "mcp_server.client_config"
    )  # an interface of its own, loaded for these commands alone


def _skills(client_config: Any, client: Any, scope: Scope) -> Path:
    found: Path = client_config.place(client, scope.value, client.skills[scope.value], Path.cwd(), os.environ)
    return found


def _command(scope: Scope) -> list[str]:
    """Return the command that a client is to start: by its path for the user; by name where others have it elsewhere."""
    program = shutil.which("torc")
    if scope is Scope.PROJECT and program is not None:
        return ["torc", "mcp", "serve"]
    beside = Path(sys.executable).with_name("torc")
    if beside.exists():
        return [str(beside), "mcp", "serve"]
    return [program, "mcp", "serve"] if program else [*own_program(), "mcp", "serve"]


def _do(client_config: Any, changes: list[Any], scope: Scope, print_only: bool) -> None:
    for change in changes:
        if not print_only:  # some clients keep secrets of their own in the user's file
            client_config.carry_out(change, 0o600 if scope is Scope.USER else 0o644)
    if SESSION.json:
        rendering.show_json(
            [
                {"path": str(change.path), "did": change.did, **({"text": change.text} if print_only else {})}
                for change in changes
            ]
        )
        return
    for change in changes:
        if print_only and change.path.suffix == ".json":
            print(f"# {change.path}\n{change.text or ''}")
        else:
            print(f"{'would be ' * print_only + change.did:>{18 if print_only else 9}}  {change.path}")
