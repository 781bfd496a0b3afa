"""Every example checks, plans, runs to its end by the real program, and leaves behind what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.cases import CASES, EXAMPLES, SUFFIXES, Case
from torc.api.data import ListFiles
from torc.api.workflows import CheckWorkflow, ListWorkflows
from torc.client.connect import connect

BIN = Path(sys.executable).parent
LEFT_BEHIND = {".torc", "torc_output", "example_output"}

one_of_each = pytest.mark.parametrize("case", CASES, ids=[case.path for case in CASES])


def torc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user would, who has it on the PATH."""
    env = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), "LANG": "C.UTF-8"}
    return subprocess.run(
        ["torc", *arguments], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.mark.usefixtures("processes")
@one_of_each
def test_an_example_is_valid_without_a_warning(case: Case, tmp_path: Path) -> None:
    done = torc(tmp_path, "validate", str(EXAMPLES / case.path))
    assert done.returncode == 0, done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


@pytest.mark.usefixtures("processes")
@one_of_each
def test_an_example_can_be_planned(case: Case, tmp_path: Path) -> None:
    done = torc(tmp_path, "plan", str(EXAMPLES / case.path))
    assert done.returncode == 0, done.stderr
    assert done.stdout
    graph = torc(tmp_path, "plan", str(EXAMPLES / case.path), "--graph", "json")
    assert graph.returncode == 0, graph.stderr
    assert json.loads(graph.stdout)


@pytest.mark.usefixtures("processes")
@one_of_each
def test_an_example_runs_and_leaves_behind_what_it_declares(case: Case, tmp_path: Path) -> None:
    done = torc(tmp_path, "run", str(EXAMPLES / case.path), *case.options)
    for _ in range(1, case.most_runs):
        if done.returncode == case.exit_code:
            break
        assert "interrupted" in done.stdout
        done = torc(tmp_path, "run", "1")
    assert done.returncode == case.exit_code, done.stdout + done.stderr
    store = connect(cwd=tmp_path)
    workflow = store.send(ListWorkflows()).items[0]
    assert {state.value: count for state, count in workflow.counts.by_state.items() if count} == case.counts
    assert store.send(CheckWorkflow(workflow_id=workflow.id)) == []
    declared = store.send(ListFiles(workflow_id=workflow.id, written=True, limit=10_000)).items
    store.close()
    assert [file.path for file in declared if not (tmp_path / file.path).is_file()] == []
    assert {entry.name for entry in tmp_path.iterdir()} <= LEFT_BEHIND
    case.look(tmp_path)


def test_every_example_is_in_the_table_of_cases() -> None:
    # Hidden files are settings of programs (`assistants/.mcp.json`), not specs.
    found = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.glob("*/[!.]*") if path.suffix in SUFFIXES}
    assert found == {case.path for case in CASES}


def test_the_readme_lists_every_example_once() -> None:
    listed = re.findall(r"^\| \[(.+?)\]\((.+?)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert all(name == target for name, target in listed)
    assert sorted(name for name, _ in listed) == sorted(case.path for case in CASES)


@one_of_each
def test_an_example_names_its_schema_for_editors(case: Case) -> None:
    path = EXAMPLES / case.path
    schema = "../../schemas/torc-workflow.schema.json"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        assert text.startswith(f"# yaml-language-server: $schema={schema}\n")
    elif path.suffix == ".kdl":
        assert text.startswith(f"// $schema: {schema}\n")
    else:
        assert re.search(rf"[\"']?\$schema[\"']?: [\"']{re.escape(schema)}[\"']", text)
    assert (path.parent / schema).resolve().is_file()
