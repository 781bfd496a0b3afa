"""References that are not quite references are errors; ordinary shell passes untouched."""

from __future__ import annotations

import json
import re
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from torc.spec.compiler import compile_spec
from torc.spec.diagnostics import Diagnostic
from torc.spec.plan import Plan


def compiled(command: str, **more: Any) -> tuple[Plan | None, list[Diagnostic]]:
    document = {
        "name": "w",
        "files": [{"name": "x", "path": "x.txt"}, {"name": "y", "path": "y.txt"}],
        "user_data": [{"name": "d", "data": 1}],
        "jobs": [{"name": "a", "command": command, **more}],
    }
    return compile_spec(json.dumps(document), format="json")


MISTAKES = [
    # command, what the caret points at, what is suggested
    ("cat ${file.input.x}", "${file.input.x}", "${files.input.x}"),
    ("cat ${files.inputs.x}", "${files.inputs.x}", "${files.input.x}"),
    ("cat ${files.input.x", "${files.input.x", "${files.input.x}"),
    ("cat ${files.input.x | awk '{print}'", "${files.input.x", "${files.input.x}"),
    ("cat ${files.input.x > ${files.output.y}", "${files.input.x", "${files.input.x}"),
    ("cat ${ files.input.x }", "${ files.input.x }", "${files.input.x}"),
    ("cat ${files .input. x}", "${files .input. x}", "${files.input.x}"),
    ("cat $(files.input.x)", "$(files.input.x)", "${files.input.x}"),
    ("cat $ {files.input.x}", "$ {files.input.x}", "${files.input.x}"),
    ("cat ${Files.Input.x}", "${Files.Input.x}", "${files.input.x}"),
    ("cat ${files.x}", "${files.x}", "${files.output.x}"),
    ("cat ${files.imput.x}", "${files.imput.x}", "${files.input.x}"),
    ("cat ${input.x}", "${input.x}", "${files.input.x}"),
    ("cat ${inputs.files.x}", "${inputs.files.x}", "${files.input.x}"),
    ("cat ${flies.output.x}", "${flies.output.x}", "${files.output.x}"),
    ("cat ${files.in.x}", "${files.in.x}", "${files.input.x}"),
    ("cat ${files.input}", "${files.input}", "${files.input.NAME}"),
    ("torc user-data get ${userdata.input.d}", "${userdata.input.d}", "${user_data.input.d}"),
    ("torc user-data get ${user_datas.input.d}", "${user_datas.input.d}", "${user_data.input.d}"),
    ("cat ${files.input.part_{j}}", "${files.input.part_{j}}", "`{j}` is not a parameter"),
]


@pytest.mark.parametrize(("command", "pointed", "suggested"), MISTAKES, ids=[case[0] for case in MISTAKES])
@pytest.mark.parametrize("field", ["command", "invocation_script"])
def test_what_looks_like_a_reference_is_an_error_where_it_stands(
    field: str, command: str, pointed: str, suggested: str
) -> None:
    plan, found = compiled(**{"command": "true", field: command})
    assert plan is None
    (problem,) = found
    assert problem.code == "bad_reference" and problem.path == f"jobs[0].{field}"
    assert problem.source_line is not None and problem.span is not None
    assert problem.source_line[problem.span.column - 1 : problem.span.end_column - 1] == pointed
    assert suggested in (problem.suggestion or "")


SHELL = [
    "echo ${VAR} ${VAR:-default} ${VAR:=a.b} ${VAR:+x} ${VAR:?missing. stop} ${VAR-x}",
    "echo ${array[@]} ${array[0]} ${#array[@]} ${#VAR} ${!VAR} ${files[@]} ${file} ${files}",
    "echo ${VAR#*.} ${VAR##*.} ${VAR%.*} ${VAR%%.*} ${file%.txt} ${file##*/} ${input%.gz} ${output/.in/.out}",
    "echo ${VAR:1:2} ${VAR/./_} ${VAR//a.b/c} ${VAR^^} ${VAR@Q}",
    "file=$(file input.txt); echo $(data.sh) $((1 + 2)) `file x.txt`",
    "awk '{ print $1 }' x; awk -F. '{files.x = 1}' y; echo '{{.Names}}'",
    "python3 -c 'print({1: 2}.get(1))'; for file in *.txt; do cat ${file}.bak; done",
    "echo ${project.version} ${user.home} ${user-data.csv} ${file-input.x}",
    "echo $(cat files.input.x) $(wc -l < file input.x)",
]


@pytest.mark.parametrize("command", SHELL)
def test_ordinary_shell_passes_untouched(command: str) -> None:
    plan, found = compiled(command)
    assert plan is not None and not found, [problem.render() for problem in found]
    assert plan.jobs[0].command == command


OPERATORS = st.sampled_from(
    ["", ":-", ":=", ":+", ":?", "-", "#", "##", "%", "%%", "/", "//", "^^", ",,", "[@]", "[0]", "@Q", ":1:2"]
)
WORDS = st.text(string.ascii_letters + string.digits + "_./-*", max_size=8)
NAMES = st.one_of(
    st.sampled_from(["files", "file", "user_data", "input", "output", "inputs", "data", "x"]),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True),
)
EXPANSIONS = st.builds(
    lambda mark, name, op, word: f"${{{mark}{name}{op}{word if op else ''}}}",
    st.sampled_from(["", "#", "!"]),
    NAMES,
    OPERATORS,
    WORDS,
)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(EXPANSIONS, min_size=1, max_size=4))
def test_every_parameter_expansion_of_the_shell_passes(expansions: list[str]) -> None:
    command = "echo " + " ".join(expansions)
    plan, found = compiled(command)
    assert plan is not None, [problem.render() for problem in found]
    assert plan.jobs[0].command == command


def _mangled(text: str, kind: str, at: int, letter: str) -> str:
    at %= len(text)
    match kind:
        case "double":
            return text[: at + 1] + text[at] + text[at + 1 :]
        case "drop":
            return text[:at] + text[at + 1 :]
        case "swap":
            return text[:at] + text[at + 1 : at + 2] + text[at] + text[at + 2 :]
        case "space":
            return text[:at] + " " + text[at:]
    return text[:at] + letter + text[at + 1 :]


@settings(max_examples=examples(500), deadline=None)
@given(
    kind=st.sampled_from(["files", "user_data"]),
    direction=st.sampled_from(["input", "output"]),
    how=st.sampled_from(["double", "drop", "swap", "space", "replace"]),
    at=st.integers(0, 40),
    letter=st.sampled_from("abcxyz_"),
    in_direction=st.booleans(),
)
def test_a_reference_with_one_wrong_letter_never_reaches_the_shell(
    kind: str, direction: str, how: str, at: int, letter: str, in_direction: bool
) -> None:
    words = [kind, direction]
    words[in_direction] = _mangled(words[in_direction], how, at, letter)
    name = "x" if kind == "files" else "d"
    plan, found = compiled(f"cat ${{{words[0]}.{words[1]}.{name}}}")
    if words == [kind, direction]:
        assert plan is not None
    else:
        assert plan is None
        assert {problem.code for problem in found} == {"bad_reference"}


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["${", "}", "files", ".", "input", "output", "x", " ", "$", "{", "(", ")", "user_data", "'", '"']
        ),
        max_size=14,
    ).map("".join)
)
def test_pieces_of_references_are_replaced_reported_or_shell(text: str) -> None:
    plan, found = compiled(f"echo {text}")
    assert (plan is None) == any(problem.severity == "error" for problem in found)
    if plan is not None:
        assert not re.search(r"\$\{\s*(files|user_data)\s*\.", plan.jobs[0].command)


def test_a_reference_that_is_wrong_for_one_value_only_is_found() -> None:
    plan, found = compiled("cat ${files.{d}.x}", name="a_{d}", parameters={"d": ["input", "imput"]})
    assert plan is None
    assert "`${files.imput.x}`" in found[0].message and "a_imput" in found[0].message


def test_a_reference_that_comes_with_a_value_is_replaced() -> None:
    plan, found = compiled(
        "cat {f}",
        name="a_{n}",
        parameter_mode="zip",
        parameters={"n": [1, 2], "f": ["${files.input.x}", "${files.input.y}"]},
    )
    assert plan is not None, found
    assert [job.command for job in plan.jobs] == ["cat x.txt", "cat y.txt"]


ELSEWHERE = [
    {"env": {"A": "${files.input.x}"}},
    {"jobs": [{"name": "a", "command": "true", "env": {"A": "${file.input.x}"}}]},
    {"files": [{"name": "x", "path": "${files.input.y}"}]},
    {
        "actions": [
            {"trigger_type": "on_workflow_start", "action_type": "run_commands", "commands": ["cat ${files.input.x}"]}
        ]
    },
    {"failure_handlers": [{"name": "h", "rules": [{"recovery_script": "rm ${files.output.x}"}]}]},
]


@pytest.mark.parametrize("part", ELSEWHERE, ids=[next(iter(part)) for part in ELSEWHERE])
def test_a_reference_where_none_is_replaced_is_an_error(part: dict[str, Any]) -> None:
    document = {"name": "w", "jobs": [{"name": "a", "command": "true"}], "files": [{"name": "x", "path": "x"}], **part}
    plan, found = compile_spec(json.dumps(document), format="json")
    assert plan is None
    assert found[0].code == "bad_reference" and "would not be replaced" in found[0].message


def test_a_reference_to_a_file_that_has_a_problem_is_no_problem_itself() -> None:
    text = """
name: x
parameters: {i: "1:3"}
files:
  - {name: m, path: "p{i}", use_parameters: [i]}
  - {name: r, path: r}
  - {name: r, path: s}
jobs:
  - {name: a, command: "cat ${files.input.r} ${files.input.m}"}
"""
    plan, found = compile_spec(text, format="yaml")
    assert plan is None
    assert sorted(problem.code for problem in found) == ["duplicate_name", "gathered_parameter"]
