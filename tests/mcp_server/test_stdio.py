"""What serving one client opens and closes, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mcp_server import stdio
from mcp_server.context import AssistantPolicy, MakeContext, ToolContext


class Opened:
    """A Torc that is only opened and closed."""

    num_open = 0

    def __init__(self, _actor: str) -> None:
        time.sleep(0.05)  # as a database takes
        Opened.num_open += 1

    def send(self, request: Any) -> Any:
        """Answer nothing: nobody asks."""
        raise NotImplementedError(request)

    def close(self) -> None:
        """Count."""
        Opened.num_open -= 1


def test_tools_that_are_called_at_once_share_a_store_which_is_closed_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    contexts: list[ToolContext] = []

    class Called:
        def __init__(self, make_context: MakeContext) -> None:
            self.make_context: Callable[[str, Any], ToolContext] = make_context

        def run(self, _transport: str) -> None:
            with ThreadPoolExecutor(4) as threads:
                contexts.extend(threads.map(lambda _: self.make_context("editor", None), range(4)))

    monkeypatch.setattr(stdio, "TorcMcpServer", Called)
    stdio.serve(Opened, lambda _torc: {}, AssistantPolicy(), tmp_path)
    assert len({id(context.torc) for context in contexts}) == 1
    assert Opened.num_open == 0
