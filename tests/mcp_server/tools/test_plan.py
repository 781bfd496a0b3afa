"""Plans of large stored workflows: estimated from sums, and they say so."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from mcp.client import Client

from mcp_server.context import ToolContext
from mcp_server.server import TorcMcpServer
from mcp_server.tools import plan
from tests.mcp_server.client import ask
from tests.support.stores import open_sqlite
from tests.support.workflows import create, finish


def test_an_estimate_agrees_with_the_simulation_where_both_are_exact(
    sqlite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_sqlite(sqlite_file, tmp_path)
    jobs = [{"name": "a", "command": "true"}]
    jobs += [{"name": f"b{at}", "command": "true", "depends_on": ["a"]} for at in range(5)]
    jobs += [{"name": "c", "command": "true", "depends_on": ["b0", "b1"]}]
    wf = create(opened, {"name": "w", "jobs": jobs}).id
    finish(opened, wf, "a")

    async def talk() -> None:
        async with Client(TorcMcpServer(lambda _client, _request: ToolContext(opened))) as client:
            exact = await ask(client, "get_execution_plan", workflow_id=wf)
            monkeypatch.setattr(plan, "MOST_SIMULATED", 1)
            told = await ask(client, "get_execution_plan", workflow_id=wf)
            assert "estimated" not in exact
            assert "from sums" in told["estimated"]
            same = ("jobs_to_do", "jobs_finished", "stages", "num_stages", "critical_path", "cpu_hours", "gpu_hours")
            assert {name: told[name] for name in same} == {name: exact[name] for name in same}
            assert told["critical_path_time"].removeprefix("at most about ") == exact["critical_path_time"]
            assert told["node_hours"] >= exact["node_hours"]

    anyio.run(talk)
    opened.close()
