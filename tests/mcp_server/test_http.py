"""The MCP server inside `torc server`: over HTTP in both eras, with the server's tokens, scopes and shares."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import urllib3
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from sse_starlette.sse import AppStatus
from starlette.requests import HTTPConnection

from mcp_server.context import AssistantPolicy
from mcp_server.http import HttpMount
from tests.mcp_server.client import ERAS, ask, refused, unquoted
from tests.support.accounts import People, gather
from tests.support.program import Program
from tests.support.serving import Serving, start
from tests.support.stores import open_sqlite
from torc.api.change_plans import ApproveIntervention, GetIntervention
from torc.api.users import CreateToken
from torc.client.embedded import Embedded
from torc.client.remote import Remote
from torc.client.server_file import read
from torc.errors import Forbidden
from torc.server.authentication import Authentication
from torc.workflow.access import Caller

SPEC = "name: alpha\njobs:\n  - {name: say, command: echo it}\n"


@pytest.fixture
def served(program: Program) -> Iterator[Program]:
    """A directory with a server, for the owner alone."""
    program("server", "start")
    yield program
    program("server", "stop")


@pytest.mark.parametrize("era", ERAS)
def test_the_owner_works_with_the_server_as_on_stdio(served: Program, era: str) -> None:
    place = read(served.directory / ".torc")
    assert place is not None and place.token is not None
    serving, token = Serving(place.url, lambda: None), place.token

    async def talk() -> None:
        async with signed_in(serving, token, mode=era) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=SPEC))["workflow_id"]
            plan = await ask(client, "run_workflow", workflow_id=wf)
            begun = await ask(client, "run_workflow", workflow_id=wf, plan_token=plan["plan_token"], reason="asked to")
            assert begun["applied"]
            while not (found := await ask(client, "wait_for_workflow", workflow_id=wf, timeout_seconds=20))["ended"]:
                pass
            assert found["status"]["state"] == "completed", Path(begun["log"]).read_text()
            logs = await ask(client, "get_job_logs", job_id=1, stream="stdout")
            assert unquoted(logs["lines"][0]) == "it"
            (event, *_) = (await ask(client, "list_events", workflow_id=wf, type="intervention_applied"))["events"]
            assert event["actor"].startswith("assistant:")

    anyio.run(talk)


@pytest.fixture
def accounts(sqlite_file: Path, tmp_path: Path) -> Iterator[tuple[People, Serving]]:
    """A server where everybody signs in, and people around a workflow."""
    opened: Embedded = open_sqlite(sqlite_file, tmp_path)
    people = gather(opened)
    identity = Authentication("owner", True, 2000.0).identity(opened.store)
    mounted = HttpMount(identity, AssistantPolicy(), tmp_path, Path("torc_output"), {})
    AppStatus.should_exit = False  # of the process: another server in it has ended before
    serving = start(opened.store, identity, mounts={"/mcp": mounted})
    yield people, serving
    serving.stop()
    opened.close()


@asynccontextmanager
async def signed_in(serving: Serving, token: str, **more: Any) -> AsyncIterator[Client]:
    async with (
        create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}) as http,
        Client(streamable_http_client(f"{serving.url}/mcp", http_client=http), **more) as client,
    ):
        yield client


@pytest.mark.parametrize("era", ERAS)
def test_each_has_the_rights_of_its_token_and_nobody_runs_or_reads_files_there(
    accounts: tuple[People, Serving], era: str
) -> None:
    people, serving = accounts

    async def talk() -> None:
        async with signed_in(serving, people.token("ada").token, mode=era) as client:
            assert (await ask(client, "get_workflow_status", workflow_id=people.wf))["state"] == "idle"
            assert "owner of the machine" in await refused(client, "run_workflow", workflow_id=people.wf)
            assert "owner of the machine" in await refused(client, "validate_spec", path="spec.yaml")
            made = await ask(client, "create_workflow", action="create", spec=SPEC, directory="/data/ada")
            assert (await ask(client, "get_workflow_status", workflow_id=made["workflow_id"]))[
                "directory"
            ] == "/data/ada"
            plan = await ask(client, "cancel_workflow", workflow_id=people.wf)
            token = plan["plan_token"]
        async with signed_in(serving, people.token("eve").token, mode=era) as client:
            assert "no workflow" in await refused(client, "get_workflow_status", workflow_id=people.wf)
            stolen = await refused(client, "cancel_workflow", workflow_id=people.wf, plan_token=token, reason="mine")
            assert "not_found" in stolen
        async with signed_in(serving, people.token("rita").token, mode=era) as client:
            assert (await ask(client, "get_workflow_status", workflow_id=people.wf))["state"] == "idle"
            assert "forbidden" in await refused(client, "cancel_workflow", workflow_id=people.wf)
        async with signed_in(serving, people.token("ada", "read").token, mode=era) as client:
            assert "has `read`" in await refused(client, "cancel_workflow", workflow_id=people.wf)
        async with signed_in(serving, people.token("ada").token, mode=era) as client:
            done = await ask(
                client, "cancel_workflow", workflow_id=people.wf, plan_token=token, reason="no more needed"
            )
            assert done["applied"]
            (event, *_) = (await ask(client, "list_events", workflow_id=people.wf, type="intervention_applied"))[
                "events"
            ]
            assert event["actor"] == "user:ada"

    anyio.run(talk)


def test_neither_the_token_that_proposed_a_plan_nor_one_made_with_it_approves_the_plan(
    accounts: tuple[People, Serving],
) -> None:
    people, serving = accounts
    proposer, other = people.token("ada"), people.token("ada")

    async def plan() -> int:
        async with signed_in(serving, proposer.token) as client:
            return int((await ask(client, "cancel_workflow", workflow_id=people.wf))["plan_id"])

    number = anyio.run(plan)
    mine = Remote(serving.url, token=proposer.token)
    made = mine.send(CreateToken(name="child"))
    grandchild = Remote(serving.url, token=made.token).send(CreateToken(name="grandchild"))
    digest = str(mine.send(GetIntervention(workflow_id=people.wf, intervention_id=number)).digest)
    approve = ApproveIntervention(workflow_id=people.wf, intervention_id=number, digest=digest)
    for shown in (proposer.token, made.token, grandchild.token):
        with pytest.raises(Forbidden, match="made with it can approve"):
            Remote(serving.url, token=shown).send(approve)
    assert Remote(serving.url, token=other.token).send(approve).approved_by == "user:ada"


class Changing:
    """Takes a caller for somebody else once the body is read."""

    async def identify(self, connection: HTTPConnection) -> Caller:
        return Caller("user:tester", "127.0.0.1")

    def confirm(self, connection: HTTPConnection) -> None:
        raise Forbidden("this server belongs to another user of this machine")


def test_a_caller_who_is_another_once_the_body_is_read_is_told_that_it_is_forbidden(
    sqlite_file: Path, tmp_path: Path
) -> None:
    opened: Embedded = open_sqlite(sqlite_file, tmp_path)
    identity = Changing()
    AppStatus.should_exit = False
    mounted = HttpMount(identity, AssistantPolicy(), tmp_path, Path("torc_output"), {})
    serving = start(opened.store, identity, mounts={"/mcp": mounted})
    try:
        headers = {"Accept": "application/json, text/event-stream"}
        for body in (b"{}", b""):
            told = urllib3.request("POST", f"{serving.url}/mcp", body=body, headers=headers, retries=False, timeout=60)
            assert told.status == 403, told.data
            assert "another user" in told.json()["detail"]
    finally:
        serving.stop()
        opened.close()


def test_without_a_token_nobody_gets_in_nor_into_the_session_of_another(accounts: tuple[People, Serving]) -> None:
    people, serving = accounts
    pool = urllib3.PoolManager(retries=False)
    begin = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
    }
    accept = {"Accept": "application/json, text/event-stream"}
    refused_ = pool.request("POST", f"{serving.url}/mcp", json=begin, headers=accept)
    assert refused_.status == 401
    assert refused_.headers["WWW-Authenticate"].startswith("Bearer")
    ada, eve = ({**accept, "Authorization": f"Bearer {people.token(name).token}"} for name in ("ada", "eve"))
    begun = pool.request("POST", f"{serving.url}/mcp", json=begin, headers=ada)
    assert begun.status == 200, begun.data
    session = {"Mcp-Session-Id": begun.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-06-18"}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    assert pool.request("POST", f"{serving.url}/mcp", json=ping, headers={**ada, **session}).status == 200
    assert pool.request("POST", f"{serving.url}/mcp", json=ping, headers={**eve, **session}).status == 404
    other = {**ada, "Origin": "https://evil.example"}
    assert pool.request("POST", f"{serving.url}/mcp", json=begin, headers=other).status == 403
