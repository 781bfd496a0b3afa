"""What the hints of tools promise: reading changes nothing at all, and what makes commands run says so."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.types import CallToolResult

from tests.mcp_server.client import ask, text_of
from tests.mcp_server.test_tools import talking
from tests.support.stores import open_sqlite
from tests.support.workflows import claim, create, ended, exchange
from torc.api.runs import ListRunners, RegisterRunner, StartRun
from torc.client.embedded import Embedded
from torc.runner import hardware

pytestmark = pytest.mark.usefixtures("processes")

SPEC = """name: study
jobs:
  - {name: bad, command: "exit 3"}
  - {name: lost, command: "sleep 600"}
  - {name: behind, command: "echo b", depends_on: [bad]}
"""
#: after these, commands run that did not before, or others than would have
RUNNING = {
    "run_workflow",
    "spawn_worker",
    "submit_workflow",
    "recover_workflow",
    "reset_jobs",
    "cancel_workflow",
    "classify_and_resolve_failures",
}
#: what required arguments are called, and values that do something in the store below
VALUES: dict[str, Any] = {
    "workflow_id": 1,
    "job_id": 1,
    "spec": SPEC,
    "first": 1,
    "second": SPEC,
    "to": "json",
    "timeout_seconds": 0,
}


@pytest.fixture
def abandoned(sqlite_file: Path, tmp_path: Path) -> Iterator[Embedded]:
    """A workflow with a failed job, and a runner of this machine that was killed in the middle of another one."""
    opened: Embedded = open_sqlite(sqlite_file, tmp_path)
    wf = create(
        opened,
        {
            "name": "study",
            "jobs": [
                {"name": "bad", "command": "exit 3"},
                {"name": "lost", "command": "sleep 600"},
                {"name": "behind", "command": "echo b", "depends_on": ["bad"]},
            ],
        },
        str(tmp_path),
    ).id
    opened.send(StartRun(workflow_id=wf))
    gone = subprocess.Popen(["true"])
    gone.wait()
    here = hardware.identity()
    runner = opened.send(
        RegisterRunner.model_validate(
            {
                "workflow_id": wf,
                "kind": "local",
                "host": here.host,
                "pid": gone.pid,
                "process_started": here.process_started,
                "boot_id": here.boot_id,
                "capacity": {"num_cpus": 2, "memory_bytes": 1 << 30},
            }
        )
    ).id
    given = claim(opened, wf, runner, limit=2)
    exchange(opened, wf, runner, finished=[ended(given["bad"], "failed", 3, stderr_tail="MemoryError", stderr_line=1)])
    yield opened
    opened.close()


def dump(opened: Embedded) -> list[str]:
    """Return every row of every table."""
    path = opened.store.engine.url.database
    assert path
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def tree(directory: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (info.st_size, info.st_mtime_ns)
        for path in directory.rglob("*")
        if ".db" not in path.name and "torc.sqlite" not in path.name
        for info in [os.lstat(path)]
        if not path.is_dir()
    }


def test_no_tool_that_says_it_reads_changes_a_row_or_a_file_even_with_dead_runners(
    abandoned: Embedded, tmp_path: Path
) -> None:
    async def talk() -> None:
        async with talking(abandoned, tmp_path) as client:
            tools = (await client.list_tools()).tools
            reading = [tool for tool in tools if tool.annotations and tool.annotations.read_only_hint]
            assert len(reading) > 15
            before, files = dump(abandoned), tree(tmp_path)
            for tool in reading:
                schema = tool.input_schema
                given = {name: VALUES[name] for name in schema.get("required", [])}
                if "timeout_seconds" in schema["properties"]:
                    given["timeout_seconds"] = 0
                if not given and "spec" in schema["properties"]:
                    given = {"spec": SPEC}
                result = await client.call_tool(tool.name, given)
                assert isinstance(result, CallToolResult)
                assert dump(abandoned) == before, f"{tool.name} has changed the store"
                assert tree(tmp_path) == files, f"{tool.name} has changed files"
                assert "Traceback" not in text_of(result)

    anyio.run(talk)


def test_a_recovery_is_proposed_for_what_a_dead_runner_left_and_the_runner_stays(
    abandoned: Embedded, tmp_path: Path
) -> None:
    async def talk() -> None:
        async with talking(abandoned, tmp_path) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            hints = tools["propose_recovery"].annotations
            assert hints is not None
            assert (hints.read_only_hint, hints.destructive_hint) == (False, False), "it keeps a plan, and no more"
            found = await ask(client, "propose_recovery", workflow_id=1)
            assert found["retried"] == 1, found

    anyio.run(talk)
    assert [runner.is_active for runner in abandoned.send(ListRunners(workflow_id=1)).items] == [True]


def test_what_makes_commands_run_is_destructive_and_open_to_the_world(abandoned: Embedded, tmp_path: Path) -> None:
    async def talk() -> None:
        async with talking(abandoned, tmp_path) as client:
            hints = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
            for name, told in hints.items():
                assert told is not None
                if name in RUNNING:
                    assert (told.read_only_hint, told.destructive_hint, told.open_world_hint) == (False, True, True), (
                        name
                    )
                else:
                    assert told.open_world_hint is False, name
            for name in ("create_workflow", "reinitialize_workflow"):
                told = hints[name]
                assert told is not None
                assert told.destructive_hint, f"{name} replaces files or throws results away"

    anyio.run(talk)
