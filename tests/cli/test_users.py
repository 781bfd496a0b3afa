"""Signing in and sharing, as people type it: several of them, each with a home of their own, at one server."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3

from tests.support.other_user import STRANGER, listening_stranger
from tests.support.program import PROGRAM, Program
from tests.support.running import wait_until
from tests.support.stores import empty_postgres
from torc.store.engine import Store

pytestmark = pytest.mark.usefixtures("processes")

PASSWORD = "correct horse battery\n"
ONE = "name: one\njobs: [{name: a, command: 'echo done'}]\n"


class Town:
    """A directory with a server, and people who reach it from elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = Program(_made(root / "host"))

    def begin(self, *options: str) -> None:
        """Make accounts and begin the server."""
        for name in ("ada", "eve"):
            self.host("users", "create", name, "--password-stdin", stdin=PASSWORD)
        self.host("users", "create", "root", "--admin", "--password-stdin", stdin=PASSWORD)
        self.host("server", "start", "--auth", *options)

    @property
    def url(self) -> str:
        """Where the server is."""
        return str(json.loads((self.host.directory / ".torc/server.json").read_text())["url"])

    def person(self, name: str) -> Program:
        """Return the program as somebody types it."""
        return Program(_made(self.root / name), self.url)

    def signed_in(self, name: str, *options: str) -> Program:
        """Sign somebody in."""
        program = self.person(name)
        program("login", "--user", name, "--password-stdin", *options, stdin=PASSWORD)
        return program


def _made(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Yield a server with accounts."""
    made = Town(tmp_path)
    made.begin()
    yield made
    made.host("server", "stop", code=None)


def test_somebody_signs_in_works_and_signs_out(town: Town) -> None:
    ada = town.person("ada")
    refused = ada("workflows", "list", code=4)
    assert "requires authentication" in refused.stderr and "torc login" in refused.stderr
    done = ada("login", "--user", "ada", "--password-stdin", stdin=PASSWORD)
    assert "signed in to" in done.stdout and "as ada until" in done.stdout
    kept = ada.directory / ".config/torc/credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert PASSWORD.strip() not in kept.read_text()
    me = ada("whoami", "-f", "json").json
    assert (me["user"], me["scope"], me["is_admin"]) == ("ada", "write", False)
    assert "1 completed" in ada("run", ada.write("one.yaml", ONE)).stdout
    assert [found["user"] for found in ada("workflows", "list", "-f", "json").json] == ["ada"]
    token = ada("tokens", "list", "-f", "json").json[0]
    assert token["name"].startswith("torc login on")
    assert "signed out" in ada("logout").stdout
    assert json.loads(kept.read_text()) == {}
    ada("workflows", "list", code=4)
    assert "nobody is signed in" in ada("logout", code=2).stderr
    ended = town.host("tokens", "list", "--all", "-f", "json").json
    assert [found["revoked_at"] is not None for found in ended if found["id"] == token["id"]] == [True]


def test_a_wrong_password_is_told_and_nothing_is_kept(town: Town) -> None:
    ada = town.person("ada")
    refused = ada("login", "--user", "ada", "--password-stdin", stdin="wrong password\n", code=4)
    assert "wrong name or password" in refused.stderr
    assert not (ada.directory / ".config").exists()
    assert "is needed on standard input" in ada("login", "--password-stdin", stdin="", code=2).stderr
    assert "no terminal" in ada("login", "--user", "ada", stdin="", code=2).stderr


def test_a_token_of_the_environment_comes_first_and_is_for_programs(town: Town) -> None:
    ada = town.signed_in("ada")
    done = ada("tokens", "create", "nightly", "--scope", "read", "--expires", "30d")
    token = done.stdout.strip()
    assert "not shown again" in done.stderr and token.startswith("torc_")
    ada("run", ada.write("one.yaml", ONE))
    elsewhere = town.person("elsewhere")
    assert elsewhere("whoami", "-f", "json", TORC_TOKEN=token).json["scope"] == "read"
    refused = elsewhere("workflows", "delete", "1", "--yes", code=4, TORC_TOKEN=token)
    assert "needs the right to write, and this token has `read`" in refused.stderr
    assert "--scope write" in refused.stderr
    elsewhere("login", "--token-stdin", stdin=f"{token}\n")
    assert len(elsewhere("workflows", "list", "-f", "json").json) == 1
    number = next(t["id"] for t in ada("tokens", "list", "-f", "json").json if t["name"] == "nightly")
    ada("tokens", "revoke", number)
    assert "revoked" in elsewhere("workflows", "list", code=4).stderr


def test_a_workflow_is_shared_step_by_step(town: Town) -> None:
    ada, eve = town.signed_in("ada"), town.signed_in("eve")
    ada("create", ada.write("one.yaml", ONE))
    assert "no workflow 1" in eve("status", "1", code=3).stderr
    ada("access-groups", "create", "climate", "--description", "the climate people")
    assert "no access group `climate`" in eve("access-groups", "get", "climate", code=3).stderr
    ada("access-groups", "add-user", "climate", "eve")
    ada("access-groups", "add-workflow", "climate", "1")
    assert eve("status", "1", "-f", "json").json["user"] == "ada"
    assert "shared with you to read" in eve("workflows", "cancel", "1", code=4).stderr
    assert "climate       read" in ada("access-groups", "list-workflow-groups", "1").stdout
    ada("access-groups", "add-workflow", "climate", "1", "--permission", "run")
    assert "1 completed" in eve("run", "1").stdout
    assert "belongs to ada" in eve("access-groups", "add-user", "climate", "root", code=4).stderr
    eve("access-groups", "remove-user", "climate", "eve")
    eve("status", "1", code=3)
    ada("access-groups", "remove-workflow", "climate", "one")
    assert ada("access-groups", "list-workflow-groups", "1", "-f", "json").json == []
    ada("access-groups", "delete", "climate")
    assert ada("access-groups", "list", "-f", "json").json == []


def test_administrators_manage_users_and_see_what_was_done(town: Town) -> None:
    ada = town.signed_in("ada")
    assert "is for administrators" in ada("users", "list", code=4).stderr
    root = town.signed_in("root", "--scope", "admin")
    made = root("users", "create", "nina", "--no-password", "-f", "json").json
    assert (made["name"], made["has_password"]) == ("nina", False)
    token = root("tokens", "create", "for nina", "--user", "nina", "-f", "json").json["token"]
    nina = replace(town.person("nina"))
    assert nina("whoami", "-f", "json", TORC_TOKEN=token).json["user"] == "nina"
    root("users", "update", "nina", "--disable")
    assert "is disabled" in nina("whoami", code=4, TORC_TOKEN=token).stderr
    ada("create", ada.write("one.yaml", ONE))
    assert "workflow(s) belong to `ada`" in root("users", "delete", "ada", code=4).stderr
    root("workflows", "update", "1", "--user", "eve")
    root("users", "delete", "ada")
    ada("workflows", "list", code=4)
    assert "nothing is to be changed" in root("users", "update", "nina", code=2).stderr
    actions = [found["action"] for found in root("audit", "-f", "json").json]
    assert actions[:3] == ["DeleteUser", "UpdateWorkflow", "CreateWorkflow"]
    assert "127.0.0.1" in root("audit", "--action", "DeleteUser").stdout


def test_passwords_are_set_by_their_owner_with_the_old_one_and_by_administrators(town: Town) -> None:
    ada = town.signed_in("ada")
    wrong = ada("users", "set-password", "--password-stdin", stdin="not the old one\na new password\n", code=4)
    assert "wrong" in wrong.stderr
    short = ada("users", "set-password", "--password-stdin", stdin=PASSWORD + "short\n", code=2)
    assert "at least 8" in short.stderr and "short" not in short.stderr
    ada("users", "set-password", "--password-stdin", "--revoke-tokens", stdin=PASSWORD + "a new password\n")
    ada("workflows", "list", code=4)
    ada("login", "--user", "ada", "--password-stdin", stdin="a new password\n")
    town.host("users", "set-password", "ada", "--password-stdin", stdin="one more password\n")
    ada("login", "--user", "ada", "--password-stdin", stdin="one more password\n")


def test_users_come_from_htpasswd(town: Town) -> None:
    root = town.signed_in("root", "--scope", "admin")
    lines = "bob:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\ncarl:$apr1$abc$xyz\n"
    refused = root("users", "import-htpasswd", root.write("people", lines), code=2)
    assert "line 2" in refused.stderr and "htpasswd -B" in refused.stderr
    root("users", "import-htpasswd", "-", stdin=lines.splitlines()[0] + "\n")
    assert {found["name"] for found in root("users", "list", "-f", "json").json} == {"ada", "eve", "root", "bob"}
    # the example of Apache's documentation: the password is `myPassword`
    bob = town.person("bob")
    bob("login", "--user", "bob", "--password-stdin", stdin="myPassword\n")


def test_credentials_that_others_can_read_are_refused(town: Town) -> None:
    ada = town.signed_in("ada")
    kept = ada.directory / ".config/torc/credentials.json"
    kept.chmod(0o640)
    refused = ada("workflows", "list", code=4)
    assert "other users own or can read" in refused.stderr and f"chmod 600 {kept}" in refused.stderr
    kept.chmod(0o600)
    kept.write_text("{ not json")
    assert "remove it and sign in again" in ada("workflows", "list", code=2).stderr


def test_the_keyring_keeps_a_token_where_there_is_one(town: Town) -> None:
    ada = town.person("ada")
    backend = {"PYTHON_KEYRING_BACKEND": "tests.support.keyring_file.FileKeyring"}
    done = ada("login", "--user", "ada", "--password-stdin", stdin=PASSWORD, **backend)
    assert "the keyring" in done.stdout
    kept = (ada.directory / ".config/torc/credentials.json").read_text()
    assert "torc_" not in kept
    assert ada("whoami", "-f", "json", **backend).json["user"] == "ada"
    broken = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    assert "--no-keyring" in ada("whoami", code=5, **broken).stderr
    ada("logout", **backend)
    ada("whoami", code=4, **backend)


def test_the_owner_of_the_server_needs_no_account_in_its_directory(town: Town) -> None:
    assert town.host("whoami", "-f", "json").json["user_id"] is None
    assert "1 completed" in town.host("run", town.host.write("one.yaml", ONE)).stdout
    assert town.host("whoami", "--url", town.url, "-f", "json").json["user_id"] is None


def test_secrets_stand_in_no_argument_log_or_readable_file(town: Town) -> None:
    ada = town.signed_in("ada")
    ada("run", ada.write("one.yaml", ONE))
    place = json.loads((town.host.directory / ".torc/server.json").read_text())
    kept = json.loads((ada.directory / ".config/torc/credentials.json").read_text())
    secrets = [place["token"], *(found["token"] for found in kept.values()), PASSWORD.strip()]
    shown = (Path("/proc") / str(place["pid"]) / "cmdline").read_bytes() + (
        town.host.directory / ".torc/server.log"
    ).read_bytes()
    files = [found for top in (town.host.directory, ada.directory) for found in top.rglob("*") if found.is_file()]
    for secret in secrets:
        assert secret.encode() not in shown
        for file in files:
            if secret.encode() in file.read_bytes():
                assert file.name in {"server.json", "credentials.json"}
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
    json_lines = [
        json.loads(line)
        for line in (town.host.directory / ".torc/server.log").read_text().splitlines()
        if line[:1] == "{"
    ]
    assert {"user:ada"} <= {line["actor"] for line in json_lines}


def test_a_run_goes_on_when_its_token_is_revoked_and_its_user_signs_in_again(town: Town) -> None:
    ada = town.signed_in("ada")
    spec = "name: long\njobs: [{name: a, command: 'touch begun; while [ ! -e go ]; do sleep 0.05; done'}, {name: b, command: 'true', depends_on: [a]}]\n"
    running = ada.start("run", ada.write("long.yaml", spec))
    wait_until((ada.directory / "begun").exists, "the job runs")
    number = ada("tokens", "list", "-f", "json").json[0]["id"]
    ada("tokens", "revoke", number)
    (ada.directory / "go").touch()
    log = next((ada.directory / "torc_output").glob("job_runner_*.log"))
    wait_until(lambda: "token was revoked" in log.read_text(), "the runner notices")
    assert running.poll() is None
    ada("login", "--user", "ada", "--password-stdin", stdin=PASSWORD)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert "2 completed" in out


def test_a_server_that_others_can_reach_wants_to_know_who_calls(tmp_path: Path) -> None:
    host = Program(_made(tmp_path / "host"))
    assert "torc users create" in host("server", "start", "--host", "0.0.0.0", code=4).stderr
    assert "could be reached by everybody" in host("server", "run", "--host", "0.0.0.0", "--no-auth", code=4).stderr
    host("users", "create", "ada", "--password-stdin", stdin=PASSWORD)
    begun = host("server", "start", "--host", "0.0.0.0")
    assert "in the clear" in begun.stderr
    try:
        port = json.loads((host.directory / ".torc/server.json").read_text())["url"].rpartition(":")[2]
        for name in ("127.0.0.1", "localhost"):
            assert urllib3.request("GET", f"http://{name}:{port}/api/v1/workflows", retries=False).status == 401
        ada = Program(_made(tmp_path / "ada"))
        refused = ada(
            "login", f"http://torc.example.org:{port}", "--user", "ada", "--password-stdin", stdin=PASSWORD, code=4
        )
        assert "in the clear" in refused.stderr and "--insecure" in refused.stderr
        ada("login", f"http://127.0.0.1:{port}", "--user", "ada", "--password-stdin", stdin=PASSWORD)
    finally:
        host("server", "stop")


def test_several_processes_know_the_same_people(tmp_path: Path, postgres_store: Store) -> None:
    empty_postgres(postgres_store)
    host = Program(_made(tmp_path / "host"))
    database = {"TORC_DB": postgres_store.engine.url.render_as_string(hide_password=False)}
    host("users", "create", "ada", "--password-stdin", stdin=PASSWORD, **database)
    host("server", "start", "--auth", "--workers", "2", **database)
    try:
        url = json.loads((host.directory / ".torc/server.json").read_text())["url"]
        ada = Program(_made(tmp_path / "ada"), url)
        ada("login", "--user", "ada", "--password-stdin", stdin=PASSWORD)
        assert "1 completed" in ada("run", ada.write("one.yaml", ONE)).stdout
        assert host("whoami", "-f", "json").json["user_id"] is None
        assert urllib3.request("GET", f"{url}/api/v1/me", retries=False).status == 401
    finally:
        host("server", "stop", **database)


def test_a_password_is_asked_for_at_the_terminal_and_not_shown(town: Town, tmp_path: Path) -> None:
    ada = town.person("ada")
    words = " ".join([*PROGRAM, "login", "--user", "ada"])
    record = tmp_path / "record"
    with subprocess.Popen(
        ["script", "-qfec", words, str(record)],
        cwd=ada.directory,
        env=ada.environ(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as terminal:
        wait_until(lambda: record.exists() and "password of ada" in record.read_text(), "the password is asked for")
        terminal.communicate(PASSWORD, timeout=60)
    shown = record.read_text()
    assert terminal.returncode == 0, shown
    assert "password of ada at" in shown and "signed in to" in shown
    assert PASSWORD.strip() not in shown.partition("password of ada")[2]
    assert ada("whoami", "-f", "json").json["user"] == "ada"
    assert os.access(ada.directory / ".config/torc/credentials.json", os.R_OK)


def test_the_server_of_another_user_is_remembered_and_no_other_one_gets_the_token(town: Town) -> None:
    port = urllib3.util.parse_url(town.url).port
    with listening_stranger(forwards_to=port) as (at, _):
        url = f"http://127.0.0.1:{at}"
        ada = Program(_made(town.root / "ada"), url)
        told = ada("login", "--user", "ada", "--password-stdin", stdin=PASSWORD)
        assert f"user {STRANGER} of this machine runs the server" in told.stderr
        assert ada("whoami", "-f", "json").json["user"] == "ada"
        ada("users", "set-password", "--password-stdin", stdin=f"{PASSWORD}correct horse saddle\n")
        ada("workflows", "list")
        elsewhere = Program(_made(town.root / "eve"), url)
        refused = elsewhere("workflows", "list", TORC_TOKEN="hidden", code=5)
        assert "another user listens" in refused.stderr and "TORC_SERVER_USER" in refused.stderr
    kept = ada.directory / ".config/torc/credentials.json"
    kept.write_text(kept.read_text().replace(str(STRANGER), "12345"))
    with listening_stranger(port=at, forwards_to=port):
        assert "another user listens" in ada("workflows", "list", code=5).stderr
        assert "ran before" in ada("login", "--user", "ada", "--password-stdin", stdin=PASSWORD, code=4).stderr
