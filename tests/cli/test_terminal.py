"""What reaches a terminal, and what happens where output cannot be written."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
from hypothesis import given

from tests.cli.conftest import EMBEDDED
from tests.support.program import PROGRAM, Program
from tests.test_display_text import ANY_TEXT, obeyed
from torc.cli import rendering, terminal
from torc.display_text import display_width

ATTACK = "a\x1b[2J\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07\x9b31m\u202eb\x08\r"
_OURS = re.compile(r"\x1b\[[0-9;]*m")
_OCTAL = "".join(f"\\{byte:03o}" for byte in ATTACK.encode())
SPEC = json.dumps(
    {
        "name": "hostile",
        "description": ATTACK,
        "user_data": [{"name": "words", "data": ATTACK}],
        "jobs": [{"name": "noisy", "command": f"printf 'before{_OCTAL}after\\n' >&2; exit 4"}],
    }
)


@given(ANY_TEXT)
def test_only_codes_of_our_own_get_through(text: str) -> None:
    written = terminal.safe(f"{terminal._OWN}31m{text}{terminal._OWN}0m")
    assert written.startswith("\x1b[31m") and written.endswith("\x1b[0m")
    assert not obeyed(written[5:-4])


SHOWING = [
    ["status", "1"],
    ["jobs", "list", "1"],
    ["jobs", "get", "1"],
    ["user-data", "list", "1"],
    ["workflows", "get", "1"],
    ["results", "list", "1"],
    ["events", "list", "1"],
    ["workflows", "diagnose", "1"],
    ["logs", "analyze", "1"],
    ["jobs", "explain", "1"],
    ["jobs", "logs", "1"],
    ["plan", "1"],
    ["status", ATTACK],
    ["run", f"{ATTACK}.yaml"],
    ["workflows", "export", "1", "--spec-only", "-o", "-"],
    [f"nonsense{ATTACK}"],
    ["workflows", "get", "1", "-f", "json"],
    ["reports", "summary", "1"],
    ["completion", "--complete", "status", ""],
]


@EMBEDDED
def test_a_terminal_is_sent_no_code_but_ours(program: Program) -> None:
    program("run", program.write("hostile.json", SPEC), "-q", code=1)
    for arguments in SHOWING:
        _, found = program.on_terminal(*arguments)
        assert found and not obeyed(_OURS.sub("", found).replace("\r\n", "\n")), (arguments, found)


@EMBEDDED
def test_the_summary_and_the_live_display_hold_no_code_of_a_job(program: Program) -> None:
    program.write("hostile.json", SPEC)
    done = program("run", "hostile.json", "-q", code=1)
    assert "| after" in done.stdout and not obeyed(done.stdout + done.stderr)
    _, found = program.on_terminal("run", "hostile.json")
    assert "| after" in found and "\x1b[2J" not in found and "\x1b]" not in found and "\x9b" not in found
    assert "\u202e" not in found and "\x08" not in found


@EMBEDDED
def test_logs_are_raw_in_a_pipe_and_where_that_is_asked_for(program: Program) -> None:
    program("run", program.write("hostile.json", SPEC), "-q", code=1)
    assert "\x1b[2J" in program("jobs", "logs", "1").stdout
    assert "\x1b[2J" in program.on_terminal("jobs", "logs", "1", "--raw")[1]
    assert "\x1b[2J" not in program.on_terminal("jobs", "logs", "1")[1]


@EMBEDDED
def test_documents_and_json_hold_what_was_stored(program: Program) -> None:
    program("create", program.write("hostile.json", SPEC))
    shown = program("workflows", "get", "1", "-f", "json")
    assert not obeyed(shown.stdout) and shown.json["description"] == ATTACK
    spec = program("workflows", "export", "1", "--spec-only", "-o", "-").stdout
    again = program("create", program.write("again.yaml", spec), "-f", "json").json
    assert again["description"] == ATTACK


@EMBEDDED
def test_a_name_is_no_markup_and_wide_characters_stay_in_their_columns(program: Program) -> None:
    program(
        "create",
        program.write(
            "wide.yaml",
            "name: '[red]x[/red]'\njobs: [{name: 日本語の名前, command: 'true'}, {name: ab, command: 'true'}]\n",
        ),
    )
    lines = program("jobs", "list", "1").stdout.splitlines()
    columns = {_columns_before(line, "ready") for line in lines if "ready" in line}
    assert len(columns) == 1, lines
    assert "[red]x[/red]" in program.on_terminal("run", "1")[1]


def _columns_before(line: str, word: str) -> int:
    return sum(2 if ord(c) > 0x2E80 else 1 for c in line[: line.index(word)])


@given(ANY_TEXT)
def test_a_cut_cell_is_as_wide_as_its_column(cell: str) -> None:
    assert display_width(rendering._cut(cell, 10)) == 10


PLAIN = "name: plain\njobs: [{name: a, command: 'echo ran >> ran.txt'}]\n"


@EMBEDDED
@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("$TORC run spec.yaml -q > /dev/full", 5, "cannot write the output: No space left on device"),
        ("$TORC run spec.yaml 2> /dev/full > /dev/null", 0, ""),
        ("$TORC run spec.yaml 2>&- > /dev/null", 0, ""),
        ("$TORC run spec.yaml -q >&-", 0, ""),
        ("$TORC run spec.yaml -q <&- >&- 2>&-", 0, ""),
        ("$TORC run spec.yaml > >(true) 2>&1", 0, ""),
        ("$TORC run spec.yaml -f json > /dev/full 2>/dev/full", 5, ""),
    ],
)
def test_work_is_done_though_nobody_can_be_told(program: Program, command: str, code: int, told: str) -> None:
    program.write("spec.yaml", PLAIN)
    done = program.in_shell(command)
    assert (program.directory / "ran.txt").read_text() == "ran\n", done
    assert done.code == code and told in done.stderr and "fault of Torc" not in done.stderr, done


@EMBEDDED
def test_output_that_is_lost_is_told_and_a_closed_stream_is_the_wish_of_the_caller(program: Program) -> None:
    program("create", program.write("spec.yaml", PLAIN))
    for command in ("jobs list 1", "--help", "--version", "workflows export 1 -o -", "jobs list 1 -f json"):
        full = program.in_shell(f"$TORC {command} > /dev/full")
        assert full.code == 5 and "cannot write the output: No space left on device" in full.stderr, full
        assert full.stderr.count("No space left") == 1
        for closed in (f"$TORC {command} >&-", f"$TORC {command} | true; exit ${{PIPESTATUS[0]}}"):
            done = program.in_shell(closed)
            assert done.code == 0 and not done.stderr, done


@EMBEDDED
def test_errors_keep_their_code_where_they_cannot_be_told(program: Program) -> None:
    for command, expected in (("status nothing", 3), ("jobs get x", 2), ("run missing.yaml", 3)):
        for where in ("2>/dev/full", "2>&-", ">/dev/full 2>&1"):
            assert program.in_shell(f"$TORC {command} {where}").code == expected


@EMBEDDED
def test_a_closed_stream_is_never_the_database(program: Program) -> None:
    program.write("spec.yaml", PLAIN)
    assert program.in_shell("$TORC create spec.yaml <&- >&- 2>&-; $TORC create spec.yaml <&- >&- 2>&-").code == 0
    assert (program.directory / ".torc/torc.db").read_bytes().startswith(b"SQLite format 3\0")
    assert len(program("workflows", "list", "-f", "json").json) == 2


@EMBEDDED
def test_an_old_terminal_is_told_in_its_own_characters(program: Program) -> None:
    program.write("spec.yaml", "name: größe→日本\njobs: [{name: a, command: 'echo 日本 é … >&2; exit 3'}]\n")
    done = program("run", "spec.yaml", code=1, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert "gr\\xf6\\xdfe>\\u65e5" in done.stdout and "| \\u65e5\\u672c \\xe9 ~" in done.stdout
    assert program.in_shell("$TORC jobs list 1 > list; $TORC status 1 > status", PYTHONIOENCODING="latin-1").code == 0
    assert "größe>\\u65e5".encode("latin-1") in (program.directory / "status").read_bytes()
    shown = program("workflows", "get", "1", "-f", "json", PYTHONIOENCODING="ascii")
    assert shown.json["name"] == "größe→日本"


@EMBEDDED
def test_a_pipe_that_does_not_wait_loses_nothing(program: Program) -> None:
    program(
        "create",
        program.write(
            "many.yaml", "name: many\njobs: [{name: 'job_{i}', command: 'true', parameters: {i: '1:5000'}}]\n"
        ),
    )
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    command = [*PROGRAM, "jobs", "list", "1", "--limit", "5000"]
    with subprocess.Popen(command, cwd=program.directory, env=program.environ(), stdout=writer) as process:
        os.close(writer)
        found = b""
        while part := os.read(reader, 1 << 12):
            found += part
    os.close(reader)
    assert process.returncode == 0 and found.count(b"\n") == 5001
