"""Under an odd locale, without a working directory, with few files to open: it works, or says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.program import Program

_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Return the program in a directory with a spec that is not ASCII."""
    made = Program(tmp_path)
    made.write("spec.yaml", "name: größe\njobs: [{name: ä☃, command: 'echo ☃ é > f'}]\n")
    return made


def test_commands_and_names_are_utf8_under_any_locale_and_the_terminal_keeps_its_encoding(program: Program) -> None:
    done = program("run", "spec.yaml", **_ASCII)
    assert "workflow 1 (gr\\xf6\\xdfe) completed" in done.stdout
    assert (program.directory / "f").read_text("utf-8") == "☃ é\n"
    assert program("status", "größe", **_ASCII).stdout.startswith("workflow 1")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("mkdir -p x/y; cd x/y; rm -r ../../x; $TORC status 1", "the working directory has been removed"),
        ("mkdir -p x/y; cd x/y; rm -r ../../x; $TORC run ../../spec.yaml", "the working directory has been removed"),
        ("ulimit -n 16; $TORC run spec.yaml", "ulimit -n"),
    ],
)
def test_what_the_system_refuses_is_said_and_is_no_fault_of_torc(program: Program, script: str, told: str) -> None:
    done = program.in_shell(script)
    assert done.code in {2, 5}, done
    assert told in done.stderr and "broke" not in done.stderr
