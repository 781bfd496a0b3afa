"""The configuration: what wins over what, how it is shown and changed, and what a typing error leads to."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import EMBEDDED
from tests.support.program import Program

pytestmark = EMBEDDED
ONE = "name: one\njobs: [{name: a, command: 'true'}]\n"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _user_file(program: Program) -> Path:
    return program.directory / ".config/torc/config.toml"


def _here_file(program: Program) -> Path:
    return program.directory / ".torc/config.toml"


def test_later_places_win_and_show_tells_which_one_did(program: Program) -> None:
    user = _write(_user_file(program), "[run]\nnum_cpus = 1\nmemory = '1g'\noutput_dir = 'mine'\n")
    here = _write(_here_file(program), "[run]\nmemory = '2g'\noutput_dir = 'logs'\n")
    shown = {
        row["key"]: (row["value"], row["from"])
        for row in program("config", "show", "-f", "json", TORC_RUN_OUTPUT_DIR="v").json
    }
    assert shown["run.num_cpus"] == (1, str(user))
    assert shown["run.memory"] == ("2g", str(here))
    assert shown["run.output_dir"] == ("v", "TORC_RUN_OUTPUT_DIR")
    assert shown["format"] == ("json", "option")
    assert shown["log_level"] == ("warning", "default")


def test_commands_obey_what_is_set_and_options_win(program: Program) -> None:
    spec = program.write("one.yaml", ONE)
    _write(_user_file(program), "format = 'json'\n[run]\noutput_dir = 'logs'\n")
    assert program("run", spec).json["workflow"]["state"] == "completed"
    assert list((program.directory / "logs/job_stdio").glob("*.o"))
    assert "completed" in program("run", spec, "--format", "table", "-o", "elsewhere").stdout
    assert (program.directory / "elsewhere").is_dir()
    assert program("jobs", "logs", 1).stdout == "", "logs are found where the setting puts them"


def test_a_database_in_a_file_is_beside_that_file_and_a_variable_wins(program: Program) -> None:
    _write(_here_file(program), "db = 'own.db'\n")
    program("create", program.write("one.yaml", ONE))
    assert (program.directory / ".torc/own.db").exists()
    program("create", "one.yaml", TORC_DB=str(program.directory / "other.db"))
    assert (program.directory / "other.db").exists()
    assert len(program("workflows", "list", "-f", "json").json) == 1


def test_set_get_and_unset_keep_comments_and_check_values(program: Program) -> None:
    file = _write(_here_file(program), "# ours\n[run]\nmemory = '1g'  # little\n")
    program("config", "set", "run.num_cpus", 4, "--here")
    program("config", "set", "format", "json", "--here")
    assert file.read_text() == "# ours\nformat = \"json\"\n[run]\nmemory = '1g'  # little\nnum_cpus = 4\n"
    assert program("config", "get", "run.num_cpus", "--format", "table").stdout == "4\n"
    program("config", "unset", "run.num_cpus", "--here")
    program("config", "unset", "format", "--here")
    assert "num_cpus" not in file.read_text() and "# little" in file.read_text()
    program("config", "set", "run.quiet", "yes")
    assert "quiet = true" in _user_file(program).read_text()
    assert "not an amount of memory" in program("config", "set", "run.memory", "lots", code=2).stderr
    assert "did you mean `run.memory`" in program("config", "set", "run.memry", "1g", code=3).stderr
    assert "does not set" in program("config", "unset", "run.num_gpus", code=3).stderr
    assert "not read from" in program("config", "set", "trusted", "/a", "--here", code=2).stderr


def test_setting_what_another_place_overrides_is_said(program: Program) -> None:
    done = program("config", "set", "run.num_cpus", 4, TORC_RUN_NUM_CPUS="2")
    assert "but TORC_RUN_NUM_CPUS sets it to 2, and wins" in done.stderr


def test_a_section_written_in_another_way_is_left_alone(program: Program) -> None:
    file = _write(_here_file(program), "run = {num_cpus = 2}\n")
    done = program("config", "set", "run.num_cpus", 4, "--here", code=4)
    assert "write it by hand" in done.stderr
    assert file.read_text() == "run = {num_cpus = 2}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = true\n", "config.toml:1: there is no setting `colour`; did you mean `color`?"),
        ("[run]\n\nnum_cpus = 'x'\n", "config.toml:3: `run.num_cpus`: it must be a whole number of at least 1"),
        ("log_level = 'loud'\n", "it must be one of error, warning, info, debug"),
        ("trusted = ['/a']\n", "`trusted` is not read from here"),
        ("[run\n", "is not TOML"),
        ("run = 3\n", "there is no setting `run`"),
    ],
)
def test_every_command_says_what_is_wrong_with_the_configuration_and_where(
    program: Program, text: str, said: str
) -> None:
    _write(_here_file(program), text)
    for arguments in (("config", "validate"), ("workflows", "list")):
        assert said in program(*arguments, code=2).stderr
    program("--help")
    program("run", "--help")


def test_a_wrong_variable_is_named(program: Program) -> None:
    assert "TORC_RUN_NUM_CPUS=none" in program("workflows", "list", code=2, TORC_RUN_NUM_CPUS="none").stderr


def test_validate_names_the_files(program: Program) -> None:
    user = _write(_user_file(program), "color = false\n")
    assert program("config", "validate", "-f", "json").json == {"valid": True, "files": [str(user)]}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_a_folder_of_somebody_else_is_used_only_when_it_is_trusted(program: Program) -> None:
    _write(_here_file(program), "format = 'json'\n")
    for path in (_here_file(program), _here_file(program).parent):
        os.chown(path, 12345, 12345)
    refused = program("create", program.write("one.yaml", ONE), code=4)
    assert "belongs to another user" in refused.stderr and "trusted" in refused.stderr
    program("config", "set", "trusted", program.directory / ".torc", code=2)
    _write(_user_file(program), f"trusted = ['{program.directory}/.torc']\n")
    assert "belongs to another user" in program("create", "one.yaml", code=4).stderr, (
        "its configuration is still not obeyed"
    )
    _here_file(program).unlink()
    program("create", "one.yaml")


def test_a_folder_that_torc_makes_is_for_its_owner_alone(program: Program) -> None:
    program("config", "set", "run.num_cpus", 1, "--here")
    assert stat.S_IMODE((program.directory / ".torc").stat().st_mode) == 0o700


# -- messages ---------------------------------------------------------------------------------------------------


def test_the_log_level_decides_what_is_told(program: Program) -> None:
    spec = program.write("one.yaml", ONE)
    assert "1 started: pid" not in program("run", spec).stderr
    informed = program("run", spec, "--log-level", "info").stderr
    assert "INFO: runner 2 uses" in informed and "1 started: pid" not in informed
    debugged = program("run", spec, TORC_LOG_LEVEL="debug").stderr
    assert "DEBUG: job 3, attempt 1 started: pid" in debugged
    assert "DEBUG: job 3, attempt 1 ended: return code 0" in debugged
    assert "choose one of" in program("run", spec, "--log-level", "loud", code=2).stderr


def test_a_runner_keeps_a_log_beside_those_of_its_jobs(program: Program) -> None:
    spec = program.write("bad.yaml", "name: bad\njobs: [{name: a, command: exit 3}]\n")
    program("run", spec, code=1)
    (log,) = (program.directory / "torc_output").glob("job_runner_*_wf1_r1.log")
    text = log.read_text()
    assert "INFO runner 1 uses" in text
    assert "INFO job 1, attempt 1 ended: return code 3" in text
    assert "INFO runner 1 is leaving: 0 jobs completed, 1 failed" in text


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://kim:hunter2@db/x", "postgresql+psycopg://kim@db/x?password=hunter2"]
)
def test_what_is_listed_holds_no_password_of_a_database_and_its_file_is_private(program: Program, url: str) -> None:
    for shown in (program("config", "show", TORC_DB=url), program("config", "show", "-f", "json", TORC_DB=url)):
        assert "hunter2" not in shown.stdout + shown.stderr and "@db/x" in shown.stdout
    program("config", "set", "db", url)
    assert stat.S_IMODE(_user_file(program).stat().st_mode) == 0o600
    told = program("config", "set", "db", "x.db", TORC_DB=url)
    assert "and wins" in told.stderr and "hunter2" not in told.stderr
    assert program("config", "get", "db", TORC_DB=url).stdout == f"{url}\n"
    failed = program("status", "1", TORC_DB=url.replace("@db/", "@127.0.0.1:1/"), code=5)
    assert "hunter2" not in failed.stdout + failed.stderr


@pytest.mark.parametrize(
    "password", ["hun/ter2", "hun#ter2", "hun?ter2", "hun ter2", "hun@ter2", "hunter2:", "hun[ter2"]
)
@pytest.mark.parametrize("slashes", ["://", ":/"])
def test_a_password_that_a_url_cannot_hold_is_not_listed_either(program: Program, password: str, slashes: str) -> None:
    url = f"postgresql+psycopg{slashes}kim:{password}@db/x"
    for form in ("table", "json"):
        shown = program("config", "show", "-f", form, TORC_DB=url).stdout
        assert "hun" not in shown and "ter2" not in shown and "[redacted: credentials]@db/x" in shown


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.mkdir(), "cannot read"),
        (lambda path: path.write_text("a = " + "[" * 10_000), "is not TOML"),
        (lambda path: path.write_text("a." * 50_000 + "b = 1"), "no configuration"),
        (lambda path: (path.write_text(""), path.chmod(0o666)), "every user can change"),
    ],
)
def test_what_cannot_be_a_configuration_is_refused_at_once(
    program: Program, make: Callable[[Path], object], told: str
) -> None:
    path = _user_file(program)
    path.parent.mkdir(parents=True)
    make(path)
    refused = program("config", "show", code=None)
    assert refused.code in {2, 4} and told in refused.stderr
