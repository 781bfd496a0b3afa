"""Every request of the table, asked by every kind of caller, and what each is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.support.accounts import People, gather
from tests.support.requests import example_requests, first, furnish
from tests.support.stores import open_sqlite
from tests.support.workflows import NODE, claim, create, runner, spec, states
from torc.api.access_groups import ShareWorkflow
from torc.api.base import Request
from torc.api.events import ListEvents
from torc.api.jobs import ActOnJobs, ListJobs
from torc.api.registry import REQUESTS
from torc.api.remote_workers import AddRemoteWorkers, ListRemoteWorkers, RemoveRemoteWorker
from torc.api.runs import EndRunner, Exchange, Finished, GetRunner, JobAttempt, ListResults, ListRunners
from torc.api.users import CreateToken, GetMe, ListTokens, RevokeToken
from torc.api.workflows import GetWorkflow, ListWorkflows
from torc.client.embedded import Embedded
from torc.errors import Conflict, Forbidden, NotFound, TorcError, Unauthorized
from torc.operations.dispatch import DryRun, Tx, answer
from torc.workflow.access import Caller


@pytest.fixture(scope="module")
def people(sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """Yield people around a workflow that has everything; what a test does to it is rolled back."""
    opened = open_sqlite(sqlite_file, tmp_path_factory.mktemp("people"))
    made = furnish(opened)
    yield made
    opened.close()


@pytest.fixture(scope="module")
def examples(people: People) -> dict[str, dict[str, Any]]:
    """Return the fields of one request of each kind, about ada's workflow, ada herself, and a group that she owns."""
    return example_requests(people)


class _Undo(Exception):
    """Ends a transaction without keeping it."""


def outcome(torc: Embedded, caller: Caller, request: Request[Any]) -> str:
    """Ask, undo what it did, and tell how it was answered."""

    def work(tx: Tx) -> None:
        answer(tx, request)
        raise _Undo

    prepared = _prepared(torc, request)
    try:
        torc.transact(work, caller, writes=True, prepared=prepared)
    except (_Undo, DryRun, Conflict):
        return "answered"
    except Unauthorized:
        return "unknown"
    except Forbidden:
        return "refused"
    except NotFound:
        return "hidden"
    raise AssertionError("neither kept nor undone")


_KEPT: dict[str, Any] = {}


def _prepared(torc: Embedded, request: Request[Any]) -> Any:
    name = type(request).__name__
    if name not in _KEPT:
        _KEPT[name] = torc.prepare(request, None)
    return _KEPT[name]


#: what a caller is answered about ada's workflow, by the right that a request needs
RIGHTS = ("read", "job", "run", "write")
ABOUT_THE_WORKFLOW = {
    who: dict(zip(RIGHTS, answers.split(), strict=True))
    for who, answers in {
        "ada, to write": "answered answered answered answered",
        "ada, to run": "answered answered answered refused",
        "ada, as a job": "answered answered refused refused",
        "ada, to read": "answered refused refused refused",
        "ada, for this workflow": "answered answered answered refused",
        "ada, for another workflow": "hidden hidden hidden hidden",
        "a job of it": "answered answered refused refused",
        "a job of another workflow": "hidden hidden hidden hidden",
        "shared to write": "answered answered answered answered",
        "shared to run": "answered answered answered refused",
        "shared to read": "answered refused refused refused",
        "shared to write, token to read": "answered refused refused refused",
        "stranger": "hidden hidden hidden hidden",
        "administrator": "answered answered answered answered",
        "administrator, token to write": "hidden hidden hidden hidden",
        "owner of the database": "answered answered answered answered",
        "revoked": "unknown unknown unknown unknown",
        "expired": "unknown unknown unknown unknown",
        "no such token": "unknown unknown unknown unknown",
        "token of another account": "unknown unknown unknown unknown",
        "a job whose runner has ended": "unknown unknown unknown unknown",
        "a job of no runner": "unknown unknown unknown unknown",
    }.items()
}
UNKNOWN = {who for who, answers in ABOUT_THE_WORKFLOW.items() if answers["read"] == "unknown"}
#: requests about other things: (to whom they are answered, how others are answered)
ALL = set(ABOUT_THE_WORKFLOW) - UNKNOWN
ABOVE = {"administrator", "owner of the database"}
JOBS = {"a job of it", "a job of another workflow"}
ADAS = {
    "ada, to write",
    "ada, to run",
    "ada, as a job",
    "ada, to read",
    "ada, for this workflow",
    "ada, for another workflow",
}
STRANGERS = {"shared to write", "shared to run", "shared to read", "stranger", "administrator, token to write"}
WRITERS = {"ada, to write", *STRANGERS, *ABOVE}
OTHERS: dict[str, tuple[set[str], dict[str, str]]] = {
    **dict.fromkeys(
        (
            "GetMe",
            "ListWorkflows",
            "ListAccessGroups",
            "SuggestResources",
            "GetSpending",
            "ListOpenInterventions",
            "FindInterventions",
        ),
        (ALL, {}),
    ),
    **dict.fromkeys(("CreateWorkflow", "ImportWorkflow", "CreateAccessGroup"), (WRITERS, {})),
    # the owner of the database has no account to make a token for, and says whose
    "CreateToken": (WRITERS, {}),
    # jobs of hers see none of her tokens, see below
    "ListTokens": (ADAS | JOBS | ABOVE, {}),
    "GetAccessGroup": (ADAS | ABOVE, dict.fromkeys(ALL - ADAS - ABOVE, "hidden")),
    **dict.fromkeys(
        ("DeleteAccessGroup", "AddMembers", "RemoveMember"),
        ({"ada, to write"} | ABOVE, dict.fromkeys(STRANGERS, "hidden")),
    ),
    # a token of hers is not enough for ada to set her password: she shows the old one
    "SetPassword": (ABOVE, dict.fromkeys(ALL - ADAS - ABOVE, "hidden")),
    "RevokeToken": (
        {"ada, to write"} | ABOVE,
        dict.fromkeys(STRANGERS, "hidden"),
    ),
    **dict.fromkeys(
        (
            "ListUsers",
            "GetUser",
            "CreateUser",
            "UpdateUser",
            "DeleteUser",
            "ImportUsers",
            "PruneWorkflows",
            "ListAudit",
            "StartSpendingAnew",
        ),
        (ABOVE, {}),
    ),
}
#: sharing is for the owner, whatever right others have
FOR_ITS_OWNER = {"ShareWorkflow", "UnshareWorkflow"}


def _job(runner_id: int) -> Caller:
    return Caller(f"job:runner {runner_id}", "192.0.2.7", runner_id=runner_id)


@pytest.fixture(scope="module")
def callers(people: People) -> dict[str, Caller]:
    """Return somebody of each kind."""
    other = create(people.torc, spec("x", user="ada")).id
    ended = runner(people.torc, other)
    people.torc.send(EndRunner(workflow_id=other, runner_id=ended))
    gone = people.caller("ada")
    people.torc.send(RevokeToken(token_id=gone.token_id or 0))
    accounts = people.accounts
    return {
        "ada, to write": people.caller("ada"),
        "ada, to run": people.caller("ada", "run"),
        "ada, as a job": people.caller("ada", "job"),
        "ada, to read": people.caller("ada", "read"),
        "ada, for this workflow": people.caller("ada", "run", workflow_id=people.wf),
        "ada, for another workflow": people.caller("ada", "run", workflow_id=other),
        "a job of it": _job(runner(people.torc, people.wf)),
        "a job of another workflow": _job(runner(people.torc, other)),
        "a job whose runner has ended": _job(ended),
        "a job of no runner": _job(10**9),
        "shared to write": people.caller("wim"),
        "shared to run": people.caller("rune"),
        "shared to read": people.caller("rita"),
        "shared to write, token to read": people.caller("wim", "read"),
        "stranger": people.caller("eve"),
        "administrator": people.caller("root", "admin"),
        "administrator, token to write": people.caller("root", "write"),
        "owner of the database": Caller("user:me", "127.0.0.1"),
        "revoked": gone,
        "expired": people.caller("ada", expires_in_seconds=1e-9),
        "no such token": Caller("user:ada", "192.0.2.7", accounts["ada"], 10**9),
        "token of another account": Caller("user:ada", "192.0.2.7", accounts["ada"], people.token("eve").id),
    }


def expected(kind: type[Request[Any]], who: str) -> str:
    """Say how a caller must be answered."""
    name = kind.__name__
    if name in OTHERS:
        answered, rest = OTHERS[name]
        if who not in ALL:
            return "unknown"
        return "answered" if who in answered else rest.get(who, "refused")
    found = ABOUT_THE_WORKFLOW[who][kind.access]
    if name in FOR_ITS_OWNER and who == "shared to write":
        return "refused"
    return found


@pytest.mark.parametrize("who", list(ABOUT_THE_WORKFLOW))
def test_every_request_is_answered_to_whom_it_is_for_and_to_nobody_else(
    who: str, people: People, callers: dict[str, Caller], examples: dict[str, dict[str, Any]]
) -> None:
    assert isinstance(people.torc, Embedded)
    assert set(examples) == set(REQUESTS), "this table must have an example of every request"
    found, wanted = {}, {}
    for name, kind in REQUESTS.items():
        fields = examples[name]
        if name == "CreateToken" and who == "owner of the database":
            fields = {**fields, "user": "ada"}
        found[name] = outcome(people.torc, callers[who], kind.model_validate(fields))
        wanted[name] = expected(kind, who)
    assert found == wanted
    assert set(wanted) >= set(OTHERS)


def test_what_is_hidden_is_told_as_what_is_not_there(
    people: People, callers: dict[str, Caller], examples: dict[str, dict[str, Any]]
) -> None:
    assert isinstance(people.torc, Embedded)
    for name, fields in examples.items():
        kind = REQUESTS[name]
        path = [part[1:-1] for part in kind.http_path.split("/") if part.startswith("{")]
        if not path or name in OTHERS:
            continue
        nowhere = {**fields, path[0]: 999_999_999}
        texts = [told(people.torc, callers["stranger"], kind.model_validate(given)) for given in (fields, nowhere)]
        assert texts[0].replace(str(fields[path[0]]), "N") == texts[1].replace("999999999", "N"), name


def told(torc: Embedded, caller: Caller, request: Request[Any]) -> str:
    with pytest.raises(TorcError) as caught:
        torc.answer(request, caller=caller)
    assert isinstance(caught.value, NotFound)
    return f"{caught.value.message} ({caught.value.hint}) {caught.value.details}"


def test_lists_show_what_one_may_see(people: People, callers: dict[str, Caller]) -> None:
    assert isinstance(people.torc, Embedded)

    def seen(who: str) -> set[int]:
        assert isinstance(people.torc, Embedded)
        return {found.id for found in people.torc.answer(ListWorkflows(), caller=callers[who]).items}

    everything = seen("owner of the database")
    assert seen("administrator") == everything
    assert people.wf in everything and len(everything) == 2
    assert seen("ada, to read") == everything
    assert seen("shared to read") == seen("shared to write") == {people.wf} == seen("ada, for this workflow")
    assert seen("stranger") == seen("administrator, token to write") == set()


def everything(torc: Embedded, wf: int) -> list[Any]:
    lists = [
        ListJobs(workflow_id=wf),
        ListEvents(workflow_id=wf),
        ListResults(workflow_id=wf),
        ListRunners(workflow_id=wf),
    ]
    return [torc.send(GetWorkflow(workflow_id=wf)), states(torc, wf), *(torc.send(asked) for asked in lists)]


def test_an_own_workflow_is_no_way_into_the_workflow_of_another(torc: Embedded) -> None:
    if not isinstance(torc, Embedded):
        pytest.skip("callers are given here as a server would tell them")
    people = gather(torc)
    eve = people.caller("eve")
    own = create(torc, spec("a", user="eve")).id
    running = runner(torc, people.wf)
    claim(torc, people.wf, running)
    of_eve = runner(torc, own)
    torc.send(AddRemoteWorkers.model_validate({"workflow_id": people.wf, "workers": [{"host": "node1"}]}))
    jobs = [job.id for job in torc.send(ListJobs(workflow_id=people.wf)).items]
    before = everything(torc, people.wf)
    lie = Finished(
        job_id=jobs[0], attempt=1, outcome="succeeded", return_code=0, started_at=1.0, ended_at=2.0, wall_seconds=1.0
    )
    attacks: list[Callable[[], Request[Any]]] = [
        lambda: ActOnJobs(workflow_id=own, job_ids=[jobs[0]], action="cancel"),
        lambda: EndRunner(workflow_id=own, runner_id=running),
        lambda: Exchange(workflow_id=own, runner_id=running, free=NODE, stopping=True),
        lambda: Exchange(workflow_id=own, runner_id=of_eve, free=NODE, finished=[lie]),
        lambda: Exchange(
            workflow_id=own, runner_id=of_eve, free=NODE, released=[JobAttempt(job_id=jobs[0], attempt=1)]
        ),
        lambda: RemoveRemoteWorker(workflow_id=own, worker_id=first(torc, ListRemoteWorkers(workflow_id=people.wf))),
        lambda: ShareWorkflow(workflow_id=own, access_group_id=people.groups["wim"]),
        lambda: CreateToken(name="x", workflow_id=people.wf),
    ]
    refused = []
    for attack in attacks:
        try:
            torc.answer(attack(), caller=eve)
        except (NotFound, Conflict, Forbidden):
            refused.append(True)
        else:
            refused.append(False)
    # an unknown runner is told that it is lost; reports of unknown jobs are passed over, as those of deleted jobs are
    assert refused == [True, True, False, False, False, True, True, True]
    assert everything(torc, people.wf) == before
    assert torc.send(GetRunner(runner_id=running)).is_active


def test_a_job_sees_its_own_workflow_and_no_token(people: People, callers: dict[str, Caller]) -> None:
    assert isinstance(people.torc, Embedded)
    seen = people.torc.answer(ListWorkflows(), caller=callers["a job of it"]).items
    assert [found.id for found in seen] == [people.wf]
    assert people.torc.answer(ListTokens(), caller=callers["a job of it"]).items == []
    me = people.torc.answer(GetMe(), caller=callers["a job of it"])
    assert (me.scope, me.workflow_id, me.is_admin, me.access_groups) == ("job", people.wf, False, [])


def test_a_job_of_a_runner_that_has_been_silent_for_long_is_let_in_no_more(people: People) -> None:
    assert isinstance(people.torc, Embedded)
    number = runner(people.torc, people.wf)
    people.torc.answer(GetMe(), caller=_job(number))
    with people.torc.store.engine.begin() as db:
        db.execute(text("UPDATE runner SET lease_expires_at = lease_expires_at - 86400 WHERE id = :id"), {"id": number})
    with pytest.raises(Unauthorized, match="has ended"):
        people.torc.answer(GetMe(), caller=_job(number))
