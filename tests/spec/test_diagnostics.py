"""Problems of specs: each is found, where it stands, in every format, all at once."""

from __future__ import annotations

import pytest

from torc.spec.compiler import compile_spec, external_files, parse_spec
from torc.spec.diagnostics import Diagnostic


def problems(text: str, format: str = "yaml") -> list[Diagnostic]:
    plan, found = compile_spec(text, format=format, name="x")  # type: ignore[arg-type]
    assert (plan is None) == any(problem.severity == "error" for problem in found)
    return found


def pointed_at(problem: Diagnostic) -> str:
    assert problem.span is not None and problem.source_line is not None
    return problem.source_line[problem.span.column - 1 : problem.span.end_column - 1]


ONE = 'jobs: [{name: a, command: "true"}]'
CASES = [
    # text, code, what the caret points at, part of the message or of the suggestion
    ("jobs: []\nname: x", "bad_type", "[]", "must not be empty"),
    (f"{ONE}", "missing_field", None, "`name` is missing"),
    (f"name: x\nfoo: 1\n{ONE}", "unknown_field", "foo", "unknown field `foo`"),
    ("name: x\njobs: [{name: a, comand: b}]", "unknown_field", "comand", "did you mean `command`?"),
    ("name: 5\njobs: [{name: a, command: b}]", "bad_type", "5", "put the text in quotes"),
    ("name: x\njobs: [{name: a, command: b, priority: high}]", "bad_type", "high", "an integer is needed"),
    ("name: x\njobs: [{name: a, command: b, priority: -1}]", "bad_value", "-1", "greater than or equal to 0"),
    ("name: x\nexecution: stp\njobs: [{name: a, command: b}]", "bad_value", "stp", "did you mean `step`?"),
    ("name: x\njobs:\n- {name: a, command: b}\n- {name: a, command: c}", "duplicate_name", "a", "is defined twice"),
    (
        "name: x\njobs: [{name: a, command: b, depends_on: [train]}, {name: trains, command: b}]",
        "unknown_name",
        "train",
        "did you mean `trains`?",
    ),
    ("name: x\njobs: [{name: a, command: b, depends_on_regexes: ['z.*']}]", "unknown_name", "'z.*'", "matches no job"),
    (
        "name: x\njobs: [{name: a, command: b, depends_on_regexes: ['(']}]",
        "bad_regex",
        "(",
        "not a usable regular expression",
    ),
    (
        "name: x\njobs: [{name: a, command: b, depends_on_regexes: ['a(?=b)']}]",
        "bad_regex",
        "(?=",
        "look-ahead `(?=...)` is not supported",
    ),
    ("name: x\njobs: [{name: a, command: b, depends_on_regexes: ['(a)\\1']}]", "bad_regex", "\\1", "backreference"),
    (
        "name: x\nfiles: [{name: f, path: f}]\njobs: [{name: a, command: b, input_file_regexes: ['f++']}]",
        "bad_regex",
        "++",
        "not supported",
    ),
    (
        "name: x\nactions: [{trigger_type: on_jobs_ready, action_type: run_commands, commands: [c], job_name_regexes: ['\\Z']}]\n"
        "jobs: [{name: a, command: b}]",
        "bad_regex",
        "\\Z",
        "the whole name is matched",
    ),
    ("name: x\njobs: [{name: a, command: b, input_files: [f]}]", "unknown_name", "f", "there is no file `f`"),
    ("name: x\njobs: [{name: a, command: 'cat ${files.input.f}'}]", "unknown_name", "${files.input.f}", "no file `f`"),
    (
        "name: x\njobs: [{name: a, command: b, depends_on: [b]}, {name: b, command: c, depends_on: [a]}]",
        "cycle",
        None,
        "a -> b -> a",
    ),
    ("name: x\njobs: [{name: a, command: b, depends_on: [a]}]", "cycle", None, "a -> a"),
    (
        "name: x\nfiles: [{name: f, path: p}]\njobs: [{name: a, command: b, output_files: [f]}, "
        "{name: c, command: b, output_files: [f]}]",
        "two_producers",
        None,
        "`a` and `c`",
    ),
    (
        "name: x\njobs: [{name: 'a_{i}', command: b, parameters: {i: '1:3', j: [1, 2]}, parameter_mode: zip}]",
        "bad_parameter",
        None,
        "i has 3, j has 2",
    ),
    (
        "name: x\njobs: [{name: a, command: 'echo {i}', parameters: {i: '1:3'}}]",
        "gathered_parameter",
        "'echo {i}'",
        "gathered",
    ),
    (
        "name: x\njobs: [{name: 'a_{i:q}', command: b, parameters: {i: '1:3'}}]",
        "bad_parameter",
        None,
        "does not fit the value 1",
    ),
    (
        "name: x\njobs: [{name: 'a_{i}', command: b, parameters: {i: '3:1'}}]",
        "bad_parameter",
        "'3:1'",
        "has the wrong sign",
    ),
    (
        "name: x\njobs: [{name: 'a_{i}', command: b, parameters: {i: '1:3:0'}}]",
        "bad_parameter",
        "'1:3:0'",
        "step of the range is 0",
    ),
    (
        "name: x\njobs: [{name: 'a_{i}', command: b, use_parameters: [i]}]",
        "unknown_name",
        "i",
        "no workflow parameter `i`",
    ),
    (
        "name: x\njobs: [{name: 'a_{i}_{j}', command: b, parameters: {i: '1:9999', j: '1:9999'}}]",
        "too_many",
        None,
        "5,000,000",
    ),
    (
        "name: x\njobs: [{name: a, command: b, resource_requirements: {memory: lots}}]",
        "bad_value",
        "lots",
        "not an amount of memory",
    ),
    (
        "name: x\njobs: [{name: a, command: b, resource_requirements: {runtime: PT}}]",
        "bad_value",
        "PT",
        "not a duration",
    ),
    (f"name: x\nslurm_defaults: {{array: 0-3}}\n{ONE}", "bad_value", "0-3", "num_allocations"),
    (
        f"name: x\nslurm_schedulers: [{{name: s, extra: '--nice=1 -a0-3'}}]\n{ONE}",
        "bad_value",
        "'--nice=1 -a0-3'",
        "num_allocations",
    ),
    (
        "name: x\njobs: [{name: a, command: b, resource_requirements: big}]",
        "unknown_name",
        "big",
        "no resource requirement",
    ),
    ("name: x\nname: y\njobs: [{name: a, command: b}]", "duplicate_key", None, "given twice"),
    (
        "name: x\njobs: [{name: a, command: b}]\nactions: [{trigger_type: on_jobs_ready, action_type: run_commands}]",
        "missing_field",
        None,
        "needs `jobs`",
    ),
    (
        "name: x\njobs: [{name: a, command: b}]\nactions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, "
        "scheduler: s}]",
        "unknown_name",
        "s",
        "no Slurm scheduler `s`",
    ),
    ("name: x\nmetadata: '{'\njobs: [{name: a, command: b}]", "bad_value", "'{'", "not valid JSON"),
    ("name: [", "syntax", None, "not YAML"),
    ("a: &a [*a]", "too_deep", None, "contains itself"),
    ("", "not_a_spec", None, "empty"),
    ("- 1", "not_a_spec", None, "not a mapping"),
    ('name: x\njobs: [{name: "a\\nb", command: b}]', "bad_value", None, "right form"),
    ('name: x\njobs: [{name: a, command: "b\\0"}]', "bad_value", None, "right form"),
]


@pytest.mark.parametrize(("text", "code", "pointed", "said"), CASES, ids=[f"{c[1]}-{n}" for n, c in enumerate(CASES)])
def test_a_problem_is_found_where_it_stands(text: str, code: str, pointed: str | None, said: str) -> None:
    found = problems(text)
    first = next(problem for problem in found if problem.severity == "error")
    assert first.code == code, [problem.render() for problem in found]
    assert said in first.message + (first.suggestion or "")
    if pointed is not None:
        assert pointed_at(first) == pointed
    assert first.render().startswith("x")


TYPO = {
    "yaml": "name: x\njobs:\n  - name: a\n    command: b\n    depnds_on: [c]\n",
    "json": '{"name": "x",\n "jobs": [\n  {"name": "a", "command": "b",\n   "depnds_on": ["c"]}]}',
    "json5": "{name: 'x', // note\n jobs: [\n  {name: 'a', command: 'b',\n   depnds_on: ['c'],}]}",
    "kdl": 'name "x"\njob "a" {\n    command "b"\n    depnds_on "c"\n}\n',
}


@pytest.mark.parametrize("format", TYPO)
def test_an_unknown_field_is_shown_with_its_place_in_every_format(format: str) -> None:
    (problem,) = problems(TYPO[format], format)
    assert problem.code == "unknown_field"
    assert problem.span is not None
    assert problem.span.line == TYPO[format].split("depnds_on")[0].count("\n") + 1
    assert "depnds_on" in pointed_at(problem)
    assert problem.suggestion == "did you mean `depends_on`?"


WRONG_VALUE = {
    "yaml": "name: x\njobs:\n  - {name: a, command: b}\n  - {name: c, command: d, depends_on: [nobody]}\n",
    "json": '{"name": "x", "jobs": [{"name": "a", "command": "b"},\n{"name": "c", "command": "d", "depends_on": ["nobody"]}]}',
    "json5": "{name: 'x', jobs: [{name: 'a', command: 'b'}, /* a\ncomment */ {name: 'c', command: 'd', depends_on: ['nobody']}]}",
    "kdl": 'name "x"\njob "a" { command "b"; }\n/* a\ncomment */ job "c" { command "d"; depends_on "nobody"; }\n',
}


@pytest.mark.parametrize("format", WRONG_VALUE)
def test_an_unknown_name_is_shown_with_its_place_in_every_format(format: str) -> None:
    (problem,) = problems(WRONG_VALUE[format], format)
    assert problem.code == "unknown_name"
    assert pointed_at(problem).strip("\"'") == "nobody"
    assert problem.path == "jobs[1].depends_on[0]"


BROKEN = {
    "yaml": "name: x\njobs: [\n",
    "json": '{"name": "x",\n "jobs": [}',
    "json5": "{name: 'x',\n jobs: [}",
    "kdl": 'name "x"\njob "a" {',
}


@pytest.mark.parametrize("format", BROKEN)
def test_broken_syntax_is_one_problem_with_a_line(format: str) -> None:
    (problem,) = problems(BROKEN[format], format)
    assert problem.code == "syntax"
    assert (problem.span is not None and problem.span.line == 2) or format in {"yaml"}


def test_a_parameter_in_a_flow_mapping_wants_quotes() -> None:
    (problem,) = problems("name: x\njobs:\n  - {name: a_{i}, command: b}\n")
    assert problem.suggestion is not None and "quote text" in problem.suggestion


def test_all_problems_are_reported_at_once_in_order() -> None:
    text = "name: x\nfoo: 1\njobs:\n  - {name: a, comand: b}\n  - {name: c, command: d, priority: -1}\n"
    found = problems(text)
    assert [problem.code for problem in found] == ["unknown_field", "unknown_field", "bad_value"]
    assert [problem.span.line for problem in found if problem.span] == [2, 4, 5]


def test_a_problem_of_a_template_is_reported_once_with_an_example() -> None:
    found = problems("name: x\njobs: [{name: 'a_{i}', command: b, parameters: {i: '1:1000'}, depends_on: ['b_{i}']}]")
    assert len(found) == 1
    assert "job `a_1`" in found[0].message


def test_a_near_miss_of_a_parameter_warns_and_stays() -> None:
    plan, found = compile_spec(
        "name: x\njobs: [{name: 'a_{rate}', command: 'run {rat}', parameters: {rate: [1]}}]", format="yaml"
    )
    assert plan is not None and plan.jobs[0].command == "run {rat}"
    assert [(problem.severity, problem.code) for problem in found] == [("warning", "near_miss")]


def test_a_parameter_that_has_no_values_is_reported_alone() -> None:
    (found,) = problems(
        "name: x\nparameters: {i: '@no.csv:i'}\njobs: [{name: 'a_{i}', command: b, use_parameters: [i]}]"
    )
    assert found.code == "bad_parameter"


def test_an_error_about_a_reference_does_not_say_that_it_stays() -> None:
    (error,) = problems("name: x\njobs: [{name: a, command: 'cat ${file.input.x}'}]")
    assert (error.severity, error.message) == ("error", "`${file.input.x}` is not a reference")


def test_problems_have_a_form_for_programs() -> None:
    (problem,) = problems("name: x\nfoo: 1\njobs: [{name: a, command: b}]")
    data = problem.to_dict()
    assert (data["line"], data["column"], data["code"], data["path"]) == (2, 1, "unknown_field", "foo")


def test_the_format_is_found_out_when_nobody_names_it() -> None:
    for text in (
        "name: x\njobs: [{name: a, command: b}]",
        '{"name": "x", "jobs": [{"name": "a", "command": "b"}]}',
        "{name: 'x', jobs: [{name: 'a', command: 'b'}]}",
        'name "x"\njob "a" { command "b"; }',
    ):
        plan, found = compile_spec(text)
        assert plan is not None, [problem.render() for problem in found]
        assert plan.name == "x"


def test_external_files_are_named() -> None:
    text = "name: x\nparameters: {a: '@cases.csv:name', b: '1:3'}\njobs: [{name: j, command: c, parameters: {c: '@list.txt'}}]"
    assert external_files(text) == ["cases.csv", "list.txt"]


def test_a_schema_reference_is_no_field() -> None:
    spec, found = parse_spec(
        '{"$schema": "s.json", "name": "x", "jobs": [{"name": "a", "command": "b"}]}', format="json"
    )
    assert spec is not None and not found
