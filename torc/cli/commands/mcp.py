"""`torc mcp`: the MCP server for assistants."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.mcp_setup import install, uninstall
from torc.cli.commands.run import output_folder, store_variables
from torc.cli.connection import open_torc
from torc.cli.session import SESSION


def _alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        serve()


app = App("Let assistants use Torc over MCP. Without a command, serve.", alone=_alone)


@app.command()
def serve() -> None:
    """Serve one assistant on standard input and output. The assistant's program starts this.

    Example: torc mcp serve
    """
    if sys.stdin.isatty():
        rendering.note("waiting for an assistant's client on standard input; Ctrl-C ends it")
    stdio: Any = importlib.import_module("mcp_server.stdio")  # an interface of its own, loaded for this command alone
    stdio.serve(open_torc, store_variables, mcp_policy(), output_folder())


def mcp_policy() -> Any:
    """Return what the configuration lets assistants do."""
    context: Any = importlib.import_module("mcp_server.context")
    settings = SESSION.settings
    return context.AssistantPolicy(
        settings.text("mcp.policy"), settings.number("mcp.max_retries"), settings.number("mcp.max_node_hours")
    )


def mounted(identity: Any, place: Mapping[str, str]) -> Any:
    """Return what answers assistants inside a server; `place`: the variables by which processes find it."""
    http: Any = importlib.import_module("mcp_server.http")
    return http.HttpMount(identity, mcp_policy(), Path.cwd(), output_folder(), place)


app.command()(install)
app.command()(uninstall)
