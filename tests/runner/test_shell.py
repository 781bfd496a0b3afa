"""Which shell runs commands: bash where there is one, and the faster of two where the command means the same to both."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.running import run, run_jobs, store
from torc.client.embedded import Embedded
from torc.runner import shell
from torc.spec.expansion.names import quoted

pytestmark = pytest.mark.usefixtures("processes")

COMMANDS = {
    "both_streams": ("{ sleep 0.1; echo out; echo err >&2; } &> both.log; wc -l < both.log", "2"),
    "brace": ("for i in {1..3}; do echo -n $i; done", "123"),
    "equals": ("if [ a == a ]; then echo equal; else echo differ; fi", "equal"),
    "double": ("if [[ -n x && x =~ ^. ]]; then echo yes; else echo no; fi", "yes"),
    "source": ("echo X=5 > env.sh; source ./env.sh; echo X=$X", "X=5"),
    "backslash": ("echo 'C:\\new\\table'", "C:\\new\\table"),
    "arithmetic": ("i=0; ((i++)); echo i=$i", "i=1"),
    "array": ('a=(x "y z"); echo ${#a[@]}', "2"),
    "process": ("cat <(echo here)", "here"),
    "pipefail": ("set -euo pipefail; echo ok", "ok"),
    "echo_e": ("echo -e a", "a"),
    "script": ("./script", "script 2"),
}


def test_commands_mean_what_they_mean_to_bash(local: Embedded, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('a=(1 2); echo "script ${a[1]}"\n')  # no `#!`: the shell that is asked runs it itself
    script.chmod(0o755)
    found = run_jobs(local, tmp_path, *({"name": name, "command": command} for name, (command, _) in COMMANDS.items()))
    said = {
        name: (tmp_path / "out" / "job_stdio" / f"job_wf1_j{result.job_id}_r1_a1.o").read_text().strip()
        for name, result in found.items()
    }
    assert {name: result.state for name, result in found.items()} == dict.fromkeys(COMMANDS, "completed")
    assert said == {name: expected for name, (_, expected) in COMMANDS.items()}


def test_actions_recovery_and_long_commands_run_under_bash_too(local: Embedded, tmp_path: Path) -> None:
    shown = 'echo "${BASH_VERSION:+bash}"'
    jobs = [
        {"name": "retried", "command": f"{shown} >> job; [ $TORC_ATTEMPT_ID == 2 ]", "failure_handler": "again"},
        {"name": "long", "command": f"{shown} > long; : {'x' * 150_000}"},
        {"name": "wrapped", "command": "x", "invocation_script": f"{shown} > wrapped; :"},
    ]
    number = store(
        local,
        tmp_path,
        jobs,
        failure_handlers=[
            {"name": "again", "rules": [{"match_all_exit_codes": True, "recovery_script": f"{shown} > recovery"}]}
        ],
        actions=[
            {"trigger_type": "on_workflow_start", "action_type": "run_commands", "commands": [f"{shown} > action"]}
        ],
    )
    assert run(local, number, tmp_path).workflow.state == "completed"
    for name in ("job", "long", "wrapped", "recovery", "action"):
        assert set((tmp_path / name).read_text().split()) == {"bash"}, name


def test_functions_and_startup_files_of_bash_are_heeded(local: Embedded, tmp_path: Path) -> None:
    (tmp_path / "startup").write_text("module() { echo module $1; }\nls() { echo my ls; }\n")
    env = {"BASH_ENV": str(tmp_path / "startup")}
    found = run_jobs(
        local, tmp_path, {"name": "a", "command": "module load", "env": env}, {"name": "b", "command": "ls", "env": env}
    )
    said = [(tmp_path / "out" / "job_stdio" / f"job_wf1_j{found[name].job_id}_r1_a1.o").read_text() for name in "ab"]
    assert said == ["module load\n", "my ls\n"]


@pytest.fixture
def no_bash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(shell, "_BASH", str(tmp_path / "none"))
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "touch").symlink_to(shutil.which("touch") or "")
    monkeypatch.setenv("PATH", str(folder))
    shell.program.cache_clear()
    yield
    shell.program.cache_clear()


@pytest.mark.usefixtures("no_bash")
def test_without_bash_commands_run_under_sh_and_the_log_says_so_once(local: Embedded, tmp_path: Path) -> None:
    number = store(
        local, tmp_path, [{"name": n, "command": f'x="${{BASH_VERSION:-none}}"; touch {n}_$x'} for n in "ab"]
    )
    assert run(local, number, tmp_path).workflow.state == "completed"
    expected = "none" if os.path.basename(os.path.realpath("/bin/sh")) != "bash" else "*"
    assert list(tmp_path.glob(f"a_{expected}")) and list(tmp_path.glob(f"b_{expected}"))
    (log,) = (tmp_path / "out").glob("job_runner_*.log")
    assert log.read_text().count("this machine has no bash; commands run under /bin/sh") == 1


PLAIN = ["true", "false", ":", "ls -l", "env A=1 ls", "/bin/ls /", "cat a.txt b.txt"]
SHELLY = [
    "echo hi",
    "test -e x",
    "[ -e x ]",
    "kill -l",
    "source x",
    "time ls",
    "./script",
    "sub/program",
    "A=1",
    "A=1 ls",
    "ls *",
    "ls ~",
    "ls $HOME",
    "ls;ls",
    "ls &",
    "ls 'a'",
    "no-such-program x",
    "if",
    "exec ls",
    "ls\nls",
    "ls  -l",
    "ls {a,b}",
    "!",
    "ls !x",
    "",
]


def test_only_plain_programs_are_left_to_dash() -> None:
    path = os.environ["PATH"]
    fast = shell.SH if os.path.basename(os.path.realpath("/bin/sh")) == "dash" else shell.program()
    assert {command: shell.for_command(command, path) for command in PLAIN} == dict.fromkeys(PLAIN, fast)
    assert {command: shell.for_command(command, path) for command in SHELLY} == dict.fromkeys(SHELLY, shell.program())


def test_a_program_that_no_kernel_starts_is_left_to_bash(tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text("a=(1); echo $a\n")
    script.chmod(0o755)
    assert shell.for_command("tool", str(tmp_path)) == shell.program()
    assert shell.for_command(str(script), str(tmp_path)) == shell.program()


WORDS = st.text("abcxyzAZ09_./@%+,:=-", min_size=1, max_size=12)


@settings(max_examples=examples(25), deadline=None)
@given(first=st.sampled_from(["true", "printenv", "env", "basename", "expr"]), rest=st.lists(WORDS, max_size=3))
def test_what_is_left_to_dash_means_the_same_to_bash(first: str, rest: list[str]) -> None:
    command = " ".join([first, *rest])
    if shell.for_command(command, os.environ["PATH"]) == shell.program():
        return
    environ = {"PATH": os.environ["PATH"], "PWD": "/", "SHLVL": "1", "_": "x", "OLDPWD": "/"}
    dash, bash = (
        subprocess.run([program, "-c", command], capture_output=True, check=False, env=environ, cwd="/", timeout=60)
        for program in (shell.SH, shell.program())
    )
    own = (b"_=", b"SHLVL=", b"PWD=", b"OLDPWD=")  # which shells set for themselves
    lines = [sorted(line for line in done.stdout.splitlines() if not line.startswith(own)) for done in (dash, bash)]
    assert (dash.returncode, lines[0], dash.stderr) == (bash.returncode, lines[1], bash.stderr)


PATHS = st.text("ab '\"\\$`!*\n#(", min_size=1, max_size=8)
PLACES = [
    "printf %s {}",
    'printf %s "{}"',
    "printf %s '{}'",
    "printf %s $'{}'",
    'printf %s "$(printf %s {})"',
    "printf %s \"$(printf %s '{}')\"",
    "printf '%s' $'it\\'s' > /dev/null; printf %s {}",
]


@settings(max_examples=examples(60), deadline=None)
@given(path=PATHS, place=st.sampled_from(PLACES))
def test_a_path_arrives_as_it_is_wherever_bash_has_quotes_open(path: str, place: str) -> None:
    if "$(" in place:
        path = path.rstrip("\n") or "x"
    before, after = place.split("{}")
    reference = "${files.input.f}"
    command = before + quoted(path, before + reference + after, len(before)) + after
    done = subprocess.run([shell.program(), "-c", command], capture_output=True, check=True, timeout=60)
    assert done.stdout.decode() == path
