"""Tools that the sessions do not use, each through the protocol: a plan where it changes something, then what came of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.types import PromptReference, ResourceTemplateReference

from mcp_server.context import AssistantPolicy, ToolContext
from mcp_server.server import TorcMcpServer
from tests.mcp_server.client import ERAS, ask, refused, session
from tests.support.program import Program
from tests.support.running import wait_until
from tests.support.stores import open_sqlite
from tests.support.workflows import create, finish, states, workflow
from torc.api.jobs import ListJobs
from torc.api.runs import StartRun
from torc.api.workflows import ResetWorkflow
from torc.client.embedded import Embedded

GOING = """name: going
jobs:
  - {name: bad, command: "exit 3"}
  - {name: long, command: sleep 600}
"""
ANY_EDITOR = "the user agreed"


@pytest.fixture
def opened(sqlite_file: Path, tmp_path: Path) -> Iterator[Embedded]:
    made = open_sqlite(sqlite_file, tmp_path)
    yield made
    made.close()


@asynccontextmanager
async def talking(opened: Embedded, directory: Path, policy: AssistantPolicy | None = None) -> AsyncIterator[Client]:
    """Connect to a server in this process."""
    here = ToolContext(opened, policy or AssistantPolicy(), directory=directory)
    async with Client(TorcMcpServer(lambda _client, _request: here)) as client:
        yield client


async def apply(client: Client, tool: str, plan: dict[str, Any], workflow_id: int = 1) -> dict[str, Any]:
    """Apply a plan that was made and changed nothing."""
    assert not plan["applied"]
    return await ask(client, tool, workflow_id=workflow_id, plan_token=plan["plan_token"], reason=ANY_EDITOR)


def ids(opened: Embedded, wf: int) -> dict[str, int]:
    return {job.name: job.id for job in opened.send(ListJobs(workflow_id=wf)).items}


def test_no_path_leads_out_of_the_directory(opened: Embedded, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    secret = tmp_path / "secret.yaml"
    secret.write_text("name: secret\njobs: [{name: a, command: hunter2}]\n")
    (home / "link.yaml").symlink_to(secret)
    (home / "folder").symlink_to(tmp_path)
    taking = {"name": "w", "jobs": [{"name": "j{i}", "command": "echo {i}", "parameters": {"i": "@../secret.yaml"}}]}

    async def talk() -> None:
        async with talking(opened, home) as client:
            for path in ("../secret.yaml", str(secret), "link.yaml", "folder/secret.yaml"):
                for tool, given in (
                    ("validate_spec", {"path": path}),
                    ("get_execution_plan", {"path": path}),
                    ("create_workflow", {"path": path, "action": "create"}),
                    ("convert_spec", {"path": path, "to": "json"}),
                    ("diff_specs", {"first": path, "second": path}),
                ):
                    said = await refused(client, tool, **given)
                    assert "is not below" in said or "links are not followed" in said, (tool, path)
                    assert "hunter2" not in said
            found = await ask(client, "validate_spec", spec=taking)
            assert not found["valid"]
            assert "is not below" in found["problems"][0]["message"], found
            assert "hunter2" not in str(found)
            spec = {"name": "w", "jobs": [{"name": "a", "command": "true"}]}
            for path in ("../new.yaml", "folder/new.yaml"):
                said = await refused(client, "create_workflow", action="save", spec=spec, save_as=path)
                assert "is not below" in said or "links are not followed" in said
            assert "is not below" in await refused(
                client, "create_workflow", action="create", spec=spec, directory="/etc"
            )

    anyio.run(talk)
    assert not (tmp_path / "new.yaml").exists()


def test_jobs_that_wait_for_a_decision_are_retried_or_given_up(opened: Embedded, tmp_path: Path) -> None:
    wf = workflow(opened, "flaky -> after", "wrong -> never", use_pending_failed=True)
    finish(opened, wf, "flaky", "wrong", failed=True)
    number = ids(opened, wf)
    decisions = [
        {"job_ids": [number["flaky"]], "action": "retry", "why": "the network was away"},
        {"job_ids": [number["wrong"]], "action": "cancel"},
    ]

    async def talk() -> None:
        async with talking(opened, tmp_path) as client:
            waiting = await ask(client, "list_pending_failed_jobs", workflow_id=wf)
            assert [(job["name"], job["state"]) for job in waiting["jobs"]] == [
                ("flaky", "pending_failed"),
                ("wrong", "pending_failed"),
            ]
            said = await refused(
                client,
                "classify_and_resolve_failures",
                workflow_id=wf,
                decisions=[{"job_ids": [number["after"]], "action": "retry"}],
            )
            assert f"those that do: {number['flaky']}" in said
            twice = [*decisions, {"job_ids": [number["flaky"]], "action": "cancel"}]
            said = await refused(client, "classify_and_resolve_failures", workflow_id=wf, decisions=twice)
            assert f"job {number['flaky']} is listed more than once" in said
            plan = await ask(client, "classify_and_resolve_failures", workflow_id=wf, decisions=decisions)
            assert [(change["new"], change.get("why")) for change in plan["changes"]] == [
                ("run again", "the network was away"),
                ("canceled", None),
            ]
            assert "pending_failed" in states(opened, wf)
            assert (await apply(client, "classify_and_resolve_failures", plan, wf))["applied"]
            assert (await ask(client, "list_pending_failed_jobs", workflow_id=wf))["jobs"] == []

    anyio.run(talk)
    assert states(opened, wf) == "flaky:ready after:blocked wrong:canceled never:canceled"


def test_failed_jobs_are_made_due_again_when_the_plan_is_applied(opened: Embedded, tmp_path: Path) -> None:
    wf = workflow(opened, "good bad -> behind")
    finish(opened, wf, "bad", failed=True)
    finish(opened, wf, "good")

    async def talk() -> None:
        async with talking(opened, tmp_path) as client:
            plan = await ask(client, "reset_jobs", workflow_id=wf)
            assert states(opened, wf) == "good:completed bad:failed behind:canceled"
            assert (await apply(client, "reset_jobs", plan, wf))["applied"]

    anyio.run(talk)
    assert states(opened, wf) == "good:completed bad:ready behind:blocked"


def test_two_runs_are_compared(opened: Embedded, tmp_path: Path) -> None:
    wf = workflow(opened, "good", "bad", "worse")
    finish(opened, wf, "bad", failed=True)
    finish(opened, wf, "good", "worse")
    other = workflow(opened, "good", "bad")
    opened.send(ResetWorkflow(workflow_id=wf))
    opened.send(StartRun(workflow_id=wf))
    finish(opened, wf, "bad")
    finish(opened, wf, "good")
    finish(opened, wf, "worse", failed=True)
    finish(opened, other, "bad", "good", failed=True)

    async def talk() -> None:
        async with talking(opened, tmp_path) as client:
            found = await ask(client, "compare_runs", workflow_id=wf)
            assert found["runs"] == [f"workflow {wf}, run 1", f"workflow {wf}, run 2"]
            assert (found["newly_failed"], found["no_longer_failed"]) == (["worse"], ["bad"])
            assert [use["attempts"] for use in found["classes"]] == [[3, 3]]
            found = await ask(client, "compare_runs", workflow_id=wf, other_workflow_id=other)
            assert (found["newly_failed"], found["no_longer_failed"]) == (["bad", "good"], ["worse"])
            assert "has had one run: there are not two runs to compare" in await refused(
                client, "compare_runs", workflow_id=other
            )
            said = await refused(client, "compare_runs", workflow_id=wf, other_run_id=7)
            assert f"other_run_id: workflow {wf} has no run 7" in said
            assert "its runs are 1 to 2" in said
            never = workflow(opened, "good")
            said = await refused(client, "compare_runs", workflow_id=wf, other_workflow_id=never)
            assert f"workflow {never} has not run" in said

    anyio.run(talk)


def test_specs_are_compared_and_converted(opened: Embedded, tmp_path: Path) -> None:
    spec = {"name": "w", "jobs": [{"name": "a", "command": "echo 1"}, {"name": "b", "command": "echo 2"}]}
    edited = "name: w\njobs:\n  - {name: a, command: echo one}\n  - {name: c, command: echo 3, depends_on: [a]}\n"
    wf = create(opened, spec).id

    async def talk() -> None:
        async with talking(opened, tmp_path) as client:
            found = await ask(client, "diff_specs", first=wf, second=edited)
            assert (found["added_jobs"], found["removed_jobs"]) == (["c"], ["b"])
            assert found["changed_jobs"] == ["a: command echo 1 -> echo one"]
            assert (await ask(client, "diff_specs", first=json.dumps(spec), second=spec))["same"]
            for form in ("json", "json5", "kdl", "yaml"):
                made = await ask(client, "convert_spec", spec=edited, to=form, save_as=f"made.{form}")
                assert made["saved"] == f"made.{form}"
                assert (await ask(client, "diff_specs", first=edited, second=f"made.{form}"))["same"], form
                assert "already exists" in await refused(
                    client, "convert_spec", spec=edited, to=form, save_as=f"made.{form}"
                )

    anyio.run(talk)


def test_what_a_class_asks_for_and_an_edited_spec_are_planned_then_applied(opened: Embedded, tmp_path: Path) -> None:
    spec: dict[str, Any] = {
        "name": "w",
        "resource_requirements": [{"name": "small", "memory": "1g", "runtime": "PT1H"}],
        "jobs": [{"name": name, "command": f"echo {name}", "resource_requirements": "small"} for name in "ab"],
    }
    wf = create(opened, spec, str(tmp_path)).id
    finish(opened, wf, "a", "b")
    edited = {**spec, "jobs": [spec["jobs"][0], {**spec["jobs"][1], "command": "echo anew"}]}

    async def talk() -> None:
        async with talking(opened, tmp_path) as client:
            said = await refused(client, "update_job_resources", workflow_id=wf, requirement="smal", memory="2g")
            assert "classes are " in said
            assert "memory: " in await refused(
                client, "update_job_resources", workflow_id=wf, requirement="small", memory="x"
            )
            plan = await ask(client, "update_job_resources", workflow_id=wf, requirement="small", memory="2g")
            assert plan["changes"] == [{"what": "memory of class small", "old": "1 GiB", "new": "2 GiB"}]
            await apply(client, "update_job_resources", plan, wf)
            assert "already requests these values" in await refused(
                client, "update_job_resources", workflow_id=wf, job_id=1, memory="2g"
            )
            plan = await ask(client, "reinitialize_workflow", workflow_id=wf, spec=edited)
            assert any("job 2 (b)" in change["what"] for change in plan["changes"]), plan
            assert states(opened, wf) == "a:completed b:completed"
            await apply(client, "reinitialize_workflow", plan, wf)

    anyio.run(talk)
    assert "b:ready" in states(opened, wf)


def test_node_hours_beyond_the_budget_are_refused_and_no_argument_raises_it(opened: Embedded, tmp_path: Path) -> None:
    wf = workflow(opened, "a", "b")

    async def talk() -> None:
        policy = AssistantPolicy("auto-within-budget", max_node_hours=0)
        async with talking(opened, tmp_path, policy) as client:
            plan = await ask(client, "run_workflow", workflow_id=wf)
            assert plan["cost"]["node_hours"] > plan["cost"]["node_hours_left"] == 0
            given = {"workflow_id": wf, "plan_token": plan["plan_token"], "reason": "the model wants it"}
            assert "exceeds the budget" in await refused(client, "run_workflow", **given)
            for name in ("max_node_hours", "budget", "policy"):
                assert "there is no such argument" in await refused(client, "run_workflow", **given, **{name: 1000})

    anyio.run(talk)
    assert states(opened, wf) == "a:ready b:ready"


def test_a_run_goes_on_when_the_client_and_its_server_have_left(program: Program) -> None:
    spec = "name: long\njobs:\n  - {name: first, command: 'touch begun; until [ -e go ]; do sleep 0.02; done'}\n"

    async def begin() -> None:
        async with session(program) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=spec))["workflow_id"]
            await apply(client, "run_workflow", await ask(client, "run_workflow", workflow_id=wf), wf)

    anyio.run(begin)
    wait_until((program.directory / "begun").exists, "the job has begun")
    program.write("go", "")
    wait_until(lambda: program("workflows", "get", "1", "-f", "json").json["state"] == "completed", "it has ended")


def test_ids_names_and_profiles_are_offered_and_profiles_read(opened: Embedded, tmp_path: Path) -> None:
    wf = workflow(opened, "a", "b")
    finish(opened, wf, "b", failed=True)
    number = ids(opened, wf)

    async def talk() -> None:
        async with talking(opened, tmp_path) as client:

            async def offered(uri: str, name: str, value: str = "") -> list[str]:
                asked = {"name": name, "value": value}
                return (await client.complete(ResourceTemplateReference(uri=uri), asked)).completion.values

            jobs = await offered("torc://jobs/{job_id}/stdout", "job_id")
            assert jobs == [str(number["b"]), str(number["a"])], "failed ones first"
            assert await offered("torc://profiles/{name}", "name", "KES") == ["kestrel"]
            kinds = await client.complete(PromptReference(name="migrate"), {"name": "kind", "value": "s"})
            assert kinds.completion.values == ["shell-loop", "snakefile", "sbatch-array"]
            (content,) = (await client.read_resource("torc://profiles/kestrel")).contents
            assert '"partitions"' in content.text  # type: ignore[union-attr]
            with pytest.raises(Exception, match="kestrel"):
                await client.read_resource("torc://profiles/kestral")

    anyio.run(talk)


@pytest.mark.parametrize("era", ERAS)
def test_waiting_tells_progress_and_ends_at_the_first_failure_if_asked(program: Program, era: str) -> None:
    told: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, _message: str | None) -> None:
        told.append((progress, total))

    async def talk() -> None:
        async with session(program, mode=era) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=GOING))["workflow_id"]
            await apply(
                client, "run_workflow", await ask(client, "run_workflow", workflow_id=wf, max_parallel_jobs=2), wf
            )
            arguments = {"workflow_id": wf, "timeout_seconds": 300, "until_first_failure": True}
            result = await client.call_tool("wait_for_workflow", arguments, progress_callback=note)
            found: Any = result.structured_content
            assert not found["ended"], "the other job would take ten minutes"
            assert [(attempt["job"], attempt["return_code"]) for attempt in found["first_failures"]] == [("bad", 3)]
            assert told[-1] == (1, 2)
            more = await ask(client, "spawn_worker", workflow_id=wf, num_cpus=1)
            assert "another runner" in more["summary"]
            assert "in the background" in (await apply(client, "spawn_worker", more, wf))["summary"]
            plan = await ask(client, "cancel_workflow", workflow_id=wf)
            assert "1 are running and would be killed" in plan["summary"]
            await apply(client, "cancel_workflow", plan, wf)
            with anyio.fail_after(120):
                while not (await ask(client, "wait_for_workflow", workflow_id=wf, timeout_seconds=20))["ended"]:
                    pass

    anyio.run(talk)
