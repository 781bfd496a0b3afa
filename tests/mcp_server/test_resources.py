"""Resources, prompts and completions, in both eras; updates while a workflow runs; the guide against the compiler."""

from __future__ import annotations

import json
import re
from importlib.resources import files as package_files
from typing import Any

import anyio
import pytest
from mcp.types import PromptReference, ResourceTemplateReference, ResourceUpdatedNotification, TextResourceContents

from tests.mcp_server.client import ERAS, session, unquoted
from tests.support.program import Program
from torc.spec.compiler import compile_spec
from torc.spec.model import WorkflowSpec

GUIDE = package_files("mcp_server").joinpath("guide.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_each_example_of_the_guide_is_valid(block: str) -> None:
    plan, found = compile_spec(block, format="yaml")
    assert plan is not None, [problem.message for problem in found]
    assert not found


def test_the_guide_is_short_and_knows_no_field_that_is_not_there() -> None:
    assert len(GUIDE.encode()) / 4 < 2000
    known = set(re.findall(r'"(\w+)":', json.dumps(WorkflowSpec.model_json_schema())))
    told = set(re.findall(r"`(\w+)`", GUIDE)) - {"name", "p", "8g", "512m", "30m", "PT2H", "NAME"}
    assert told <= known


async def read(client: Any, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text


@pytest.mark.parametrize("era", ERAS)
def test_resources_prompts_and_completions(program: Program, era: str) -> None:
    program("run", program.write("a.yaml", "name: alpha\njobs:\n  - {name: say, command: echo it}\n"), "--quiet")

    async def talk() -> None:
        async with session(program, mode=era) as client:
            named = {str(resource.uri) for resource in (await client.list_resources()).resources}
            assert named == {
                "torc://schema/workflow",
                "torc://guide/spec",
                "torc://workflows",
                "ui://torc/workflow.html",
            }
            assert json.loads(await read(client, "torc://schema/workflow"))["title"] == "Torc workflow"
            assert (await read(client, "torc://guide/spec")).startswith("# How to write")
            assert json.loads(await read(client, "torc://workflows"))["workflows"][0]["name"] == "alpha"
            assert json.loads(await read(client, "torc://workflows/1"))["workflow"]["state"] == "completed"
            assert json.loads(await read(client, "torc://workflows/alpha/plan"))["jobs_finished"] == 1
            assert "say" in await read(client, "torc://workflows/1/graph")
            assert unquoted(json.loads(await read(client, "torc://jobs/1/stdout"))["lines"][0]) == "it"
            with pytest.raises(Exception, match="nearest: alpha"):
                await read(client, "torc://workflows/alfa")

            prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
            assert prompts == {
                "create_from_description",
                "migrate",
                "diagnose_failure",
                "tune_resources",
                "write_post_mortem",
            }
            made = await client.get_prompt("migrate", {"kind": "makefile", "script": "all: a\n\ttouch b"})
            assert "touch b" in made.messages[0].content.text  # type: ignore[union-attr]
            template = ResourceTemplateReference(uri="torc://workflows/{workflow_id}")
            offered = await client.complete(template, {"name": "workflow_id", "value": "al"})
            assert offered.completion.values == ["alpha"]
            offered = await client.complete(
                PromptReference(name="diagnose_failure"), {"name": "workflow_id", "value": ""}
            )
            assert offered.completion.values == ["1", "alpha"]

    anyio.run(talk)


def test_prompts_name_tools_that_there_are(program: Program) -> None:
    async def talk() -> None:
        async with session(program) as client:
            tools = {tool.name for tool in (await client.list_tools()).tools}
            given = {"description": "x", "script": "x", "kind": "makefile", "workflow_id": "1"}
            texts = [client.instructions or ""]
            for prompt in (await client.list_prompts()).prompts:
                needed = {argument.name: given[argument.name] for argument in prompt.arguments or ()}
                made = await client.get_prompt(prompt.name, needed)
                texts.append(made.messages[0].content.text)  # type: ignore[union-attr]
            for text in texts:
                verbs = r"\b((?:list|get|run|submit|wait|diagnose|propose|recover|create|compare|check|suggest|update|explain|reset)_\w+)"
                assert set(re.findall(verbs, text)) <= tools

    anyio.run(talk)


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize("era", ERAS)
def test_clients_are_told_when_a_workflow_changes(program: Program, era: str) -> None:
    program("create", program.write("a.yaml", "name: alpha\njobs:\n  - {name: say, command: echo it}\n"))

    async def talk() -> None:
        told = anyio.Event()

        async def note(message: Any) -> None:
            if isinstance(message, ResourceUpdatedNotification) and str(message.params.uri) == "torc://workflows/1":
                told.set()

        async with session(program, mode=era, message_handler=note) as client:
            if era == "legacy":
                await client.subscribe_resource("torc://workflows/1")
                await anyio.to_thread.run_sync(program, "run", "1", "--quiet")
                with anyio.fail_after(60):
                    await told.wait()
            else:
                async with client.listen(resource_subscriptions=["torc://workflows/1"]) as updates:
                    await anyio.to_thread.run_sync(program, "run", "1", "--quiet")
                    with anyio.fail_after(60):
                        async for update in updates:
                            assert update.uri == "torc://workflows/1"  # type: ignore[union-attr]
                            break

    anyio.run(talk)
