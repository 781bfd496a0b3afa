"""`torc mcp install`: clients find the server and the skill, and nothing that was there is lost."""

from __future__ import annotations

import importlib.metadata
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from mcp_server.client_config import CLIENTS, entered, place, skill_files, taken_out
from tests.support.program import PROGRAM, Program

#: what VS Code takes in `mcp.json`: its "MCP configuration reference", for servers that are started
VSCODE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "inputs": {"type": "array"},
        "servers": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["command"],
                "properties": {
                    "type": {"enum": ["stdio"]},
                    "command": {"type": "string"},
                    "args": {"type": "array", "items": {"type": "string"}},
                    "cwd": {"type": "string"},
                    "envFile": {"type": "string"},
                    "env": {"type": "object", "additionalProperties": {"type": ["null", "string", "number"]}},
                },
            },
        },
    },
}
COMMAND = ["/opt/torc/bin/torc", "mcp", "serve"]
CLAUDE_VERSION = "2.1.332"


def everything(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in str(path)
    }


@pytest.mark.parametrize("scope", ["user", "project"])
@pytest.mark.parametrize("client", CLIENTS)
def test_what_was_installed_is_found_there_and_goes_again(client: str, scope: str, program: Program) -> None:
    before = everything(program.directory)
    done = program("mcp", "install", "--client", client, "--scope", scope)
    known = CLIENTS[client]
    path = place(known, scope, known.files[scope], program.directory, {"HOME": str(program.directory)})
    entry = json.loads(path.read_text())[known.key]["torc"]
    assert Path(entry["command"]).name.startswith(("torc", "python")) and entry["args"][-2:] == ["mcp", "serve"]
    assert str(path) in done.stdout
    skill = program.directory / known.skills[scope] / "torc/SKILL.md"
    assert skill.read_text().startswith("---\nname: torc\n")
    again = program("mcp", "install", "--client", client, "--scope", scope)
    assert "written" not in again.stdout
    program("mcp", "uninstall", "--client", client, "--scope", scope)
    assert everything(program.directory) == before


def test_vs_code_takes_what_is_written(program: Program) -> None:
    program("mcp", "install", "--client", "vscode", "--scope", "project", "--no-skill")
    Draft202012Validator(VSCODE).validate(json.loads((program.directory / ".vscode/mcp.json").read_text()))
    assert not (program.directory / ".github").exists()


def test_printing_writes_nothing(program: Program) -> None:
    before = everything(program.directory)
    shown = program("mcp", "install", "--client", "cursor", "--print").stdout
    assert '"torc"' in shown and "would be written" in shown
    assert everything(program.directory) == before


def test_what_stands_in_a_file_stays_as_it_was(program: Program) -> None:
    path = program.directory / ".mcp.json"
    path.write_text('{\n\t"other": [1.0, "é"],\n\t"mcpServers": {"a": {"command": "x"}}\n}\n')
    path.chmod(0o640)
    program("mcp", "install", "--client", "claude-code", "--scope", "project", "--no-skill")
    text = path.read_text()
    assert text.startswith('{\n\t"other": [\n\t\t1.0,\n\t\t"é"\n\t],') and list(json.loads(text)["mcpServers"]) == [
        "a",
        "torc",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    program("mcp", "uninstall", "--client", "claude-code", "--scope", "project", "--no-skill")
    assert json.loads(path.read_text()) == {"other": [1.0, "é"], "mcpServers": {"a": {"command": "x"}}}


def test_what_an_owner_added_to_our_entry_stays(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{"mcpServers": {"torc": {"command": "old", "env": {"TORC_DB": "/x"}, "timeout": 5}}}')
    change = entered(CLIENTS["cursor"], path, COMMAND, {"TORC_MCP_POLICY": "read-only"})
    entry = json.loads(change.text or "")["mcpServers"]["torc"]
    assert entry["env"] == {"TORC_DB": "/x", "TORC_MCP_POLICY": "read-only"}
    assert entry["timeout"] == 5 and entry["command"] == COMMAND[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"servers": {}, // mine\n}', "has comments or trailing commas"),
        ('{"servers": ', "is not JSON"),
        ("[1]", "does not contain an object"),
        ('{"servers": 3}', "`servers` is not an object"),
    ],
)
def test_a_file_that_cannot_be_changed_safely_is_left(text: str, says: str, program: Program) -> None:
    name = program.write(".vscode/mcp.json", text)
    done = program("mcp", "install", "--client", "vscode", "--scope", "project", code=4)
    assert says in done.stderr and "--print" in done.stderr
    assert (program.directory / name).read_text() == text
    assert not (program.directory / ".github").exists()  # all or nothing


def test_a_link_to_a_file_elsewhere_stays_a_link(program: Program) -> None:
    program.write("dotfiles/mcp.json", "{}")
    (program.directory / ".cursor").mkdir()
    (program.directory / ".cursor/mcp.json").symlink_to("../dotfiles/mcp.json")
    program("mcp", "install", "--client", "cursor", "--no-skill")
    assert (program.directory / ".cursor/mcp.json").is_symlink()
    assert "torc" in json.loads((program.directory / "dotfiles/mcp.json").read_text())["mcpServers"]


def test_a_skill_of_somebody_else_stays(program: Program) -> None:
    program.write(".claude/skills/torc/SKILL.md", "---\nname: mine\n---\n")
    done = program("mcp", "install", "--client", "claude-code", code=4)
    assert "another skill" in done.stderr
    assert not (program.directory / ".claude.json").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    document=st.dictionaries(st.text(max_size=5), json_values, max_size=4),
    servers=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
)
def test_entering_and_taking_out_leaves_any_document_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any], servers: dict[str, Any]
) -> None:
    servers.pop("torc", None)
    document["mcpServers"] = servers
    path = tmp_path_factory.mktemp("x") / "mcp.json"
    path.write_text(json.dumps(document))
    change = entered(CLIENTS["cursor"], path, COMMAND, {})
    path.write_text(change.text or "")
    after = taken_out(CLIENTS["cursor"], path)
    left = {"mcpServers": {}} if after.did == "removed" else json.loads(after.text or "")
    assert left == document


@pytest.mark.parametrize("arguments", [["-m", "mcp_server"], [*PROGRAM[1:], "mcp"]])
def test_the_server_begins_under_each_of_its_names(program: Program, arguments: list[str]) -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="torc-mcp-server")
    assert script.value == "mcp_server.__main__:main", "what `-m mcp_server` begins, too"
    parameters = StdioServerParameters(
        command=PROGRAM[0], args=arguments, cwd=str(program.directory), env=program.environ()
    )

    async def talk() -> None:
        async with Client(parameters) as client:
            assert "run_workflow" in {tool.name for tool in (await client.list_tools()).tools}

    anyio.run(talk)


def test_the_package_carries_the_skill() -> None:
    assert {"SKILL.md", "references/spec.md", "references/commands.md"} <= set(skill_files())


@pytest.mark.slow
def test_claude_code_connects_to_what_was_installed(program: Program) -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / f"torc-tests/claude-{CLAUDE_VERSION}"
    claude = cache / "node_modules/.bin/claude"
    if not claude.exists():
        package = f"@anthropic-ai/claude-code@{CLAUDE_VERSION}"
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(cache), package]
        subprocess.run(command, check=True)
    program("mcp", "install", "--client", "claude-code")
    listed = subprocess.run(
        [str(claude), "mcp", "list"],
        cwd=program.directory,
        env=program.environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert "torc" in listed.stdout and "Connected" in listed.stdout, listed
