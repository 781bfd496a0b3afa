"""An assistant on a real Slurm cluster, through the protocol alone: plan, submit, diagnose, propose, recover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.mcp_server.client import ask, session, unquoted
from tests.support.program import Program
from tests.support.slurm import Slurm

pytestmark = pytest.mark.slow
SPEC = """name: study
resource_requirements:
  - {name: small, memory: 100m, runtime: PT2M}
jobs:
  - name: hungry
    command: test $TORC_MEMORY_BYTES -gt 110000000 || { echo MemoryError >&2; exit 1; }
    resource_requirements: small
  - {name: good, command: echo fine, resource_requirements: small}
  - {name: report, command: echo done, resource_requirements: small, depends_on: [hungry, good]}
"""


async def wait_for_end(client: Any, wf: int) -> dict[str, Any]:
    with anyio.fail_after(200):
        while not (found := await ask(client, "wait_for_workflow", workflow_id=wf, timeout_seconds=20))["ended"]:
            pass
    return found


def test_from_a_plan_of_allocations_to_a_recovered_workflow(slurm: Slurm, tmp_path: Path) -> None:
    program = Program(tmp_path)

    async def talk() -> None:
        async with session(program) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=SPEC))["workflow_id"]
            plan = await ask(client, "submit_workflow", workflow_id=wf, max_nodes=3)
            assert "with --max-nodes 3" in unquoted(plan["shown"]), "options are part of what is agreed to"
            assert plan["cost"]["node_hours"] > 0
            assert "nodes of" in plan["changes"][0]["new"]
            begun = await ask(
                client, "submit_workflow", workflow_id=wf, plan_token=plan["plan_token"], reason="asked to"
            )
            log = Path(begun["log"])
            ended = await wait_for_end(client, wf)
            assert ended["status"]["state"] == "failed", log.read_text()
            (allocation, *_) = (await ask(client, "get_slurm_sacct", workflow_id=wf))["allocations"]
            assert allocation["slurm_job_id"]
            found = await ask(client, "diagnose_workflow", workflow_id=wf)
            assert found["by_category"] == {"out_of_memory": 1}
            proposed = await ask(client, "propose_recovery", workflow_id=wf)
            recovered = await ask(
                client, "recover_workflow", workflow_id=wf, plan_token=proposed["plan_token"], reason="it lacked memory"
            )
            ended = await wait_for_end(client, wf)
            assert ended["status"]["state"] == "completed", Path(recovered["log"]).read_text()
            assert len((await ask(client, "get_slurm_sacct", workflow_id=wf))["allocations"]) >= 2

    try:
        anyio.run(talk)
    finally:
        program("server", "stop", code=None)
