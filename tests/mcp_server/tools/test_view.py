"""The view of a workflow in the chat: what is advertised, the words beside it, and the page in a real browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.types import CallToolResult, TextResourceContents

from mcp_server.tools.view import VIEW
from tests.mcp_server.client import ERAS, ask, session, text_of
from tests.support.program import Program

EXTENSION, MIME = "io.modelcontextprotocol/ui", "text/html;profile=mcp-app"
EVIL = "<img src=x onerror=document.title=1>"
SPEC = f"""
name: sweep
jobs:
  - {{name: prepare, command: 'true'}}
  - {{name: train, command: 'echo "error: cannot read {EVIL}" >&2; exit 1', depends_on: [prepare]}}
  - {{name: report, command: 'true', depends_on: [train]}}
"""


@pytest.mark.parametrize("era", ERAS)
def test_the_view_is_advertised_and_says_the_same_in_words(program: Program, era: str) -> None:
    program("run", program.write("sweep.yaml", SPEC), "--quiet", code=1)

    async def talk() -> None:
        async with session(program, mode=era) as client:
            if era == "auto":  # the older protocol has no place for it: its clients go by the tool
                assert EXTENSION in (client.server_capabilities.extensions or {})
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert [name for name, tool in tools.items() if tool.meta] == ["show_workflow"]
            assert tools["show_workflow"].meta == {"ui": {"resourceUri": VIEW}}
            (page,) = (await client.read_resource(VIEW)).contents
            assert isinstance(page, TextResourceContents)
            assert page.mime_type == MIME
            assert page.text == package_files("mcp_server").joinpath("workflow.html").read_text(encoding="utf-8")

            result = await client.call_tool("show_workflow", {"workflow_id": "sweep"})
            assert isinstance(result, CallToolResult)
            shown: Any = result.structured_content
            assert [(part["label"], part["stage"], part["states"]) for part in shown["parts"]] == [
                ("prepare", 0, {"completed": 1}),
                ("train", 1, {"failed": 1}),
                ("report", 2, {"canceled": 1}),
            ]
            assert shown["edges"] == [[0, 1], [1, 2]]
            assert (shown["num_failed"], shown["failures"][0]["job"]) == (1, "train")
            words = text_of(result).split("\n", 2)[2]
            assert words.startswith("sweep (workflow 1): failed, 100 % of 3 jobs finished")
            assert "- train: 1 failed; after prepare" in words
            assert "untrusted data" in words
            assert EVIL in words

    anyio.run(talk)


#: a host as small as can be: it shows the page, gives it results, and tells what it sees in it and gets from it
HOST = """<!DOCTYPE html><body><iframe id="view" sandbox="allow-scripts allow-same-origin" width="760" height="500"></iframe>
<pre id="told"></pre><script>
const page = %(page)s, results = %(results)s, view = document.getElementById("view"), got = [];
addEventListener("message", ({data: message}) => {
  got.push(message);
  const send = (more) => view.contentWindow.postMessage({jsonrpc: "2.0", ...more}, "*");
  if (message.method === "ui/initialize") send({id: message.id, result: {protocolVersion: "2026-01-26",
    hostInfo: {name: "host", version: "1"}, hostCapabilities: {serverTools: {}}, hostContext: {theme: "dark"}}});
  if (message.method === "ui/notifications/initialized") send({method: "ui/notifications/tool-result", params: results[0]});
  if (message.method === "tools/call") send({id: message.id, result: results[Math.min(1, results.length - 1)]});
});
view.srcdoc = page;
setTimeout(() => {
  const inside = view.contentDocument, root = inside.documentElement;
  document.getElementById("told").textContent = JSON.stringify({
    text: inside.body.innerText, labels: [...inside.querySelectorAll("svg text")].map((text) => text.textContent),
    titles: [...inside.querySelectorAll("svg title")].map((title) => title.textContent), title: inside.title,
    strange: inside.querySelectorAll("img, b:has(*), iframe, a").length, edges: inside.querySelectorAll("svg path").length,
    scheme: getComputedStyle(root).colorScheme, background: getComputedStyle(inside.body).backgroundColor, got,
  });
}, 12000);
</script>"""


def rendered(tmp_path: Path, *results: dict[str, Any]) -> dict[str, Any]:
    """Show results to the page in Chromium; returns what the host saw."""
    page = package_files("mcp_server").joinpath("workflow.html").read_text(encoding="utf-8")
    given = {"page": page, "results": list(results)}
    host = tmp_path / "host.html"
    host.write_text(HOST % {key: json.dumps(value).replace("<", "\\u003c") for key, value in given.items()})
    browser = shutil.which("chromium")
    assert browser is not None, "scripts/install --dev installs it"
    argv = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        "--virtual-time-budget=15000",
        f"--user-data-dir={tmp_path / 'profile'}",
        host.as_uri(),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=True)
    told = done.stdout.partition('<pre id="told">')[2].partition("</pre>")[0]
    assert told, done.stderr
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", "\u00a0"), ("&amp;", "&")):
        told = told.replace(entity, character)
    seen: dict[str, Any] = json.loads(told)
    return seen


def test_the_page_draws_results_as_text_and_follows_what_runs(program: Program, tmp_path: Path) -> None:
    program("run", program.write("sweep.yaml", SPEC), "--quiet", code=1)
    got: dict[str, Any] = {}

    async def talk() -> None:
        async with session(program) as client:
            got.update(await ask(client, "show_workflow", workflow_id=1))

    anyio.run(talk)
    later = {"content": [], "structuredContent": got}
    parts = [{**part, "label": EVIL if part["label"] == "train" else part["label"]} for part in got["parts"]]
    running = {**got, "state": "running", "name": EVIL, "parts": parts, "jobs": {"running": 2, EVIL: 1}}
    first = {"content": [], "structuredContent": running}

    seen = rendered(tmp_path, first, later)
    assert [message["method"] for message in seen["got"] if message["method"] != "ui/notifications/size-changed"] == [
        "ui/initialize",
        "ui/notifications/initialized",
        "tools/call",
    ], "it asks again while the workflow runs, and no more once that ended"
    asked = next(message["params"] for message in seen["got"] if message["method"] == "tools/call")
    assert asked == {"name": "show_workflow", "arguments": {"workflow_id": 1}}
    assert seen["labels"][::2] == ["prepare", "train", "report"]
    assert seen["edges"] == 2
    assert "1 failed job" in seen["text"]
    assert f"error: cannot read {EVIL}" in seen["text"]
    assert "100 % of 3 jobs" in seen["text"]
    assert (seen["scheme"], seen["background"]) == ("dark", "rgb(27, 28, 30)")

    evil = rendered(tmp_path, first)
    assert EVIL in evil["text"]
    assert f"{EVIL}: 1 failed" in evil["titles"]
    assert f"1 {EVIL}" in evil["text"], "a state that nobody knows"
    assert (seen["strange"], seen["title"], evil["strange"], evil["title"]) == (0, "Workflow", 0, "Workflow")


@pytest.mark.usefixtures("processes")
def test_the_page_bears_results_that_are_not_what_it_expects(tmp_path: Path) -> None:
    strange = {"parts": [None, {"label": 3}], "edges": [[0, 9], 7], "jobs": [], "failures": "x", "name": {"a": 1}}
    seen = rendered(tmp_path, {"content": [], "structuredContent": strange})
    assert "Workflow" in seen["text"]
    refused = {"isError": True, "content": [{"type": "text", "text": f"there is no workflow {EVIL}"}]}
    seen = rendered(tmp_path, refused)
    assert f"there is no workflow {EVIL}" in seen["text"]
    assert seen["strange"] == 0
