"""What an assistant waits for and has to read: the start of the MCP server, each tool that reads, the sizes of what it gives."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client

from benchmarks import processes
from benchmarks.percentiles import percentile
from benchmarks.rows import Row, milliseconds
from benchmarks.sizes import Sizes
from benchmarks.store import Conversation
from mcp_server.context import ToolContext
from mcp_server.formatting import BYTES_PER_TOKEN
from mcp_server.server import TorcMcpServer
from torc.client.connect import connect
from torc.spec.compiler import compile_spec

TARGET_SECONDS = 0.300
MOST_OF_LIST, MOST_OF_REPLY = 12_000, 4_000
#: of the jobs that have ended, one in so many has failed
_FAILED_IN = 500
#: these compile specs: they are asked about an ordinary one, and about a large one beside the compiler alone
_OF_SPECS = {"validate_spec", "diff_specs"}
_ORDINARY_JOBS = 1000
_LARGE_CALLS = 3
_LOG = "\n".join(f"step {{0}}, epoch {n}: loss 0.{n:03d}" for n in range(60)) + "\nMemoryError: no room for array {0}"


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Start the server, then ask it about a large workflow; the client is in the server's process, without any pipe."""
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "assistants.db"
    rows = _starts(sizes.startups, folder)
    _make(database, sizes.assistant_jobs, folder)
    torc = connect(db=str(database), actor="assistant:benchmark")
    try:
        return rows + anyio.run(_ask_all, TorcMcpServer(lambda _client, _request: ToolContext(torc)), sizes)
    finally:
        torc.close()


def _starts(rounds: int, folder: Path) -> list[Row]:
    yardstick, answers, lists = [], [], []
    for _ in range(rounds + 1):
        yardstick.append(processes.run([processes.PYTHON, "-c", "import mcp"], folder).wall_seconds)
        answered, listed = _start(folder)
        answers.append(answered)
        lists.append(listed)
    # the first of each filled the caches of bytecode and of the disk
    beside = statistics.median(yardstick[1:])
    return [
        Row(
            f"stdio: start until {what}",
            milliseconds(statistics.median(times[1:])),
            f"import mcp {milliseconds(beside)}",
            statistics.median(times[1:]) / beside,
        )
        for what, times in (("initialize is answered", answers), ("the list of tools is there", lists))
    ]


def _start(folder: Path) -> tuple[float, float]:
    """Start the server as a client does; returns seconds until it answered, and until it gave its tools."""
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "benchmark", "version": "1"},
    }
    began = time.perf_counter()
    with subprocess.Popen(
        [*processes.TORC, "mcp", "serve"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def send(**message: Any) -> None:
            assert child.stdin is not None
            child.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            child.stdin.flush()

        send(id=1, method="initialize", params=hello)
        assert b"protocolVersion" in child.stdout.readline()
        answered = time.perf_counter() - began
        send(method="notifications/initialized")
        send(id=2, method="tools/list")
        assert b"inputSchema" in child.stdout.readline()
        listed = time.perf_counter() - began
        child.stdin.close()
    return answered, listed


def _make(database: Path, jobs: int, folder: Path) -> None:
    """Create a workflow of three stages, of which half has run and a few have failed."""
    each = max(1, jobs // 2)
    talk = Conversation(database, _spec(jobs), folder)
    talk.finish(min(each // 2, each) + 2)
    for is_last in (False, True):
        talk.fail(max(1, each // _FAILED_IN), _LOG.format)
        if not is_last:
            talk.begin_again()
    talk.leave()
    talk.close()


def _spec(jobs: int, program: str = "train") -> dict[str, Any]:
    return {
        "name": "large",
        "parameters": {"i": f"1:{max(1, jobs // 2)}"},
        "jobs": [
            {"name": "prepare", "command": "true"},
            {
                "name": "train_{i:06d}",
                "command": f"{program} {{i}}",
                "use_parameters": ["i"],
                "depends_on": ["prepare"],
            },
            {"name": "test_{i:06d}", "command": "test {i}", "use_parameters": ["i"], "depends_on": ["train_{i:06d}"]},
            {"name": "report", "command": "true", "depends_on": ["prepare"]},
        ],
    }


async def _ask_all(server: TorcMcpServer, sizes: Sizes) -> list[Row]:
    rows = []
    async with Client(server) as client:
        tools = (await client.list_tools()).tools
        listed = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
        rows.append(_size_row(f"list of {len(listed)} tools", _tokens(listed), MOST_OF_LIST))
        failed = (await client.call_tool("list_failed_jobs", {"workflow_id": 1, "limit": 1})).structured_content
        job = failed["jobs"][0]["id"] if failed else 1
        reading = [tool.name for tool in tools if tool.annotations is not None and tool.annotations.read_only_hint]
        for name in reading:
            jobs = min(_ORDINARY_JOBS, sizes.assistant_jobs) if name in _OF_SPECS else sizes.assistant_jobs
            arguments = _arguments_of_specs(name, jobs) if name in _OF_SPECS else _arguments(name, tools, job)
            times, size = await _ask(client, name, arguments, sizes.assistant_calls)
            p50, p95 = percentile(times, 50), percentile(times, 95)
            rows.append(
                Row(
                    f"{name} of {jobs:,} jobs",
                    f"p50 {milliseconds(p50)}, p95 {milliseconds(p95)}",
                    target=f"p95 <= {milliseconds(TARGET_SECONDS)}",
                    met=p95 <= TARGET_SECONDS,
                )
            )
            rows.append(_size_row("  its reply", size, MOST_OF_REPLY))
        for name in sorted(_OF_SPECS):
            rows += await _large_rows(client, name, sizes.assistant_jobs)
    return rows


async def _ask(client: Client, name: str, arguments: dict[str, Any], calls: int) -> tuple[list[float], float]:
    """Call a tool; returns the seconds of each call, and the size of the largest reply in tokens."""
    times, size = [], 0.0
    for _ in range(calls):
        began = time.perf_counter()
        result = await client.call_tool(name, arguments)
        times.append(time.perf_counter() - began)
        assert not result.is_error, (name, result.content)
        blocks = [block.model_dump() for block in result.content]
        size = max(size, _tokens(result.structured_content), _tokens(blocks))
    return times, size


async def _large_rows(client: Client, name: str, jobs: int) -> list[Row]:
    """Set a tool that compiles specs, given large ones, beside the compiler."""
    arguments = _arguments_of_specs(name, jobs)
    began = time.perf_counter()
    for spec in arguments.values():
        compile_spec(spec, format="json")
    alone = time.perf_counter() - began
    times, size = await _ask(client, name, arguments, _LARGE_CALLS)
    told = statistics.median(times)
    return [
        Row(f"{name} of {jobs:,} jobs", milliseconds(told), f"compile_spec {milliseconds(alone)}", told / alone),
        _size_row("  its reply", size, MOST_OF_REPLY),
    ]


def _arguments_of_specs(name: str, jobs: int) -> dict[str, Any]:
    given = json.dumps(_spec(jobs))
    return {"spec": given} if name == "validate_spec" else {"first": given, "second": json.dumps(_spec(jobs, "fit"))}


def _arguments(name: str, tools: list[Any], job: int) -> dict[str, Any]:
    """Return what a tool is asked by default."""
    known = next(tool.input_schema["properties"] for tool in tools if tool.name == name)
    given: dict[str, Any] = {"workflow_id": 1, "job_id": job}
    if name == "wait_for_workflow":
        return {"workflow_id": 1, "timeout_seconds": 0}
    if name in {"list_results", "list_events"}:
        return {"workflow_id": 1}
    return {key: value for key, value in given.items() if key in known}


def _tokens(value: Any) -> float:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) / BYTES_PER_TOKEN


def _size_row(what: str, tokens: float, most: int) -> Row:
    return Row(what, f"{tokens:,.0f} tokens", target=f"<= {most:,} tokens", met=tokens <= most)
