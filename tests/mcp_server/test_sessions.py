"""Whole sessions as an assistant would have them, through the protocol alone: from a description to a recovered workflow."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp.types import ElicitResult, Implementation

from tests.mcp_server.client import ERAS, ask, refused, session, unquoted
from tests.support.program import Program

WRONG = """name: study
jobs:
  - name: prepare
    comand: echo prepared > data.txt
    output_files: [data]
  - name: train_{i}
    command: echo training {i}
    input_files: [dat]
    parameters: {i: "1:3"}
files:
  - {name: data, path: data.txt}
"""
MENDED = """name: study
resource_requirements:
  - {name: small, memory: 64m, runtime: PT30S}
  - {name: quick, memory: 64m, runtime: PT1S}
jobs:
  - {name: hungry, command: "python3 -c 'import os; raise SystemExit(0) if int(os.environ[\\"TORC_MEMORY_BYTES\\"]) > 70_000_000 else MemoryError()'", resource_requirements: small}
  - {name: slow, command: "test $TORC_ATTEMPT_ID -gt 1 || sleep 60", resource_requirements: quick}
  - {name: flaky, command: "test $TORC_ATTEMPT_ID -gt 1 || { echo 'curl: (7) Failed to connect: Connection refused' >&2; exit 7; }"}
  - {name: report, command: "echo done", depends_on: [hungry, slow, flaky]}
"""


class User:
    """A person at the client: says yes or no to what is asked, and keeps what was asked."""

    def __init__(self, answer: str = "accept") -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def __call__(self, _context: Any, params: Any) -> ElicitResult:
        """Answer."""
        self.asked.append(params.message)
        content: dict[str, Any] | None = {"go_ahead": True} if self.answer == "accept" else None
        return ElicitResult(action=self.answer, content=content)  # type: ignore[arg-type]


@pytest.mark.parametrize("era", ERAS)
def test_from_a_spec_with_mistakes_to_a_recovered_workflow(program: Program, era: str) -> None:
    user = User()
    name = Implementation(name="test editor", version="1")

    async def talk() -> None:
        async with session(program, mode=era, elicitation_callback=user, client_info=name) as client:
            wrong = await ask(client, "create_workflow", action="create", spec=WRONG)
            assert not wrong["valid"]
            assert "workflow_id" not in wrong
            (problem,) = wrong["problems"]
            assert (problem["line"], problem["code"]) == (4, "unknown_field")
            assert "command" in problem["fix"]
            half = await ask(client, "validate_spec", spec=WRONG.replace("comand", "command"))
            (problem, *_) = half["problems"]
            assert (problem["at"], "data" in problem["fix"]) == ("jobs[1].input_files[0]", True), problem

            made = await ask(client, "create_workflow", action="create", spec=MENDED)
            wf = made["workflow_id"]
            assert "sleep 60" in unquoted(made["shown"])
            plan = await ask(client, "get_execution_plan", workflow_id=wf)
            assert (plan["jobs_to_do"], plan["num_stages"]) == (4, 2)

            proposal = await ask(client, "run_workflow", workflow_id=wf, max_parallel_jobs=2)
            assert not proposal["applied"]
            assert "sleep 60" in unquoted(proposal["shown"])
            assert (await ask(client, "get_workflow_status", workflow_id=wf))["state"] == "idle"
            token = proposal["plan_token"]
            assert "reason: is required" in await refused(client, "run_workflow", workflow_id=wf, plan_token=token)
            begun = await ask(client, "run_workflow", workflow_id=wf, plan_token=token, reason="asked to run it")
            assert begun["applied"]
            assert "sleep 60" in user.asked[-1], "the user sees what the model sees"
            ended = await wait_for_end(client, wf)
            assert ended["status"]["state"] == "failed"

            found = await ask(client, "diagnose_workflow", workflow_id=wf)
            assert found["by_category"] == {"out_of_memory": 1, "timeout": 1, "network": 1}
            assert found["num_canceled"] == 1
            usage = await ask(client, "check_resource_utilization", workflow_id=wf)
            assert usage["attempts"] == 3
            proposed = await ask(client, "propose_recovery", workflow_id=wf)
            assert proposed["retried"] == 3
            assert any(
                change["new"] == "memory 96.0 MiB" or "memory" in change["new"] for change in proposed["changes"]
            )
            token = proposed["plan_token"]
            recovered = await ask(
                client, "recover_workflow", workflow_id=wf, plan_token=token, reason="user agreed to retry"
            )
            assert recovered["applied"]
            assert "3 failed jobs again" in user.asked[-1]
            ended = await wait_for_end(client, wf)
            assert ended["status"]["state"] == "completed", ended
            again = await refused(client, "recover_workflow", workflow_id=wf, plan_token=token, reason="once more")
            assert "already applied" in again

            (event, *_) = (await ask(client, "list_events", workflow_id=wf, type="intervention_applied"))["events"]
            assert event["actor"] == "assistant:test editor"
            assert "user agreed to retry" in event["data"]
            assert '"agreed": "user"' in event["data"]

    anyio.run(talk)


async def wait_for_end(client: Any, wf: int) -> dict[str, Any]:
    while not (found := await ask(client, "wait_for_workflow", workflow_id=wf, timeout_seconds=20))["ended"]:
        pass
    return found
