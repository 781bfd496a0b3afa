"""Values of parameters arrive as they are written, in every format; what looks like a broken range or list is an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from torc.spec.compiler import compile_spec, parse_spec
from torc.spec.diagnostics import Diagnostic
from torc.spec.plan import Plan
from torc.spec.writer import write_spec

YAML = [
    "1.0",
    "1.10",
    "010",
    "001",
    "1e3",
    "1E3",
    "+1",
    "-0",
    ".5",
    "5.",
    "0x10",
    "0o10",
    "True",
    "FALSE",
    "true",
    "1",
    "-3",
    "0.1",
    "yes",
    "on",
    "No",
    "1:30:x",
    "2024-01-02",
    "1_000",
    "00501",
    "12345678901234567890123",
    "1.00000000000000000001",
    "0.1000",
]
JSON = [
    "1.0",
    "1.10",
    "1e3",
    "1E+3",
    "-0.0",
    "0.1",
    "1",
    "-3",
    "true",
    "12345678901234567890123",
    "1.00000000000000000001",
]
JSON5 = [*JSON, "0x10", "+1", ".5", "5."]
KDL = ["1.0", "1.10", "1e3", "0x10", "0o10", "0b11", "1_000", "+1", "1", "-3", "12345"]


def names(text: str, format: Any) -> list[str]:
    plan, found = compile_spec(text, format=format)
    assert plan is not None, [problem.render() for problem in found]
    return [job.name for job in plan.jobs]


@pytest.mark.parametrize("value", YAML)
def test_yaml_values_arrive_as_written(value: str) -> None:
    one = f"name: x\njobs:\n- name: 'j_{{v}}'\n  command: c\n  parameters:\n    v: [{value}, end]\n"
    assert names(one, "yaml") == [f"j_{value}", "j_end"]


@pytest.mark.parametrize("value", JSON)
def test_json_values_arrive_as_written(value: str) -> None:
    for listed in (f'[{value}, "end"]', f'[\n  "end", {value}]'):
        text = f'{{"name": "x", "jobs": [{{"name": "j_{{v}}", "command": "c", "parameters": {{"v": {listed}}}}}]}}'
        assert set(names(text, "json")) == {f"j_{value}", "j_end"}


@pytest.mark.parametrize("value", JSON5)
def test_json5_values_arrive_as_written(value: str) -> None:
    text = f"{{name: 'x', parameters: {{v: [{value}, 'end']}}, jobs: [{{name: 'j_{{v}}', command: 'c', use_parameters: ['v']}}]}}"
    assert names(text, "json5") == [f"j_{value}", "j_end"]


@pytest.mark.parametrize("value", KDL)
def test_kdl_values_arrive_as_written(value: str) -> None:
    text = f'name "x"\nparameters {{\n    v {value} "end"\n}}\njob "j_{{v}}" {{\n    use_parameters "v"\n    command "c"\n}}\n'
    assert names(text, "kdl") == [f"j_{value}", "j_end"]


@pytest.mark.parametrize("value", ["1.10", "001", "1e3", "True", "00501", "0.50"])
def test_texts_lists_in_texts_and_files_keep_values_too(value: str) -> None:
    def one(written: str) -> list[str]:
        document = {"name": "x", "jobs": [{"name": "j_{v}", "command": "c", "parameters": {"v": written}}]}
        plan, found = compile_spec(
            json.dumps(document), format="json", read={"a.csv": f"v,w\n{value},1\n", "a.txt": f"{value}\n"}.__getitem__
        )
        assert plan is not None, [problem.render() for problem in found]
        return [job.name for job in plan.jobs]

    for written in (value, f"[{value}]", f"['{value}']", "@a.csv:v", "@a.txt"):
        assert one(written) == [f"j_{value}"], written


def test_values_that_keep_their_text_can_still_be_formatted_as_numbers() -> None:
    text = "name: x\njobs: [{name: 'j_{v:05.1f}_{i:03d}_{h:d}', command: c, parameters: {v: [1.10], i: ['007'], h: [0x1F]}}]"
    assert names(text, "yaml") == ["j_001.1_007_31"]


def test_a_value_taken_by_an_alias_or_a_merge_keeps_its_text() -> None:
    text = (
        "name: x\nparameters: &p {v: &v [1.10, 001]}\njobs:\n- {name: 'a_{v}', command: c, parameters: {<<: *p}}\n"
        "- {name: 'b_{v}', command: c, parameters: {v: *v}}\n"
    )
    assert names(text, "yaml") == ["a_1.10", "a_001", "b_1.10", "b_001"]


@pytest.mark.parametrize("format", ["yaml", "json", "json5", "kdl"])
def test_converting_keeps_values(format: Any) -> None:
    text = "name: x\njobs: [{name: 'j_{v}', command: c, parameters: {v: [1.0, 1.10, 010, 1e3, True, yes, 1]}}]"
    spec, _ = parse_spec(text, format="yaml")
    assert spec is not None
    assert names(write_spec(spec, format), format) == names(text, "yaml")


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.from_regex(r"[-+]?(0|[1-9][0-9]{0,4})(\.[0-9]{0,4})?([eE][-+]?[0-9]{1,2})?", fullmatch=True),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
def test_numbers_of_any_form_arrive_as_written(written: list[str]) -> None:
    text = f"name: x\njobs: [{{name: 'j_{{v}}', command: c, parameters: {{v: [{', '.join(written)}]}}}}]"
    assert names(text, "yaml") == [f"j_{value}" for value in written]


def compiled(value: Any) -> tuple[Plan | None, list[Diagnostic]]:
    return compile_spec(
        json.dumps({"name": "x", "jobs": [{"name": "j_{v}", "command": "c", "parameters": {"v": value}}]}),
        format="json",
    )


@pytest.mark.parametrize(
    "value",
    [
        "1:10,",
        "1:2:3:4",
        "1:",
        ":10",
        "1:10:",
        "1::10",
        "1:10 20",
        "['a','b'",
        "[1,2",
        "1,2]",
        "01:100",
        "\u0661:\u0663",
        "1:\u0663",
    ],
)
def test_what_looks_like_a_broken_range_or_list_is_an_error(value: str) -> None:
    plan, found = compiled(value)
    assert plan is None
    assert found[0].code == "bad_parameter" and found[0].path == "jobs[0].parameters.v"
    plan, found = compiled([value])
    assert plan is not None and plan.jobs[0].name == f"j_{value}", "in a list, each value is what it is"


@pytest.mark.parametrize("value", ["1-10", "1..10", "1 to 10"])
def test_what_may_have_been_meant_as_a_range_warns_and_stays(value: str) -> None:
    plan, found = compiled(value)
    assert plan is not None and [job.name for job in plan.jobs] == [f"j_{value}"]
    assert [(problem.code, problem.severity) for problem in found] == [("near_miss", "warning")]
    assert "1:10" in found[0].message


@pytest.mark.parametrize(
    "value", ["http://host:8080", "a:b", "12:30h", "2024-01-02", "10.0.0.1:80/x", "x-1", "-", "a,b"]
)
def test_other_texts_are_values(value: str) -> None:
    plan, found = compiled(value)
    assert plan is not None and plan.jobs[0].name == f"j_{value}" and not found


def test_a_range_keeps_its_zeros() -> None:
    assert [job.name for job in compiled("008:010")[0].jobs] == ["j_008", "j_009", "j_010"]  # type: ignore[union-attr]
    assert [job.name for job in compiled("10:00:-5")[0].jobs] == ["j_10", "j_05", "j_00"]  # type: ignore[union-attr]


ZIPPED = [
    (
        "s,b,c\n1,x,\n2,,y\n3,z,w\n",
        "column `b` is empty in line 3 of `p.csv`; column `c` is empty in line 2 of `p.csv`",
    ),
    ("s,b,c\n1,x\n2,y,z\n", "column `c` is empty in line 2 of `p.csv`"),
    ('s,b,c\n1,"x\ny",z\n2,a,"  "\n', "column `c` is empty in line 4 of `p.csv`"),
]


@pytest.mark.parametrize(("table", "said"), ZIPPED)
@pytest.mark.parametrize("shared", [False, True])
def test_an_empty_cell_shifts_nothing(table: str, said: str, shared: bool) -> None:
    parameters = {"b": "@p.csv:b", "c": "@p.csv:c"}
    one: dict[str, Any] = {"name": "j_{b}", "command": "{b} {c}", "parameter_mode": "zip"}
    one |= {"use_parameters": ["b", "c"]} if shared else {"parameters": parameters}
    document = {"name": "x", "jobs": [one], **({"parameters": parameters} if shared else {})}
    plan, found = compile_spec(json.dumps(document), format="json", read=lambda name: table)
    assert plan is None
    assert [problem.code for problem in found] == ["bad_parameter"] and said in found[0].message


def test_empty_lines_between_values_shift_nothing_and_at_the_end_mean_nothing() -> None:
    def one(content: str) -> tuple[Plan | None, list[Diagnostic]]:
        job = {
            "name": "j_{a}",
            "command": "{a} {b}",
            "parameters": {"a": "@a.txt", "b": [1, 2]},
            "parameter_mode": "zip",
        }
        return compile_spec(json.dumps({"name": "x", "jobs": [job]}), format="json", read=lambda name: content)

    assert "line 2 of `a.txt` is empty" in one("x\n\ny\n")[1][0].message
    plan, _ = one("x\ny\n\n\n")
    assert plan is not None and [job.command for job in plan.jobs] == ["x 1", "y 2"]


def test_rows_with_nothing_in_them_and_columns_of_other_lengths_are_fine_where_nothing_goes_together() -> None:
    table = "a,b\n1,x\n,,\n\n2,\n"
    job = {"name": "j_{a}_{b}", "command": "c", "parameters": {"a": "@p.csv:a", "b": "@p.csv:b"}}
    plan, found = compile_spec(json.dumps({"name": "x", "jobs": [job]}), format="json", read=lambda name: table)
    assert plan is not None and [one.name for one in plan.jobs] == ["j_1_x", "j_2_x"], found


def test_two_columns_of_one_name_are_an_error() -> None:
    job = {"name": "j_{a}", "command": "c", "parameters": {"a": "@p.csv:a"}}
    plan, found = compile_spec(json.dumps({"name": "x", "jobs": [job]}), format="json", read=lambda name: "a,a\n1,2\n")
    assert plan is None and "has 2 columns `a`" in found[0].message
