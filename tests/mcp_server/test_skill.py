"""The skill and llms.txt say what is true: commands, options, tools, specs and pages that they name are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from mcp_server.client_config import skill_files
from mcp_server.server import TOOLS
from tests.support.program import Program
from torc.cli.app import parameters
from torc.cli.main import command_group
from torc.spec.compiler import compile_spec

ROOT = Path(__file__).resolve().parents[2]
FILES = skill_files()
COMMANDS = sorted({found for text in FILES.values() for found in re.findall(r"`(torc [a-z][^`]*)`", text)})
GLOBAL = {"-f", "--format", "--db", "--url"}


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that words name, and what follows."""
    command, rest = command_group(), words
    while hasattr(command, "list_commands") and rest and not rest[0].startswith("-"):
        command, rest = command.get_command(None, rest[0]), rest[1:]
        assert command is not None, words
    return command, rest


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_skill_is_there_with_its_options(line: str) -> None:
    words = shlex.split(line)[1:]
    if words[0].isupper():  # torc COMMAND --help
        return
    command, rest = command_of(words)
    known = {name for option in parameters(command, "option") for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in rest if word.startswith("-")} <= known | GLOBAL | {"--help"}


def test_tools_of_the_skill_are_there() -> None:
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", FILES["references/tools.md"])) - {"plan_token"}
    assert named and named <= set(TOOLS)


@pytest.mark.parametrize("name", FILES)
def test_links_of_the_skill_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", FILES[name]):
        assert str((Path(name).parent / target).as_posix()) in FILES


def test_specs_of_the_skill_run(program: Program) -> None:
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", FILES["references/spec.md"], re.S)):
        _, problems = compile_spec(text, format="yaml")
        assert problems == []
        program("run", program.write(f"s{number}.yaml", text), "--quiet")


def test_a_skill_is_short_enough_to_be_read_whole() -> None:
    assert len(FILES["SKILL.md"].split("---")[1]) <= 1024  # what clients take of its head
    assert max(map(len, FILES.values())) / 4 <= 1500  # tokens, at four bytes each


def test_llms_txt_links_pages_that_are_there() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs/llms.txt").read_text())
    assert len(targets) > 10
    assert [target for target in targets if not (ROOT / "docs" / target).is_file()] == []


def test_examples_of_configurations_are_what_install_writes(program: Program) -> None:
    for client, name in (("claude-code", ".mcp.json"), ("vscode", ".vscode/mcp.json")):
        path = str(Path(program.environ()["PATH"]))
        program.write("bin/torc", "#!/bin/sh\n")
        (program.directory / "bin/torc").chmod(0o755)
        program(
            "mcp",
            "install",
            "--client",
            client,
            "--scope",
            "project",
            "--no-skill",
            PATH=f"{program.directory}/bin:{path}",
        )
        assert (program.directory / name).read_text() == (ROOT / "examples/assistants" / name).read_text()
