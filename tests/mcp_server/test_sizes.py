"""What a model has to read stays small: the list of tools, and each reply on a large workflow. Tokens: bytes of JSON / 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_server.context import ToolContext
from mcp_server.formatting import BYTES_PER_TOKEN
from mcp_server.server import TorcMcpServer
from tests.mcp_server.client import ask
from tests.support.stores import open_sqlite
from tests.support.workflows import create, ended, exchange, get, run_all, runner
from torc.api.events import ListEvents
from torc.api.runs import EndRunner
from torc.api.workflows import Workflow
from torc.client.embedded import Embedded

pytestmark = pytest.mark.usefixtures("processes")

MOST_OF_LIST, MOST_OF_REPLY = 12_000, 4_000
NUM_JOBS = 3000


def tokens(value: Any) -> float:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) / BYTES_PER_TOKEN


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, sqlite_file: Path) -> Embedded:
    """A workflow of many jobs with long names, of which many failed in many ways."""
    opened: Embedded = open_sqlite(sqlite_file, tmp_path_factory.mktemp("large"))
    name = "train_with_a_rather_long_name_{lr:.4f}_{i:05d}"
    command = f"python3 train.py --learning-rate {{lr}} --seed {{i}} {'--option value ' * 30}"
    classes = [{"name": f"class_{n}", "memory": f"{n + 1}g", "runtime": "PT1H"} for n in range(40)]
    job = {"name": name, "command": command, "parameters": {"lr": "0.0:0.9:0.1", "i": f"1:{NUM_JOBS // 10}"}}
    others = [{"name": f"other_{n}", "command": command, "resource_requirements": f"class_{n}"} for n in range(40)]
    wf = create(opened, {"name": "large" * 20, "jobs": [job, *others], "resource_requirements": classes}).id
    number = runner(opened, wf)
    given = exchange(opened, wf, number, limit=2000).assignments
    reports = [
        ended(
            item,
            "failed",
            at % 200 + 1,
            stderr_tail="\n".join(f"line {at} {n}: {'error ' * 30}" for n in range(40)),
            stderr_line=1,
            usage={"peak_memory_bytes": 1 << 40},
        )
        for at, item in enumerate(given)
    ]
    exchange(opened, wf, number, finished=reports)
    opened.send(EndRunner(workflow_id=wf, runner_id=number))
    for _ in range(30):
        other = create(opened, {"name": "w" * 100, "jobs": [{"name": "a", "command": "true"}]}).id
    run_all(opened, other)
    return opened


SPEC: dict[str, Any] = {
    "name": "other" * 20,
    "jobs": [
        {"name": f"job_{n}" * 10, "command": f"{chr(97 + n % 26) * (n % 50)} {'--option value ' * 30}"}
        for n in range(300)
    ],
}

CALLS: dict[str, dict[str, Any]] = {
    "list_workflows": {},
    "get_workflow_status": {"workflow_id": 1},
    "get_workflow_summary": {"workflow_id": 1},
    "list_jobs_by_status": {"workflow_id": 1, "limit": 500},
    "get_job_details": {"job_id": 1},
    "list_results": {"workflow_id": 1, "limit": 500},
    "list_events": {"workflow_id": 1, "limit": 500},
    "explain_job": {"job_id": 1},
    "get_job_logs": {"job_id": 1, "tail": 500},
    "list_failed_jobs": {"workflow_id": 1, "limit": 100},
    "diagnose_workflow": {"workflow_id": 1, "max_groups": 50},
    "check_resource_utilization": {"workflow_id": 1, "limit": 100},
    "analyze_resource_usage": {"job_id": 1},
    "suggest_resources": {"workflow_id": 1},
    "get_execution_plan": {"workflow_id": 1},
    "propose_recovery": {"workflow_id": 1, "retry_unknown": True},
    "reset_jobs": {"workflow_id": 1},
    "cancel_workflow": {"workflow_id": 1},
    "list_pending_failed_jobs": {"workflow_id": 1},
    "analyze_workflow_logs": {"workflow_id": 1},
    "get_slurm_sacct": {"workflow_id": 1},
    "wait_for_workflow": {"workflow_id": 1, "timeout_seconds": 0},
    "run_workflow": {"workflow_id": 1},
    "show_workflow": {"workflow_id": 1},
    "compare_runs": {"workflow_id": 1, "other_workflow_id": 31},
    "validate_spec": {"spec": SPEC},
    "diff_specs": {"first": 1, "second": json.dumps(SPEC)},
}


def test_no_reply_is_too_long_on_a_large_workflow_and_pages_lose_nothing(large: Embedded) -> None:
    async def talk() -> None:
        from mcp.client import Client

        async with Client(TorcMcpServer(lambda _client, _request: ToolContext(large))) as client:
            listed = [
                tool.model_dump(mode="json", by_alias=True, exclude_none=True)
                for tool in (await client.list_tools()).tools
            ]
            assert tokens(listed) <= MOST_OF_LIST, tokens(listed)
            reading = {tool["name"] for tool in listed if tool["annotations"]["readOnlyHint"]}
            assert reading <= set(CALLS)
            before = state_of(large)
            for name, given in sorted(CALLS.items(), key=lambda call: call[0] not in reading):
                result = await client.call_tool(name, given)
                assert not result.is_error, (name, result.content)
                size = tokens(result.structured_content or [block.model_dump() for block in result.content])
                assert size <= MOST_OF_REPLY, (name, size)
                assert state_of(large) == before, (
                    f"{name} has changed something: none of these was told to apply a plan"
                )
            seen: list[int] = []
            cursor = None
            while True:
                page = await ask(client, "list_jobs_by_status", workflow_id=1, limit=500, cursor=cursor)
                seen += [job["id"] for job in page["jobs"]]
                cursor = page.get("cursor")
                if cursor is None:
                    break
            assert len(seen) == len(set(seen)) == NUM_JOBS + 40

    anyio.run(talk)


def state_of(torc: Embedded) -> tuple[Workflow, int]:
    """Return what moves when a workflow is changed: its version, counts and settings, and the last event."""
    return get(torc, 1), torc.send(ListEvents(workflow_id=1, newest_first=True, limit=1)).items[0].id
