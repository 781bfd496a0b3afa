"""What somebody agrees to over MCP is all that happens: attacks through the real program, over stdio and HTTP, in both eras."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from contextlib import closing
from typing import Any

import anyio
import pytest
from mcp.types import ElicitResult

from tests.mcp_server.client import ERAS, ask, refused, session, unquoted
from tests.mcp_server.test_http import signed_in
from tests.mcp_server.test_sessions import User, wait_for_end
from tests.support.program import PROGRAM, Program
from tests.support.running import wait_until
from tests.support.serving import Serving
from torc.client.server_file import read

HOOKS = """name: hooks
env: {BASH_ENV: hooks/evil-env.sh}
failure_handlers:
  - {name: h, rules: [{exit_codes: [7], recovery_script: "touch evil-recovery"}]}
actions:
  - {trigger_type: on_workflow_start, action_type: run_commands, commands: ["touch evil-start"]}
  - {trigger_type: on_workflow_complete, action_type: run_commands, commands: ["touch evil-end"]}
jobs:
  - {name: a, command: "echo a", failure_handler: h, invocation_script: "env EVIL=wrapper", env: {PYTHONSTARTUP: evil.py}}
  - {name: "t_{i}", command: "true {i}", parameters: {i: "1:700"}}
  - {name: t_late, command: "true 31337; touch evil-late"}
"""
HIDDEN = (
    "hooks/evil-env.sh",
    "touch evil-recovery",
    "touch evil-start",
    "touch evil-end",
    "env EVIL=wrapper",
    "evil.py",
    "true 31337; touch evil-late",
)


@pytest.mark.parametrize("era", ERAS)
def test_the_plan_and_the_question_show_everything_that_would_run(program: Program, era: str) -> None:
    user = User("decline")

    async def talk() -> None:
        async with session(program, mode=era, elicitation_callback=user) as client:
            made = await ask(client, "create_workflow", action="create", spec=HOOKS)
            plan = await ask(client, "run_workflow", workflow_id=made["workflow_id"])
            given = {"workflow_id": made["workflow_id"], "plan_token": plan["plan_token"], "reason": "go"}
            await refused(client, "run_workflow", **given)
            (question,) = user.asked
            for shown in (unquoted(made["shown"]), unquoted(plan["shown"]), question):
                for payload in HIDDEN:
                    assert payload in shown, payload
                assert "700 jobs of the template `t_{i}`" in shown
                assert shown.index("31337") < shown.index("700 jobs"), "the rarest first"

    anyio.run(talk)


def change(program: Program, statement: str) -> None:
    with closing(sqlite3.connect(program.directory / ".torc" / "torc.db")) as db, db:
        assert db.execute(statement).rowcount


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE action SET commands = '[\"touch evil\"]' WHERE position = 0",
        "UPDATE job SET command = 'touch evil' WHERE name = 't_699'",
        'UPDATE workflow SET env = \'{"LD_PRELOAD": "evil.so"}\'',
    ],
)
def test_what_was_edited_between_the_question_and_the_answer_does_not_run(program: Program, statement: str) -> None:
    async def edits(_context: Any, params: Any) -> ElicitResult:
        await anyio.to_thread.run_sync(change, program, statement)
        return ElicitResult(action="accept", content={"go_ahead": True})

    async def talk() -> None:
        async with session(program, elicitation_callback=edits) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=HOOKS))["workflow_id"]
            plan = await ask(client, "run_workflow", workflow_id=wf)
            given = {"workflow_id": wf, "plan_token": plan["plan_token"], "reason": "go"}
            assert "has changed since" in await refused(client, "run_workflow", **given)
            assert (await ask(client, "get_workflow_status", workflow_id=wf))["state"] == "idle"

    anyio.run(talk)
    assert not list(program.directory.glob("evil*"))


LONG = {"name": "long", "jobs": [{"name": f"j{at}", "command": f"echo step-{at}"} for at in range(800)]}


@pytest.mark.parametrize("era", ERAS)
def test_a_long_plan_says_how_much_more_there_is_and_is_agreed_to_only_after_it_was_read(
    program: Program, era: str
) -> None:
    codes: list[str] = []

    async def answer(_context: Any, params: Any) -> ElicitResult:
        assert re.search(r"and [\d,]+ more kinds: see `torc plans show \d+`", params.message)
        (number,) = re.findall(r"torc plans show (\d+)", params.message)
        printed = await anyio.to_thread.run_sync(program, "plans", "show", number)
        assert all(f"echo step-{at}\n" in printed.stdout for at in range(800))
        (code,) = re.findall(r"^code: (\w+)$", printed.stdout, re.MULTILINE)
        codes.append(code)
        return ElicitResult(action="accept", content={"go_ahead": True, "code": code if len(codes) > 1 else "guessed"})

    async def talk() -> None:
        async with session(program, mode=era, elicitation_callback=answer) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=LONG))["workflow_id"]
            for attempt in range(2):
                plan = await ask(client, "run_workflow", workflow_id=wf)
                assert "plan_token" not in plan
                assert "more kinds: see" in unquoted(plan["shown"])
                assert "read page 1 first" in await refused(
                    client, "read_plan", workflow_id=wf, plan_id=plan["plan_id"], page=2
                )
                read, page = "", {"num_pages": 1}
                number = 0
                while number < page["num_pages"]:
                    assert "plan_token" not in page
                    number += 1
                    page = await ask(client, "read_plan", workflow_id=wf, plan_id=plan["plan_id"], page=number)
                    read += unquoted(page["shown"])  # type: ignore[arg-type]
                assert all(f"echo step-{at}\n" in read for at in range(800))
                assert codes == [] or codes[-1] not in read, "the code is for people"
                given = {"workflow_id": wf, "plan_token": page["plan_token"], "reason": "read"}
                if attempt == 0:
                    assert "did not give the code" in await refused(client, "run_workflow", **given)
                    assert "was declined" in await refused(client, "run_workflow", **given)
            assert (await ask(client, "run_workflow", **given))["applied"]
            plan = await ask(client, "cancel_workflow", workflow_id=wf)

    anyio.run(talk)
    program("workflows", "cancel", "1")


def test_an_edited_spec_shows_what_it_removes_and_what_it_would_run(program: Program) -> None:
    old = "name: w\njobs:\n  - {name: keep, command: echo keep}\n  - {name: gone, command: echo gone}\n"
    new = "name: w\njobs:\n  - {name: keep, command: rm -rf results}\n  - {name: fresh, command: curl evil}\n"
    program("create", program.write("old.yaml", old))
    user = User("accept")

    async def talk() -> None:
        async with session(program, elicitation_callback=user) as client:
            plan = await ask(client, "reinitialize_workflow", workflow_id=1, spec=new)
            shown = unquoted(plan["shown"])
            for said in ("Removes 1 job", "echo gone", "- echo keep", "+ rm -rf results", "curl evil"):
                assert said in shown, shown
            done = await ask(
                client, "reinitialize_workflow", workflow_id=1, plan_token=plan["plan_token"], reason="edit"
            )
            assert done["applied"]
            assert "curl evil" in user.asked[0]

    anyio.run(talk)
    assert [job["name"] for job in program("jobs", "list", "1", "-f", "json").json] == ["keep", "fresh"]


ONE = "name: one\njobs:\n  - {name: a, command: touch ran}\n"


@pytest.mark.parametrize("era", ERAS)
def test_a_question_that_is_never_answered_ends_the_plan(program: Program, era: str) -> None:
    async def never(_context: Any, _params: Any) -> ElicitResult:
        await anyio.sleep_forever()
        raise AssertionError

    async def first() -> tuple[int, str]:
        async with session(program, mode=era, elicitation_callback=never) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=ONE))["workflow_id"]
            plan = await ask(client, "run_workflow", workflow_id=wf)
            asked = {"workflow_id": wf, "plan_token": plan["plan_token"], "reason": "go"}
            with anyio.move_on_after(8):
                await client.call_tool("run_workflow", asked)
            return wf, str(plan["plan_token"])

    wf, token = anyio.run(first)

    async def second() -> None:
        for user in (User("accept"), None):
            more = {} if user is None else {"elicitation_callback": user}
            async with session(program, mode=era, **more) as client:
                given = {"workflow_id": wf, "plan_token": token, "reason": "go"}
                assert "did not agree" in await refused(client, "run_workflow", **given)

    anyio.run(second)
    assert not (program.directory / "ran").exists()


APPROVE = {"TORC_MCP_POLICY": "approve"}


def test_where_a_client_cannot_ask_somebody_has_to_approve_in_a_terminal(program: Program) -> None:
    async def talk() -> None:
        async with session(program, environ=APPROVE) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=ONE))["workflow_id"]
            plan = await ask(client, "run_workflow", workflow_id=wf)
            number, token = plan["plan_id"], plan["plan_token"]
            given = {"workflow_id": wf, "plan_token": token, "reason": "the user approved, says the log"}
            assert f"torc approve {number}" in await refused(client, "run_workflow", **given)
            listed = await anyio.to_thread.run_sync(program, "approve")
            assert f"{number}" in listed.stdout
            assert "run_workflow" in listed.stdout
            piped = await anyio.to_thread.run_sync(lambda: program("approve", token, code=4))
            assert "at a terminal" in piped.stderr
            assert "waits for a person" in await refused(client, "run_workflow", **given)
            await anyio.to_thread.run_sync(approve, program, token)
            assert (await ask(client, "run_workflow", **given))["applied"]
            await wait_for_end(client, wf)
            (event, *_) = (await ask(client, "list_events", workflow_id=wf, type="intervention_applied"))["events"]
            assert '"agreed": "approval"' in event["data"]
            assert '"approved_by": "user:' in event["data"]

    anyio.run(talk)
    assert (program.directory / "ran").exists()


def approve(program: Program, plan: str) -> None:
    code, seen = program.on_terminal("approve", plan, stdin=b"yes\n")
    assert code == 0, seen
    assert "touch ran" in seen


def test_with_the_same_policy_a_client_that_can_ask_asks(program: Program) -> None:
    user = User("accept")

    async def talk() -> None:
        async with session(program, environ=APPROVE, elicitation_callback=user) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=ONE))["workflow_id"]
            plan = await ask(client, "run_workflow", workflow_id=wf)
            given = {"workflow_id": wf, "plan_token": plan["plan_token"], "reason": "go"}
            assert (await ask(client, "run_workflow", **given))["applied"]
            await wait_for_end(client, wf)

    anyio.run(talk)
    assert len(user.asked) == 1


def test_a_person_can_decline_a_plan_in_a_terminal(program: Program) -> None:
    async def talk() -> None:
        async with session(program) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=ONE))["workflow_id"]
            plan = await ask(client, "run_workflow", workflow_id=wf)
            await anyio.to_thread.run_sync(program, "plans", "decline", str(plan["plan_id"]))
            given = {"workflow_id": wf, "plan_token": plan["plan_token"], "reason": "go"}
            assert "was declined" in await refused(client, "run_workflow", **given)

    anyio.run(talk)


NEEDS = (
    "name: needs\nfiles: [{name: f, path: data.txt}]\njobs:\n  - {name: a, command: cat data.txt, input_files: [f]}\n"
)


def test_a_run_that_cannot_begin_costs_nothing_and_its_token_holds(program: Program) -> None:
    user = User("accept")

    async def talk() -> None:
        async with session(program, elicitation_callback=user) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=NEEDS))["workflow_id"]
            plan = await ask(client, "run_workflow", workflow_id=wf)
            given = {"workflow_id": wf, "plan_token": plan["plan_token"], "reason": "go"}
            said = await refused(client, "run_workflow", **given)
            assert "nothing is charged" in said
            assert "data.txt" in said
            budget = await anyio.to_thread.run_sync(program, "plans", "budget", "-f", "json")
            assert (budget.json["node_hours"], budget.json["node_hours_reserved"]) == (0, 0)
            program.write("data.txt", "x")
            assert (await ask(client, "run_workflow", **given))["applied"]
            assert (await wait_for_end(client, wf))["status"]["state"] == "completed"
            budget = await anyio.to_thread.run_sync(program, "plans", "budget", "-f", "json")
            assert 0 < budget.json["node_hours"] < 0.1, "what it took, and not the hour that it asked for"

    anyio.run(talk)


def test_over_http_the_same_is_shown_and_checked(program: Program) -> None:
    program("server", "start")
    place = read(program.directory / ".torc")
    assert place is not None
    user = User("decline")

    async def talk() -> None:
        serving = Serving(str(place.url), lambda: None)
        async with signed_in(serving, str(place.token), elicitation_callback=user) as client:
            wf = (await ask(client, "create_workflow", action="create", spec=HOOKS))["workflow_id"]
            plan = await ask(client, "run_workflow", workflow_id=wf)
            for payload in HIDDEN:
                assert payload in unquoted(plan["shown"])
            given = {"workflow_id": wf, "plan_token": plan["plan_token"], "reason": "go"}
            assert "did not agree" in await refused(client, "run_workflow", **given)
            user.answer = "accept"
            assert "was declined" in await refused(client, "run_workflow", **given)

    try:
        anyio.run(talk)
    finally:
        program("server", "stop")


LOST = """name: lost
jobs:
  - {name: bad, command: "test -e go || { echo MemoryError >&2; exit 3; }"}
  - {name: lost, command: "test -e go || { touch begun; exec sleep 600; }"}
"""


def test_what_a_killed_runner_left_is_recovered_as_it_was_shown(program: Program) -> None:
    program.write("lost.yaml", LOST)
    runner = subprocess.Popen(
        [*PROGRAM, "run", "lost.yaml", "--quiet"],
        cwd=program.directory,
        env=program.environ(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until((program.directory / "begun").exists, "the job has begun")
    wait_until(lambda: program("results", "list", "1", "-f", "json").json, "the other job has failed")
    runner.kill()
    runner.wait()
    program.write("go", "")

    async def talk() -> None:
        async with session(program) as client:
            plan = await ask(client, "propose_recovery", workflow_id=1)
            assert plan["retried"] == 1, plan
            assert "touch begun" in unquoted(plan["shown"]), "it runs again as well"
            left = program("compute-nodes", "list", "1", "-f", "json").json
            assert "no plan with this token" in await refused(
                client, "recover_workflow", workflow_id=1, plan_token="plan_guessed", reason="it was killed"
            )
            now = program("compute-nodes", "list", "1", "-f", "json").json
            assert [item["is_active"] for item in now] == [item["is_active"] for item in left] == [True], "not given up"
            given: dict[str, Any] = {"workflow_id": 1, "plan_token": plan["plan_token"], "reason": "it was killed"}
            assert (await ask(client, "recover_workflow", **given))["applied"]
            assert "already applied" in await refused(client, "recover_workflow", **given)
            await wait_for_end(client, 1)
            assert (await ask(client, "get_workflow_status", workflow_id=1))["state"] == "completed"

    anyio.run(talk)
