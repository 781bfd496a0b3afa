"""Requests that an assistant is offered: learnt from all earlier workflows, and from jobs that came to their limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client

from mcp_server.context import ToolContext
from mcp_server.server import TorcMcpServer
from tests.mcp_server.client import ask, refused
from tests.support.stores import open_sqlite
from tests.support.workflows import create, ended, exchange, runner

MIB = 1 << 20


def workflow(opened: Any, program: str, used: list[int], outcome: Any = "succeeded") -> int:
    """Store a workflow whose jobs ask for 1 GiB; run as many as are to have used so many MiB."""
    classes = [{"name": "big", "memory": "1g", "runtime": "PT2H"}]
    jobs = [{"name": f"j{at}", "command": f"{program} {at}", "resource_requirements": "big"} for at in range(4)]
    number: int = create(opened, {"name": "w", "jobs": jobs, "resource_requirements": classes}).id
    if used:
        one = runner(opened, number)
        given = exchange(opened, number, one, limit=len(used)).assignments
        reports = [
            ended(item, outcome, 0 if outcome == "succeeded" else -9, usage={"peak_memory_bytes": peak * MIB})
            for item, peak in zip(given, used, strict=True)
        ]
        exchange(opened, number, one, finished=reports, stopping=True)
    return number


def test_resources_are_suggested_from_all_workflows_that_ran_before(sqlite_file: Path, tmp_path: Path) -> None:
    opened = open_sqlite(sqlite_file, tmp_path)
    workflow(opened, "python3 fit.py", [100, 110, 120])
    new = workflow(opened, "python3 fit.py", [])
    cut_off = workflow(opened, "python3 fit.py", [1024, 1024], "failed")
    strange = workflow(opened, "python3 other.py", [])

    async def talk() -> None:
        async with Client(TorcMcpServer(lambda _client, _request: ToolContext(opened))) as client:
            (found,) = (await ask(client, "suggest_resources", workflow_id=new))["classes"]
            assert (found["attempts"], found["learnt_from"]) == (0, 3)
            assert (found["memory"], found["suggested_memory"]) == ("1 GiB", "192 MiB")
            (found,) = (await ask(client, "suggest_resources", workflow_id=cut_off))["classes"]
            assert found["suggested_memory"] == "1.5 GiB", "history tells little of jobs that came to their limit"
            assert "fewer than three similar jobs" in await refused(client, "suggest_resources", workflow_id=strange)

    anyio.run(talk)
    opened.close()
