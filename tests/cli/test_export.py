"""`torc workflows export` and `import`, as people type them."""

from __future__ import annotations

import gzip
import json
import stat

import pytest

from tests.support.program import Program

HALF = """
name: half done
jobs:
  - {name: a, command: 'echo a >> ran'}
  - {name: b, command: 'echo b >> ran; test -e fixed', depends_on: [a]}
  - {name: c, command: 'echo c >> ran', depends_on: [b]}
"""


def half_done(program: Program) -> int:
    program("run", program.write("half.yaml", HALF), code=1)
    return int(program("workflows", "list", "-f", "json").json[0]["id"])


def test_a_half_done_workflow_goes_on_elsewhere(program: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    wf = half_done(program)
    done = program("workflows", "export", wf)
    file = program.directory / f"half_done-{wf}.torc.gz"
    assert str(file.name) in done.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    there = tmp_path_factory.mktemp("there")
    elsewhere = Program(there)
    checked = elsewhere("workflows", "import", file, "--directory", ".", "--dry-run")
    assert "the file is whole: workflow half done with 3 jobs, failed" in checked.stdout
    assert elsewhere("workflows", "list", "-f", "json").json == []
    made = elsewhere("workflows", "import", file, "--directory", ".")
    assert "imported workflow 1 (half done): 3 jobs, failed" in made.stdout
    (there / "fixed").touch()
    elsewhere("workflows", "reset-status", "1", "--failed-only")
    assert "3 completed" in elsewhere("run", "1").stdout
    assert (there / "ran").read_text().split() == ["b", "c"], "what had completed did not run again"
    assert elsewhere("workflows", "check", "1").code == 0
    assert "workflow_imported" in elsewhere("events", "list", "1").stdout


def test_a_file_goes_through_a_pipe_and_is_never_overwritten_unasked(program: Program) -> None:
    wf = half_done(program)
    program("workflows", "export", wf, "-o", "x.torc.gz")
    before = (program.directory / "x.torc.gz").read_bytes()
    assert "already exists" in program("workflows", "export", wf, "-o", "x.torc.gz", code=4).stderr
    assert (program.directory / "x.torc.gz").read_bytes() == before
    told = program("workflows", "export", wf, "-o", "x.torc.gz", "--force", "-f", "json").json
    assert told["size_bytes"] == (program.directory / "x.torc.gz").stat().st_size and told["rows"] > 3
    header = json.loads(gzip.decompress(before).splitlines()[0])
    assert (header["format"], header["version"], header["workflow"]["name"]) == ("torc-workflow", 4, "half done")
    assert "no folder" not in program("workflows", "export", wf, "-o", "no/folder/x.gz", code=2).stdout
    made = program("workflows", "import", "x.torc.gz", "--name", "again", "-f", "json").json
    assert (made["name"], made["directory"]) == ("again", str(program.directory))


def test_a_file_that_is_not_an_exported_workflow_is_refused(program: Program) -> None:
    program.write("x.gz", "plain text")
    told = program("workflows", "import", "x.gz", code=2).stderr
    assert "not an exported workflow" in told and "torc create" in told
    assert "there is no file nowhere.gz" in program("workflows", "import", "nowhere.gz", code=3).stderr
    wf = half_done(program)
    program("workflows", "export", wf, "-o", "x.torc.gz")
    content = (program.directory / "x.torc.gz").read_bytes()
    (program.directory / "x.torc.gz").write_bytes(content[: len(content) // 2])
    assert "cut off" in program("workflows", "import", "x.torc.gz", code=2).stderr
    assert len(program("workflows", "list", "-f", "json").json) == 1


def test_a_spec_alone_makes_such_a_workflow_anew(program: Program) -> None:
    wf = half_done(program)
    program("workflows", "export", wf, "--spec-only", "-o", "again.kdl")
    assert "valid" in program("validate", "again.kdl").stdout
    (program.directory / "fixed").touch()
    assert "3 completed" in program("run", "again.kdl").stdout
    shown = program("workflows", "export", wf, "--spec-only", "-o", "-").stdout
    assert "name: half done" in shown and "depends_on" in shown
    assert "not a format of specs" in program("workflows", "export", wf, "--spec-only", "-o", "x.txt", code=2).stderr
