"""Serve one client on standard input and output. The store is opened when a tool first needs it, so that the client gets the list of
tools at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mcp_server.context import AssistantPolicy, ToolContext
from mcp_server.server import TorcMcpServer
from torc.api.base import Torc
from torc.client.connect import user_name


def serve(
    open_torc: Callable[[str], Torc],
    place_of: Callable[[Torc], Mapping[str, str]],
    policy: AssistantPolicy,
    output_dir: Path,
) -> None:
    """Serve until the client disconnects. `open_torc` is called with the actor for the event log."""
    opened: dict[str, Torc] = {}
    opening = threading.Lock()  # assistants call several tools at once

    def make_context(client: str, _request: Any) -> ToolContext:
        with opening:
            if client not in opened:
                opened[client] = open_torc(f"assistant:{client}")
        torc = opened[client]
        place = place_of(torc)
        user = user_name() if "TORC_DB" in place else None  # a server knows whose token it receives
        return ToolContext(torc, policy, client, user, output_dir=output_dir, place=place)

    try:
        TorcMcpServer(make_context).run("stdio")
    finally:
        for torc in opened.values():
            torc.close()
