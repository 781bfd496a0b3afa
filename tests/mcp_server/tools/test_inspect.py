"""Looking at workflows through the protocol: the SDK's client over stdio, in both eras of the protocol."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.mcp_server.client import ERAS, ask, refused, session, unquoted
from tests.support.program import Program

pytestmark = pytest.mark.usefixtures("processes")

SPEC = """name: sweep
jobs:
  - name: good
    command: echo fine
  - name: bad
    command: |
      exec >&2
      echo begin
      printf '\\033[31mred\\033[0m api_token=abcdefgh12345678\\n'
      for i in $(seq 1 300); do echo line $i; done
      python3 -c 'import nothing_there'
  - name: behind
    command: echo never
    depends_on: [bad]
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A directory where a workflow ran, and failed."""
    program = Program(tmp_path_factory.mktemp("ran"))
    with program.start("run", program.write("sweep.yaml", SPEC), "--quiet") as running:
        running.communicate()
    return program


@pytest.mark.parametrize("era", ERAS)
def test_an_assistant_finds_out_why_a_workflow_failed(ran: Program, era: str) -> None:
    async def talk() -> None:
        async with session(ran, mode=era) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert all(tool.annotations and tool.output_schema and tool.description for tool in tools.values())
            (found,) = (await ask(client, "list_workflows"))["workflows"]
            assert (found["name"], found["state"]) == ("sweep", "failed")
            assert found["jobs"] == {"completed": 1, "failed": 1, "canceled": 1}
            status = await ask(client, "get_workflow_status", workflow_id="sweep")
            assert status["percent_finished"] == 100.0
            assert "diagnose_workflow" in status["next"]
            summary = await ask(client, "get_workflow_summary", workflow_id=1)
            assert [job["job"] for job in summary["failed"]] == ["bad"]
            (job,) = (await ask(client, "list_jobs_by_status", workflow_id=1, status="failed"))["jobs"]
            explained = await ask(client, "explain_job", job_id=job["id"])
            assert explained["diagnosis"]["category"] == "missing_module"
            assert explained["diagnosis"]["evidence"][0]["source"].startswith("stderr of job")
            details = await ask(client, "get_job_details", job_id=job["id"])
            assert details["attempts"][0]["return_code"] == 1
            (event, *_) = (await ask(client, "list_events", workflow_id=1, type="jobs_failed"))["events"]
            assert event["actor"].startswith("user:")
            assert len((await ask(client, "list_results", workflow_id=1))["results"]) == 2
            used = await ask(client, "analyze_resource_usage", job_id=job["id"])
            (attempt,) = used["attempts"]
            assert attempt.startswith("attempt 1: failed, ")
            assert "MiB at the peak" in attempt
            assert used["usage"]["attempts"] == 2, "of its class"

    anyio.run(talk)


def lines(reply: dict[str, Any]) -> str:
    return "\n".join(unquoted(block) for block in reply["lines"])


def test_logs_come_as_data_with_their_source_cut_and_clean(ran: Program) -> None:
    async def talk() -> None:
        async with session(ran) as client:
            head = await ask(client, "get_job_logs", job_id=2, head=2)
            (block,) = head["lines"]
            assert block["source"] == "stderr of job 2, attempt 1, lines 1-2"
            assert unquoted(block) == "begin\nred api_token=[redacted: secret]"
            tail = await ask(client, "get_job_logs", job_id=2, tail=500)
            assert "line 300" in lines(tail)
            assert "ModuleNotFoundError" in lines(tail)
            part = await ask(client, "get_job_logs", job_id=2, lines="12-13")
            assert lines(part) == "line 10\nline 11"
            found = await ask(client, "get_job_logs", job_id=2, grep="LINE 299|modulenotfound")
            assert found["num_matches"] == 2
            for text in ("null", "[300]", "{}"):
                assert (await ask(client, "get_job_logs", job_id=2, grep=text))["num_matches"] == 0, "it is a text"
            assert "only one of" in await refused(client, "get_job_logs", job_id=2, head=2, tail=2)
            assert "has not run yet" in await refused(client, "get_job_logs", job_id=3)

    anyio.run(talk)


def test_a_log_that_is_a_link_to_another_file_is_not_read(ran: Program) -> None:
    (path,) = (ran.directory / "torc_output/job_stdio").glob("job_wf1_j1_r*_a1.o")
    kept = path.read_text()
    path.unlink()
    path.symlink_to("/etc/passwd")
    try:

        async def talk() -> None:
            async with session(ran) as client:
                assert "is not on this machine" in await refused(client, "get_job_logs", job_id=1, stream="stdout")

        anyio.run(talk)
    finally:
        path.unlink()
        path.write_text(kept)


def test_a_folder_of_logs_that_is_a_link_is_not_followed(ran: Program) -> None:
    folder = ran.directory / "torc_output/job_stdio"
    elsewhere = folder.rename(ran.directory / "elsewhere")
    folder.symlink_to(elsewhere)
    (ran.directory / "torc_output/machine").symlink_to(ran.directory)
    try:

        async def talk() -> None:
            async with session(ran) as client:
                assert "is not on this machine" in await refused(client, "get_job_logs", job_id=1, stream="stdout")
                kept = await ask(client, "get_job_logs", job_id=2)
                assert "from the store" in kept["note"]

        anyio.run(talk)
    finally:
        folder.unlink()
        (ran.directory / "torc_output/machine").unlink()
        elsewhere.rename(folder)


def test_logs_are_found_where_the_runner_wrote_them_and_symptoms_in_them(program: Program) -> None:
    path = program.write("sweep.yaml", SPEC)
    with program.start("run", path, "--quiet", "--output-dir", str(program.directory / "far")) as running:
        running.communicate()

    async def talk() -> None:
        async with session(program) as client:
            assert "/far/job_stdio/" in (await ask(client, "get_job_logs", job_id=2, head=1))["file"]
            (group,) = (await ask(client, "analyze_workflow_logs", workflow_id=1))["groups"]
            assert (group["category"], group["job_ids"]) == ("missing_module", [2])
            assert "job_wf1_j2_r1_a1.e, line" in group["evidence"][-1]["source"]
            found = await ask(client, "analyze_workflow_logs", workflow_id=1, grep="line")
            (block,) = found["lines"]
            assert block["source"] == "stderr of job 2, attempt 1"

    anyio.run(talk)


def test_bad_arguments_are_told_so_that_a_model_can_mend_them(ran: Program) -> None:
    async def talk() -> None:
        async with session(ran) as client:
            wrong = await refused(client, "list_jobs_by_status", workflow_id=1, status="failled")
            assert "status: " in wrong
            assert "did you mean 'failed'?" in wrong
            assert 'example: list_jobs_by_status(workflow_id=1, status="failed")' in wrong
            deep = await refused(
                client, "classify_and_resolve_failures", workflow_id=1, decisions=[{"job_ids": [2], "action": "rety"}]
            )
            assert "- decisions[0].action: " in deep
            assert "did you mean 'retry'?" in deep
            assert 'decisions=[{"job_ids": [1], "action": "retry"}]' in deep
            unknown = await refused(client, "get_job_logs", job_id=2, taill=3)
            assert "- taill: there is no such argument; did you mean 'tail'?" in unknown
            missing = await refused(client, "get_job_details")
            assert "job_id: is required" in missing
            assert "did you mean 'list_workflows'?" in await refused(client, "list_workflow")
            assert "nearest: sweep" in await refused(client, "get_workflow_status", workflow_id="swep")
            nobody = await refused(client, "explain_job", job_id=999)
            assert "not_found" in nobody
            assert "list_jobs_by_status" in nobody, "a tool, and no command of a shell"
            assert "tail" in await refused(client, "get_job_logs", job_id=2, tail=0)

    anyio.run(talk)
