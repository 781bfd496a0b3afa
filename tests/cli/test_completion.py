"""What shells offer: asked of the program, and of real shells."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import EMBEDDED
from tests.support.program import Program

pytestmark = EMBEDDED
ONE = "name: sweep\njobs: [{name: a, command: 'true'}]\n"


def _offers(program: Program, *words: str) -> list[str]:
    return [line.partition("\t")[0] for line in program("completion", "--complete", *words).stdout.splitlines()]


def test_commands_options_and_values_are_offered(program: Program) -> None:
    assert _offers(program, "w") == ["watch", "worker", "workflows", "whoami"]
    assert _offers(program, "workflows", "li") == ["list"]
    assert _offers(program, "run", "--fail") == ["--fail-fast"]
    assert _offers(program, "--f") == ["--format"]
    assert _offers(program, "--log-level", "") == ["error", "warning", "info", "debug"]
    assert _offers(program, "-f", "json", "jobs", "lo") == ["logs"]
    assert _offers(program, "results", "list", "--state", "comp") == ["completed"]
    assert _offers(program, "config", "get", "run.m") == ["run.max_parallel_jobs", "run.memory"]
    assert _offers(program, "completion", "") == ["bash", "zsh", "fish"]


def test_workflows_are_offered_by_id_and_name_and_specs_as_files(program: Program) -> None:
    assert _offers(program, "run", "") == [":files"], "nothing is stored yet, and nothing is made"
    assert not (program.directory / ".torc").exists()
    program("create", program.write("sweep.yaml", ONE))
    assert _offers(program, "run", "") == [":files", "1", "sweep"]
    assert _offers(program, "status", "s") == ["sweep"]


@pytest.mark.parametrize(
    "words",
    [["nothing", ""], ["jobs", "nothing", ""], ["jobs", "get", "1", ""], [], ["--db"], ["run", "--num-cpus", ""]],
)
def test_where_nothing_fits_nothing_is_said(program: Program, words: list[str]) -> None:
    done = program("completion", "--complete", *words)
    assert done.stderr == ""


def test_a_broken_configuration_does_not_disturb_the_shell(program: Program) -> None:
    program.write(".torc/config.toml", "nonsense = 1\n")
    assert _offers(program, "run", "") == [":files"]


@pytest.fixture
def shells(program: Program) -> dict[str, str]:
    """Return the environment of a shell that finds the program as `torc`."""
    program("create", program.write("sweep.yaml", ONE))
    binary = Path(program.write("bin/torc", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m torc.cli.main "$@"\n'))
    (program.directory / binary).chmod(0o755)
    return program.environ(PATH=f"{program.directory}/bin:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["torc", "wor"], ["worker", "workflows"]),
        (["torc", "status", "s"], ["sweep"]),
        (["torc", "--format", "=", "j"], ["json"]),
        (["torc", "run", "sweep.y"], ["sweep.yaml"]),
    ],
)
def test_bash_completes(program: Program, shells: dict[str, str], line: list[str], expected: list[str]) -> None:
    script = program("completion", "bash").stdout
    words = " ".join(map(shlex.quote, line))
    script += f'COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; _torc 2>&1; printf "%s\\n" "${{COMPREPLY[@]}}"\n'
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=program.directory, env=shells, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected


def test_fish_completes(program: Program, shells: dict[str, str]) -> None:
    script = program("completion", "fish").stdout + '\ncomplete -C "torc wor"; complete -C "torc run sweep.y"\n'
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=program.directory,
        env=shells,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["worker", "workflows", "sweep.yaml"]


@pytest.mark.parametrize(
    ("shell", "path"),
    [
        ("bash", ".local/share/bash-completion/completions/torc"),
        ("zsh", ".zfunc/_torc"),
        ("fish", ".config/fish/completions/torc.fish"),
    ],
)
def test_install_writes_the_script_to_where_the_shell_looks(program: Program, shell: str, path: str) -> None:
    done = program("completion", shell, "--install")
    assert (program.directory / path).read_text() == program("completion", shell).stdout
    assert str(program.directory / path) in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_sound(program: Program, shell: str) -> None:
    checked = subprocess.run(
        [shell, "-n"], input=program("completion", shell).stdout, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
