"""The MCP Inspector, a client of others: its command line lists and calls our tools.

It is installed from npm once, into the user's cache.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import PROGRAM, Program

VERSION = "2.12.0"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inspector() -> Path:
    """Return the program of the Inspector."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torc-tests" / f"inspector-{VERSION}"
    program = cache / "node_modules/.bin/mcp-inspector"
    if not program.exists():
        package = f"@modelcontextprotocol/inspector@{VERSION}"
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(cache), package]
        subprocess.run(command, check=True)
    return program


def inspect(inspector: Path, program: Program, *arguments: str) -> Any:
    done = subprocess.run(
        [str(inspector), "--cli", *PROGRAM, "mcp", *arguments],
        cwd=program.directory,
        env=program.environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_the_inspector_lists_and_calls_tools(inspector: Path, program: Program) -> None:
    listed = inspect(inspector, program, "--method", "tools/list")["tools"]
    assert {"create_workflow", "diagnose_workflow"} <= {tool["name"] for tool in listed}
    spec = json.dumps({"name": "x", "jobs": [{"name": "a", "command": "echo hi"}]})
    arguments = ("--tool-arg", "action=create", "--tool-arg", f"spec={spec}")
    made = inspect(inspector, program, "--method", "tools/call", "--tool-name", "create_workflow", *arguments)
    assert made["structuredContent"]["workflow_id"] == 1
    read = inspect(inspector, program, "--method", "resources/read", "--uri", "torc://workflows/1")
    assert json.loads(read["contents"][0]["text"])["workflow"]["state"] == "idle"
