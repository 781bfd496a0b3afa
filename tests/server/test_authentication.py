"""Who is let in: tokens and passwords shown to a real server, guessed, stolen, revoked, expired."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import bcrypt
import pytest
import urllib3
from sqlalchemy import text

import torc.server.sse
from tests.support.accounts import PASSWORD, People
from tests.support.running import wait_until
from tests.support.serving import Serving, start
from tests.support.stores import check_all
from torc.api.access_groups import ListAudit
from torc.api.jobs import ListJobs
from torc.api.registry import REQUESTS
from torc.api.users import (
    CreateToken,
    DeleteUser,
    GetMe,
    ImportUsers,
    ListTokens,
    RevokeToken,
    SetPassword,
    UpdateUser,
)
from torc.api.workflows import CreateWorkflow, DeleteWorkflow, ListWorkflows, UpdateWorkflow
from torc.client import embedded
from torc.client.embedded import Embedded
from torc.client.remote import Remote
from torc.errors import Forbidden, NotFound, TorcError, Unauthorized, Unavailable
from torc.operations.tokens import hash_of
from torc.server.authentication import MOST_SIGN_INS, Accounts
from torc.server.routes import PREFIX
from torc.workflow.access import Access

OWNER = "what-the-file-of-the-server-holds"


@dataclass
class House:
    """A server with accounts, the people who have them, and the database behind."""

    people: People
    serving: Serving
    opened: Embedded

    def remote(self, token: str | None = None, **more: Any) -> Remote:
        """Return a client that does not try again."""
        return Remote(self.serving.url, token=token, patience_seconds=0.0, **more)

    def of(self, user: str, scope: Access = "write", **more: Any) -> Remote:
        """Return a client with a new token."""
        return self.remote(self.people.token(user, scope, **more).token)

    def get(self, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
        """Ask plainly."""
        return urllib3.request("GET", self.serving.url + path, headers=headers, retries=False)


@pytest.fixture
def house(store_with_people: tuple[Embedded, People]) -> Iterator[House]:
    """Return a server that requires authentication."""
    opened, people = store_with_people
    serving = start(opened.store, Accounts(opened.store, owner_token=OWNER))
    yield House(people, serving, opened)
    serving.stop()
    check_all(opened)
    opened.close()


WRONG = {
    "none": {},
    "no token": {"Authorization": "Bearer"},
    "not of this server": {"Authorization": f"Bearer torc_1_{'A' * 43}"},
    "no token at all": {"Authorization": "Bearer xyz"},
    "ids beyond any": {"Authorization": f"Bearer torc_{9**18}_{'A' * 43}"},
    "another scheme": {"Authorization": "Digest abc"},
    "not base64": {"Authorization": "Basic ä".encode().decode("latin-1")},
    "too long": {"Authorization": "Bearer " + "x" * 10_000},
}


@pytest.mark.parametrize("shown", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("part", [0, 1])  # who is wrong more than a hundred times has to wait
def test_nothing_is_told_to_whom_nobody_knows(house: House, shown: dict[str, str], part: int) -> None:
    for kind in list(REQUESTS.values())[part::2]:
        path = PREFIX + kind.http_path
        for field in [part[1:-1] for part in kind.http_path.split("/") if part.startswith("{")]:
            path = path.replace("{" + field + "}", "1")
        answer = urllib3.request(kind.http_method, house.serving.url + path, headers=shown, retries=False)
        assert answer.status == 401, kind
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.json()["hint"]
    for path in ("/metrics", f"{PREFIX}/workflows/1/events/stream", f"{PREFIX}/openapi.json", f"{PREFIX}/nothing", "/"):
        assert house.get(path, **shown).status == 401
    for path, status in (("/healthz", "alive"), ("/readyz", "ready")):
        assert house.get(path, **shown).json() == {"status": status}


def test_a_token_opens_what_its_account_may_see(house: House) -> None:
    assert [found.id for found in house.of("ada").send(ListWorkflows()).items] == [house.people.wf]
    assert house.of("eve").send(ListWorkflows()).items == []
    me = house.of("rita", "read").send(GetMe())
    assert (me.user, me.scope, me.is_admin, me.access_groups) == ("rita", "read", False, ["ritas"])
    assert house.get("/metrics", Authorization=f"Bearer {house.people.token('eve', 'read').token}").status == 200


def test_the_owner_of_the_server_shows_what_stands_in_its_file(house: House) -> None:
    owner = house.remote(OWNER)
    assert len(owner.send(ListWorkflows()).items) == 1
    me = owner.send(GetMe())
    assert (me.user_id, me.is_admin, me.scope) == (None, True, "admin")
    with pytest.raises(Unauthorized):
        house.remote(OWNER + "x").send(GetMe())


def test_a_revoked_token_opens_nothing_from_that_moment_on(house: House) -> None:
    made = house.people.token("ada")
    client = house.remote(made.token)
    client.send(GetMe())
    house.opened.send(RevokeToken(token_id=made.id))
    with pytest.raises(Unauthorized, match="revoked"):
        client.send(GetMe())


def test_an_expired_token_opens_nothing(house: House) -> None:
    with pytest.raises(Unauthorized, match="expired"):
        house.of("ada", expires_in_seconds=1e-6).send(ListWorkflows())


def test_an_account_that_is_disabled_or_deleted_is_let_in_no_more(house: House) -> None:
    eve, wim = house.of("eve"), house.of("wim")
    eve.send(GetMe())
    wim.send(GetMe())
    house.opened.send(UpdateUser(user_id=house.people.accounts["eve"], is_disabled=True))
    with pytest.raises(Unauthorized, match="disabled"):
        eve.send(GetMe())
    with pytest.raises(Unauthorized, match="disabled"):
        house.remote(password=("eve", PASSWORD)).send(CreateToken(name="x"))
    house.opened.send(UpdateUser(user_id=house.people.accounts["eve"], is_disabled=False))
    eve.send(GetMe())
    house.opened.send(DeleteUser(user_id=house.people.accounts["eve"]))
    with pytest.raises(Unauthorized):
        eve.send(GetMe())
    wim.send(GetMe())


def test_a_stolen_token_does_what_it_was_made_for_and_nothing_else(house: House) -> None:
    wf = house.people.wf
    reader = house.of("ada", "read")
    assert reader.send(ListJobs(workflow_id=wf)).items
    for attempt in (UpdateWorkflow(workflow_id=wf, name="x"), DeleteWorkflow(workflow_id=wf), CreateToken(name="more")):
        with pytest.raises(Forbidden, match="needs the right to write"):
            reader.send(attempt)
    writer = house.of("ada", "write", expires_in_seconds=600)
    with pytest.raises(Forbidden, match="administrator"):
        writer.send(CreateToken(name="more", scope="admin"))
    with pytest.raises(Forbidden, match="made by administrators"):
        writer.send(CreateToken(name="more", user="root"))
    made = writer.send(CreateToken(name="longer", expires_in_seconds=1e6))
    mine = writer.send(GetMe())
    assert made.expires_at == mine.expires_at, "no token outlives the one that it is made with"
    child = house.remote(made.token)
    child.send(GetMe())
    house.opened.send(RevokeToken(token_id=mine.token_id or 0))
    for client in (writer, child):
        with pytest.raises(Unauthorized, match="revoked"):
            client.send(GetMe())
    admin = house.of("root", "write")
    with pytest.raises(Forbidden, match="cannot create one with `admin`"):
        admin.send(CreateToken(name="more", scope="admin"))


def test_a_token_for_one_workflow_sees_that_one_and_makes_nothing(house: House) -> None:
    ada = house.of("ada")
    other = ada.send(CreateWorkflow(spec='{"name": "o", "jobs": [{"name": "a", "command": "true"}]}', directory="/"))
    narrow = house.of("ada", "run", workflow_id=house.people.wf)
    assert [found.id for found in narrow.send(ListWorkflows()).items] == [house.people.wf]
    assert [found.name for found in narrow.send(ListTokens()).items] == ["ada's"]
    with pytest.raises(NotFound):
        narrow.send(ListJobs(workflow_id=other.id))
    for attempt in (CreateWorkflow(spec="{}", directory="/"), CreateToken(name="x", scope="read")):
        with pytest.raises(Forbidden):
            narrow.send(attempt)


def test_what_is_created_belongs_to_whom_the_token_is_of(house: House) -> None:
    text = '{"name": "o", "jobs": [{"name": "a", "command": "true"}]%s}'
    assert house.of("eve").send(CreateWorkflow(spec=text % "", directory="/")).user == "eve"
    assert house.of("eve").send(CreateWorkflow(spec=text % ', "user": "eve"', directory="/")).user == "eve"
    for attempt in (
        CreateWorkflow(spec=text % ', "user": "ada"', directory="/"),
        CreateWorkflow(spec=text % "", directory="/", user="ada"),
    ):
        with pytest.raises(Forbidden, match="belongs to `ada`"):
            house.of("eve").send(attempt)
    assert house.of("root", "admin").send(CreateWorkflow(spec=text % "", directory="/", user="ada")).user == "ada"
    with pytest.raises(Forbidden, match="given to others by administrators"):
        house.of("ada").send(UpdateWorkflow(workflow_id=house.people.wf, user="eve"))
    with pytest.raises(NotFound, match="no user `nobody`"):
        house.of("root", "admin").send(UpdateWorkflow(workflow_id=house.people.wf, user="nobody"))
    given = house.of("root", "admin").send(UpdateWorkflow(workflow_id=house.people.wf, user="eve"))
    assert given.user == "eve"
    assert house.people.wf not in {found.id for found in house.of("ada").send(ListWorkflows()).items}


def test_a_password_gets_a_token_and_nothing_else(house: House) -> None:
    by_password = house.remote(password=("ada", PASSWORD))
    with pytest.raises(Unauthorized, match="only be used for signing in"):
        by_password.send(ListWorkflows())
    made = by_password.send(CreateToken(name="laptop"))
    assert house.remote(made.token).send(GetMe()).user == "ada"
    with pytest.raises(Forbidden, match="administrator's token"):
        by_password.send(CreateToken(name="laptop", scope="admin"))
    assert house.remote(password=("root", PASSWORD)).send(CreateToken(name="x", scope="admin")).scope == "admin"


def test_the_old_password_sets_a_new_one_and_a_token_does_not(house: House) -> None:
    request = SetPassword(user_id=house.people.accounts["ada"], password="another long one", revoke_tokens=True)
    token = house.of("ada")
    with pytest.raises(Forbidden, match="old password"):
        token.send(request)
    with pytest.raises(NotFound):
        house.remote(password=("eve", PASSWORD)).send(request)
    house.remote(password=("ada", PASSWORD)).send(request)
    with pytest.raises(Unauthorized, match="revoked"):
        token.send(GetMe())
    with pytest.raises(Unauthorized, match="wrong"):
        house.remote(password=("ada", PASSWORD)).send(CreateToken(name="x"))
    house.remote(password=("ada", "another long one")).send(CreateToken(name="x"))


def test_guessing_is_slowed_down_whoever_is_guessed(house: House) -> None:
    answers = []
    for number in range(8):
        try:
            house.remote(password=(f"nobody{number}" if number % 2 else "ada", "guess")).send(CreateToken(name="x"))
        except TorcError as error:
            answers.append(error.status)
    assert answers[:5] == [401] * 5
    assert answers[-1] == 503, "429, as clients take it"
    with pytest.raises(Unavailable) as caught:
        house.remote(password=("ada", PASSWORD)).send(CreateToken(name="x"))
    assert "try again in" in (caught.value.hint or "")
    basic = urllib3.make_headers(basic_auth=f"ada:{PASSWORD}")
    refused = urllib3.request(
        "POST", f"{house.serving.url}{PREFIX}/tokens", headers=basic, json={"name": "x"}, retries=False
    )
    assert refused.status == 429 and int(refused.headers["Retry-After"]) >= 1
    # tokens cannot be guessed, so who has one is let in meanwhile
    house.of("ada").send(GetMe())


def _sign_in(house: House, user: str, password: str, address: str) -> urllib3.BaseHTTPResponse:
    """Ask for a token by password, from some address of this machine."""
    parts = urlsplit(house.serving.url)
    with urllib3.HTTPConnectionPool(
        parts.hostname or "", parts.port, retries=False, timeout=60, source_address=(address, 0)
    ) as pool:
        headers = urllib3.make_headers(basic_auth=f"{user}:{password}")
        return pool.request("POST", f"{PREFIX}/tokens", headers=headers, json={"name": "x"})


@pytest.mark.usefixtures("processes")
def test_tokens_are_looked_up_while_passwords_wait_and_who_asks_beyond_is_told_to_come_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "PATIENCE_SECONDS", 600.0)
    fresh, known = house.people.token("ada").token, house.people.token("eve").token
    house.remote(known).send(GetMe())
    store = house.opened.store
    with ThreadPoolExecutor(MOST_SIGN_INS + 5) as pool:
        with store.dialect.begin_write(store.engine):  # a wrong password is recorded, so each of them waits for us
            asked = [
                pool.submit(_sign_in, house, f"nobody{number}", "wrong", f"127.3.{number}.1")
                for number in range(MOST_SIGN_INS + 5)
            ]
            wait_until(lambda: sum(future.done() for future in asked) == 5, "those beyond are refused")
            for token in (fresh, known):
                assert house.remote(token).send(GetMe()).user in {"ada", "eve"}
            assert sum(future.done() for future in asked) == 5, "the others are being compared still"
        answers = [future.result() for future in asked]
    refused = [answer for answer in answers if answer.status == 503]
    assert len(refused) == 5 and all(answer.headers["Retry-After"] == "1" for answer in refused)
    assert {answer.status for answer in answers} == {401, 503}
    wait_until(
        lambda: all(token.used_at for token in house.opened.send(ListTokens()).items if token.user in {"ada", "eve"}),
        "the use of both is noted once the database is free",
    )


@pytest.mark.usefixtures("processes")
def test_who_guesses_from_many_addresses_locks_nobody_out(house: House) -> None:
    guesses = [_sign_in(house, "ada", "wrong", f"127.5.{number}.1").status for number in range(22)]
    assert set(guesses) == {401}, "each is the first from its region"
    again = [_sign_in(house, "ada", "wrong", f"127.5.{number}.2").status for number in range(4)]
    assert 429 in again, "who comes again from there is slowed down"
    assert _sign_in(house, "ada", PASSWORD, "127.6.0.1").status == 201


def test_each_caller_may_ask_so_many_times_a_second(store_with_people: tuple[Embedded, People]) -> None:
    opened, people = store_with_people
    serving = start(opened.store, Accounts(opened.store, owner_token=OWNER, calls_per_second=1.0))
    asking = [f"Bearer {people.token('ada').token}"] * 8 + [f"Bearer {people.token('eve').token}", f"Bearer {OWNER}"]
    statuses = [
        urllib3.request("GET", f"{serving.url}{PREFIX}/me", headers={"Authorization": shown}, retries=False).status
        for shown in asking
    ]
    assert statuses[:5] == [200] * 5 and 429 in statuses[5:8]
    assert statuses[-2:] == [200, 200], "others are not held up"
    serving.stop()
    opened.close()


def test_who_did_what_from_where_is_recorded_without_secrets(house: House) -> None:
    ada, root = house.of("ada"), house.of("root", "admin")
    ada.send(UpdateWorkflow(workflow_id=house.people.wf, env={"KEY": "hidden value"}))
    with pytest.raises(Unauthorized):
        house.remote(password=("ada", "a wrong password")).send(CreateToken(name="x"))
    with pytest.raises(Unauthorized):
        house.remote(password=("typed in the wrong place", "x")).send(CreateToken(name="x"))
    made = house.remote(password=("ada", PASSWORD)).send(CreateToken(name="laptop"))
    root.send(SetPassword(user_id=house.people.accounts["ada"], password="yet another one"))
    house.remote(made.token).send(DeleteWorkflow(workflow_id=house.people.wf))
    records = root.send(ListAudit()).items
    shown = [(record.actor, record.action, record.workflow_id) for record in reversed(records)]
    assert shown == [
        ("user:ada", "UpdateWorkflow", house.people.wf),
        ("user:ada", "sign_in_failed", None),
        ("somebody", "sign_in_failed", None),
        ("user:ada", "CreateToken", None),
        ("user:root", "SetPassword", None),
        ("user:ada", "DeleteWorkflow", house.people.wf),
    ]
    assert {record.address for record in records} == {"127.0.0.1"}
    assert records[0].token_id == made.id
    assert [r.action for r in root.send(ListAudit(action="*Workflow", actor="user:a*")).items] == [
        "DeleteWorkflow",
        "UpdateWorkflow",
    ]
    told = json.dumps([record.model_dump() for record in records])
    for secret in (
        PASSWORD,
        "yet another one",
        made.token,
        made.token.rpartition("_")[2],
        "hidden value",
        "wrong place",
    ):
        assert secret not in told


def test_the_database_holds_nothing_that_opens_anything(house: House) -> None:
    made = house.remote(password=("ada", PASSWORD)).send(CreateToken(name="laptop"))
    path = house.opened.store.path
    assert path is not None
    stored = b"".join(found.read_bytes() for found in path.parent.glob("torc.db*"))
    secret = made.token.split("_", 2)[2]
    assert hash_of(secret).encode() in stored
    assert secret.encode() not in stored and PASSWORD.encode() not in stored


def test_a_password_of_htpasswd_is_taken_and_hashed_anew_when_it_is_shown(house: House) -> None:
    stored = bcrypt.hashpw(b"old but long", bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")
    house.opened.send(ImportUsers(htpasswd=f"# people\nnina:{stored}\n\n"))

    def hash_now() -> str:
        with house.opened.store.dialect.begin_read(house.opened.store.engine) as db:
            return str(db.execute(text("SELECT password_hash FROM account WHERE name = 'nina'")).scalar_one())

    assert hash_now() == stored
    with pytest.raises(Unauthorized):
        house.remote(password=("nina", "old but wrong")).send(CreateToken(name="x"))
    for _ in range(2):
        assert house.remote(password=("nina", "old but long")).send(CreateToken(name="x")).user == "nina"
    assert hash_now().startswith("$argon2id$")


def test_an_account_without_a_password_is_not_opened_by_one(house: House) -> None:
    from torc.api.users import CreateUser

    house.opened.send(CreateUser(name="robot"))
    for guess in ("", "the password of nobody", "None"):
        with pytest.raises(Unauthorized):
            house.remote(password=("robot", guess)).send(CreateToken(name="x"))


def test_whoever_waits_with_a_token_that_is_revoked_is_told_so(house: House) -> None:
    from torc.api.events import ListEvents

    made = house.people.token("ada")
    client, found = house.remote(made.token), list[TorcError]()
    seen = client.send(ListEvents(workflow_id=house.people.wf)).items[-1].id

    def wait() -> None:
        try:
            while True:
                client.send(ListEvents(workflow_id=house.people.wf, after=seen, wait_seconds=30))
        except TorcError as error:
            found.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    house.opened.send(RevokeToken(token_id=made.id))
    house.opened.send(UpdateWorkflow(workflow_id=house.people.wf, name="woken"))
    waiting.join(20)
    assert isinstance(found[0], Unauthorized)


def test_a_stream_ends_when_its_listener_may_listen_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torc.server.sse, "_LOOK_SECONDS", 0.05)
    made = house.people.token("rita", "read")
    path = f"{PREFIX}/workflows/{house.people.wf}/events/stream?after=0"
    stream = urllib3.request(
        "GET",
        house.serving.url + path,
        headers={"Authorization": f"Bearer {made.token}"},
        preload_content=False,
        retries=False,
    )
    assert b"workflow_created" in _until(stream, b"workflow_created")
    house.opened.send(RevokeToken(token_id=made.id))
    changes = iter(range(1000))

    def has_ended() -> bool:
        house.opened.send(UpdateWorkflow(workflow_id=house.people.wf, name=f"n{next(changes)}"))
        return bool(done)

    done: list[bool] = []
    reading = threading.Thread(target=lambda: (stream.read(), done.append(True)))
    reading.start()
    wait_until(has_ended, "the stream has ended")
    reading.join(10)


def test_a_stream_sends_nothing_that_happens_after_its_token_was_revoked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torc.server.sse, "_LOOK_SECONDS", -1.0)
    made = house.people.token("rita", "read")
    stream = urllib3.request(
        "GET",
        f"{house.serving.url}{PREFIX}/workflows/{house.people.wf}/events/stream?after=0",
        headers={"Authorization": f"Bearer {made.token}"},
        preload_content=False,
        retries=False,
    )
    assert b"workflow_created" in _until(stream, b"workflow_created")
    house.opened.send(RevokeToken(token_id=made.id))
    house.opened.send(UpdateWorkflow(workflow_id=house.people.wf, name="too late"))
    assert b"too late" not in stream.read()


def _until(stream: Any, wanted: bytes) -> bytes:
    found = b""
    while wanted not in found:
        found += stream.read1() if hasattr(stream, "read1") else stream.read(1)
    return found


def test_a_client_looks_for_another_token_when_its_own_holds_no_more(house: House) -> None:
    first, second = house.people.token("ada"), house.people.token("ada")
    offered: list[str | None] = [second.token]
    renew: Callable[[], str | None] = lambda: offered[0]  # noqa: E731
    client = house.remote(first.token, renew=renew)
    client.send(GetMe())
    house.opened.send(RevokeToken(token_id=first.id))
    assert client.send(GetMe()).token_id == second.id
    house.opened.send(RevokeToken(token_id=second.id))
    with pytest.raises(Unauthorized):
        client.send(GetMe())
