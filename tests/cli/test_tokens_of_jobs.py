"""What jobs, actions and recovery scripts are given to reach the store: no secret in any environment, and no more rights than they need."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine
from sqlalchemy.exc import OperationalError

from tests.cli.conftest import SECRET
from tests.support.program import Program
from tests.support.running import end_processes, wait_until
from tests.support.stores import empty_postgres
from torc.api.data import ListUserData, SetUserData
from torc.api.jobs import UpdateJob
from torc.api.users import GetMe
from torc.client.remote import Remote
from torc.errors import Unauthorized
from torc.runner.job_credentials import without_password
from torc.store.engine import Store

SERVER = pytest.mark.parametrize("program", ["server"], indirect=True)
JOB = r"""
{ env; tr '\\0' '\\n' < /proc/self/environ; tr '\\0' '\\n' < /proc/$PPID/environ; } > job.txt
[ -e failed ] || { touch failed; exit 3; }
torc user-data update ${user_data.output.found} --data '{"best": 1}' || exit 9
torc user-data list 1 -f json > seen.json || exit 8
torc jobs update 1 --command 'id > pwned.txt' 2> command.txt; echo $? > codes.txt
torc workflows get 2 2> other.txt; echo $? >> codes.txt
torc tokens create more 2> more.txt; echo $? >> codes.txt
torc create other.yaml 2> create.txt; echo $? >> codes.txt
stat -c '%a %u' "$TORC_TOKEN_FILE" "$(dirname "$TORC_TOKEN_FILE")" > modes.txt
cat "$TORC_TOKEN_FILE" > token.txt
"""
SPEC = {
    "name": "theirs",
    "user_data": [{"name": "found"}],
    "actions": [{"trigger_type": "on_workflow_start", "action_type": "run_commands", "commands": ["env > action.txt"]}],
    "failure_handlers": [{"name": "again", "rules": [{"exit_codes": [3], "recovery_script": "env > recovery.txt"}]}],
    "jobs": [{"name": "a", "command": JOB, "output_user_data": ["found"], "failure_handler": "again"}],
}
OTHER = "name: other\njobs: [{name: b, command: 'true'}]\n"


@SERVER
@pytest.mark.parametrize("shown", ["TORC_TOKEN", "TORC_TOKEN_FILE"])
def test_a_job_writes_its_user_data_and_changes_nothing_else_by_a_token_that_ends_with_its_runner(
    program: Program, shown: str
) -> None:
    program.write("other.yaml", OTHER)
    program("create", program.write("spec.json", json.dumps(SPEC)))
    program("create", "other.yaml")
    secrets = {"TORC_WORKER_TOKEN": "for workers", **({"TORC_TOKEN": SECRET} if shown == "TORC_TOKEN" else {})}
    done = program("run", 1, code=None, **secrets)
    assert done.code == 0, done.stdout + (program.directory / "command.txt").read_text()
    for name in ("job.txt", "action.txt", "recovery.txt"):
        environ = (program.directory / name).read_text()
        assert "TORC_API_URL=" in environ and "TORC_TOKEN_FILE=" in environ
        assert SECRET not in environ and "TORC_TOKEN=" not in environ and "for workers" not in environ
        assert str(program.token_file) not in environ, "what opens the server is not named either"
    assert json.loads((program.directory / "seen.json").read_text())[0]["data"] == {"best": 1}
    assert (program.directory / "codes.txt").read_text().split() == ["4", "3", "4", "4"]
    assert "has `job`" in (program.directory / "command.txt").read_text()
    assert "no workflow 2" in (program.directory / "other.txt").read_text()
    own = str(os.geteuid())
    assert (program.directory / "modes.txt").read_text().split() == ["600", own, "700", own]
    assert not list(program.directory.rglob(".torc-jobs*"))
    token = (program.directory / "token.txt").read_text().strip()
    stored = json.dumps(
        [program("events", "list", 1, "-f", "json").json, program("compute-nodes", "list", 1, "-f", "json").json]
    )
    assert token.rpartition("_")[2] not in stored and "job_token" not in stored
    assert program.url is not None
    remote = Remote(program.url, token=token)
    for request in (
        GetMe(),
        ListUserData(workflow_id=1),
        SetUserData(user_data_id=1, data=2),
        UpdateJob(job_id=1, command="x"),
    ):
        with pytest.raises(Unauthorized, match="a runner that has ended"):
            remote.send(request)
    with pytest.raises(Unauthorized, match="not a token of this server"):
        Remote(program.url, token=token[:-3] + "xyz").send(GetMe())


@SERVER
def test_what_a_killed_runner_has_left_is_removed_by_the_next(program: Program) -> None:
    spec = "name: long\njobs: [{name: a, command: 'touch up; until [ -e go ]; do sleep 0.05; done'}]\n"
    program("create", program.write("long.yaml", spec))
    process = program.start("run", "1", "-q")
    wait_until((program.directory / "up").exists, "the job runs")
    (left,) = (program.directory / "torc_output").glob(".torc-jobs*")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert left.exists()
    (program.directory / "go").touch()
    program("run", 1)
    assert not list((program.directory / "torc_output").glob(".torc-jobs*"))
    end_processes()


def test_the_password_of_a_database_is_in_a_file_for_jobs(
    program: Program, postgres_store: Store, tmp_path: Path
) -> None:
    if program.url:
        pytest.skip("a server knows the database")
    empty_postgres(postgres_store)
    with postgres_store.engine.begin() as db:
        db.exec_driver_sql("DROP ROLE IF EXISTS careful")
        db.exec_driver_sql("CREATE ROLE careful SUPERUSER LOGIN PASSWORD 'se:cret\\pw'")
        hba = Path(str(db.exec_driver_sql("SHOW hba_file").scalar()))
        asks = "local all careful scram-sha-256\nhost all careful all scram-sha-256\n"
        hba.write_text(asks + hba.read_text().replace(asks, ""))
        db.exec_driver_sql("SELECT pg_reload_conf()")
    url = postgres_store.engine.url.set(username="careful", password="se:cret\\pw")
    wait_until(lambda: not _lets_in(url.set(password="wrong")), "the server asks for passwords")
    spec = {**SPEC, "jobs": [{**SPEC["jobs"][0], "command": JOB.split("torc jobs", maxsplit=1)[0]}]}  # type: ignore[index]
    place = {"TORC_DB": url.render_as_string(hide_password=False)}
    program("run", program.write("spec.json", json.dumps(spec)), **place)
    for name in ("job.txt", "action.txt", "recovery.txt"):
        environ = (program.directory / name).read_text()
        assert "TORC_DB=postgresql" in environ and "passfile=" in environ
        assert "cret" not in environ
    assert program("user-data", "list", 1, "-f", "json", **place).json[0]["data"] == {"best": 1}
    assert not list(program.directory.rglob(".torc-jobs*"))


def _lets_in(url: URL) -> bool:
    engine = create_engine(url)
    try:
        engine.connect().close()
    except OperationalError:
        return False
    finally:
        engine.dispose()
    return True


@pytest.mark.parametrize(
    ("url", "without", "password"),
    [
        ("postgresql+psycopg://ada:a%40b@db:5432/torc", "postgresql+psycopg://ada@db:5432/torc", "a@b"),
        ("postgresql://ada@db/torc?password=x%26y&sslmode=require", "postgresql://ada@db/torc?sslmode=require", "x&y"),
        ("postgresql://ada:p@/torc?host=/run/pg", "postgresql://ada@/torc?host=/run/pg", "p"),
        ("postgresql://ada@[::1]/torc?sslpassword=k", "postgresql://ada@[::1]/torc", None),
        ("postgresql://db/torc", "postgresql://db/torc", None),
        ("/some/where.db", "/some/where.db", None),
    ],
)
def test_the_password_is_found_wherever_a_url_has_it(url: str, without: str, password: str | None) -> None:
    assert without_password(url) == (without, password)


def test_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    from torc.runner.job_credentials import JobCredentials

    credentials = JobCredentials(tmp_path, {"TORC_API_URL": "http://x", "TORC_TOKEN_FILE": "/the/users/own"})
    variables = credentials.open(1, 7)
    file = Path(variables["TORC_TOKEN_FILE"])
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    assert file.read_text().startswith("torcjob_7_") and credentials.token_hash is not None
    credentials.close()
    assert not list(tmp_path.iterdir())
