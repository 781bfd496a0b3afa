"""`torc worker`: a further runner, and what it says of itself."""

from __future__ import annotations

from tests.support.program import Program

SPEC = "name: w\njobs:\n  - {name: a, command: 'pwd > here.txt'}\n"


def test_a_worker_has_labels_and_works_where_it_is_told(program: Program) -> None:
    program.write("w.yaml", SPEC)
    (program.directory / "elsewhere").mkdir()
    workflow = program("create", program.write("w.yaml", SPEC), "-f", "json").json["id"]
    program("worker", workflow, "--label", "rack=7", "--label", "note=a=b", "--directory", "elsewhere", "--over-ssh")
    (runner,) = program("compute-nodes", "list", workflow, "-f", "json").json
    assert runner["labels"] == {"rack": "7", "note": "a=b"} and runner["kind"] == "ssh"
    assert (program.directory / "elsewhere/here.txt").read_text().strip() == str(program.directory / "elsewhere")


def test_a_label_without_a_value_is_refused(program: Program) -> None:
    workflow = program("create", program.write("w.yaml", SPEC), "-f", "json").json["id"]
    done = program("worker", workflow, "--label", "rack", code=2)
    assert "NAME=VALUE" in done.stderr
