"""Properties of readers, expansion, the schema and the writers, on generated documents."""

from __future__ import annotations

import json
import string
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from tests.support.examples import examples
from torc.spec.compiler import compile_spec, parse_spec
from torc.spec.formats import Format
from torc.spec.model import WorkflowSpec
from torc.spec.schema import workflow_schema
from torc.spec.writer import write_spec

FORMATS = sorted(Format)
VALIDATOR = Draft202012Validator(workflow_schema())

# -- readers ----------------------------------------------------------------------------------------------------

pieces = st.sampled_from(
    [
        "name: x\n",
        "jobs:\n",
        "- {name: a, command: b}\n",
        "{",
        "}",
        "[",
        "]",
        '"',
        "'",
        ":",
        ",",
        "&a ",
        "*a",
        "<<: *a\n",
        "|\n",
        "#true",
        'job "a" {',
        "/-",
        "/*",
        "*/",
        "//",
        "\\",
        '"""',
        '#"',
        '"#',
        "\t",
        "\x00",
        "\u2028",
        "parameters: {i: '1:3'}\n",
        "{i}",
        "${files.input.f}",
        "\n",
        " ",
        "1e999",
        "0x",
        'name "x"',
        "-",
        "...",
        "---\n",
        "!!python/object:os.system ",
        "%",
    ]
)
texts = st.one_of(
    st.text(max_size=200),
    st.lists(pieces, max_size=40).map("".join),
    st.binary(max_size=100).map(lambda b: b.decode("latin-1")),
)


@pytest.mark.parametrize("format", [*FORMATS, None])
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=texts)
def test_any_text_gives_a_plan_or_diagnostics_and_never_raises(format: Any, text: str) -> None:
    plan, found = compile_spec(text, format=format)
    assert (plan is None) == any(problem.severity == "error" for problem in found)
    for problem in found:
        assert problem.render(lambda code, text: f"<{code}>{text}")
        json.dumps(problem.to_dict())


@pytest.mark.parametrize("format", FORMATS)
def test_deep_nesting_is_refused_in_every_format(format: str) -> None:
    text = "a {\n" * 5000 + "}\n" * 5000 if format == "kdl" else '{"a":' * 5000 + "1" + "}" * 5000
    plan, found = compile_spec(text, format=format)  # type: ignore[arg-type]
    assert plan is None and found


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    plan, found = compile_spec("\n".join(lines), format="yaml")
    assert plan is None
    assert any(problem.code == "too_large" for problem in found)


# -- expansion --------------------------------------------------------------------------------------------------

values = st.lists(st.integers(-50, 50), min_size=1, max_size=4, unique=True)


@settings(max_examples=examples(100), deadline=None)
@given(a=values, b=values)
def test_product_expands_in_the_order_written_the_last_fastest(a: list[int], b: list[int]) -> None:
    document = {
        "name": "x",
        "parameters": {"a": a, "b": b},
        "jobs": [{"name": "j_{a}_{b:+d}", "command": "run {b} {a} {{a}} ${a} {c}", "use_parameters": ["a", "b"]}],
    }
    plan, _ = compile_spec(json.dumps(document), format="json")
    assert plan is not None
    assert [job.name for job in plan.jobs] == [f"j_{x}_{y:+d}" for x, y in product(a, b)]
    assert [job.command for job in plan.jobs] == [f"run {y} {x} {{{x}}} ${{a}} {{c}}" for x, y in product(a, b)]


@settings(max_examples=examples(100), deadline=None)
@given(a=values, data=st.data())
def test_zip_takes_values_together(a: list[int], data: st.DataObject) -> None:
    b = data.draw(st.lists(st.integers(), min_size=len(a), max_size=len(a)))
    document = {
        "name": "x",
        "jobs": [{"name": "j_{a}", "command": "run {a} {b}", "parameters": {"a": a, "b": b}, "parameter_mode": "zip"}],
    }
    plan, _ = compile_spec(json.dumps(document), format="json")
    assert plan is not None
    assert [job.command for job in plan.jobs] == [f"run {x} {y}" for x, y in zip(a, b, strict=True)]


@settings(max_examples=examples(100), deadline=None)
@given(a=values, b=values)
def test_a_parameter_outside_the_name_is_gathered(a: list[int], b: list[int]) -> None:
    document = {
        "name": "x",
        "parameters": {"a": a, "b": b},
        "jobs": [
            {"name": "train_{a}_{b}", "command": "t", "use_parameters": ["a", "b"]},
            {"name": "mean_{a}", "command": "m", "use_parameters": ["a", "b"], "depends_on": ["train_{a}_{b}"]},
            {"name": "all", "command": "c", "use_parameters": ["a"], "depends_on": ["mean_{a}"]},
        ],
    }
    plan, _ = compile_spec(json.dumps(document), format="json")
    assert plan is not None
    names = [job.name for job in plan.jobs]
    waits = {job.name: {names[p] for p in plan.gates[job.gate]} for job in plan.jobs if job.gate is not None}
    assert waits == {
        **{f"mean_{x}": {f"train_{x}_{y}" for y in b} for x in a},
        "all": {f"mean_{x}" for x in a},
    }


@settings(max_examples=examples(60), deadline=None)
@given(start=st.integers(-100, 100), count=st.integers(1, 30), step=st.integers(1, 9), places=st.integers(1, 3))
def test_float_ranges_have_the_values_that_people_write(start: int, count: int, step: int, places: int) -> None:
    scale = 10**places
    text = f"{start / scale}:{(start + step * (count - 1)) / scale}:{step / scale}"
    assume("e" not in text)
    document = {"name": "x", "jobs": [{"name": "j_{p}", "command": "c", "parameters": {"p": text}}]}
    plan, found = compile_spec(json.dumps(document), format="json")
    assert plan is not None, [problem.render() for problem in found]
    shown = [f"{(start + step * n) / scale}".removesuffix(".0") for n in range(count)]  # as Torc 0.12 wrote floats
    assert [job.name for job in plan.jobs] == [f"j_{value}" for value in shown]


# -- dependencies -----------------------------------------------------------------------------------------------


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9))), min_size=1, max_size=10))
def test_jobs_wait_for_those_that_write_what_they_read(reads: list[tuple[set[int], set[int]]]) -> None:
    """Job n writes file n and data n; it reads of those that jobs before it write."""
    files = [{"name": f"f{n}", "path": f"f{n}"} for n in range(10)]
    data = [{"name": f"d{n}"} for n in range(10)]
    jobs, expected = [], {}
    for n, (some_files, some_data) in enumerate(reads):
        some_files, some_data = {f for f in some_files if f < n}, {d for d in some_data if d < n}
        jobs.append(
            {
                "name": f"j{n}",
                "command": "c",
                "input_files": [f"f{f}" for f in sorted(some_files)],
                "input_user_data": [f"d{d}" for d in sorted(some_data)],
                "output_files": [f"f{n}"],
                "output_user_data": [f"d{n}"],
            }
        )
        expected[n] = tuple(sorted(some_files | some_data))
    plan, _ = compile_spec(json.dumps({"name": "x", "files": files, "user_data": data, "jobs": jobs}), format="json")
    assert plan is not None
    assert {n: () if job.gate is None else plan.gates[job.gate] for n, job in enumerate(plan.jobs)} == expected
    assert len(set(plan.gates)) == len(plan.gates)


# -- the schema and the model -----------------------------------------------------------------------------------

good_names = st.text(string.ascii_letters + "_- é", min_size=1, max_size=6).filter(str.strip)
names = st.one_of(good_names, st.sampled_from(["", "a\nb", "x\x00", "{i}"]))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.floats(-2, 2, allow_nan=False),
    names,
    st.sampled_from(["2g", "512MB", "PT1H", "1-02:00:00", "30m", "PT", "product", "zip", "step"]),
)
anything = st.recursive(
    scalars, lambda s: st.one_of(st.lists(s, max_size=2), st.dictionaries(names, s, max_size=2)), max_leaves=4
)
plain = st.one_of(st.booleans(), st.integers(-3, 300), st.floats(-2, 2), good_names)


def documents(wrong: bool) -> st.SearchStrategy[Any]:
    """Return specs: all of the right shape, or some with something wrong in them."""

    def mostly(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any] = anything) -> st.SearchStrategy[Any]:
        return st.integers(0, 24).flatmap(lambda n: bad if wrong and n == 24 else good)

    def part(fields: dict[str, Any], *needed: str) -> st.SearchStrategy[Any]:
        good = st.fixed_dictionaries(
            {key: fields[key] for key in needed}, optional={k: v for k, v in fields.items() if k not in needed}
        )
        return mostly(good, good.map(lambda d: {**d, "oops": 1}))

    name, flag = mostly(good_names), mostly(st.booleans())
    parameters = mostly(
        st.dictionaries(
            st.sampled_from(["i", "rate"]), st.one_of(plain, st.lists(plain, min_size=1, max_size=2)), max_size=2
        )
    )
    requirement = {
        "name": name,
        "num_cpus": mostly(st.integers(1, 4)),
        "num_gpus": mostly(st.integers(0, 2)),
        "memory": mostly(st.sampled_from(["1m", "2GiB", "5"])),
        "runtime": mostly(st.sampled_from(["PT1H", "1d", "00:10"])),
    }
    job = {
        "name": name,
        "command": mostly(st.sampled_from(["true", "echo 'a'\n", "x \t\n\n y"])),
        "env": mostly(st.just({"A": "b"})),
        "priority": mostly(st.integers(0, 3)),
        "resource_requirements": mostly(st.one_of(good_names, part(requirement))),
        "depends_on": mostly(st.lists(name, max_size=2)),
        "parameters": parameters,
        "supports_termination": flag,
        "parameter_mode": mostly(st.sampled_from(["product", "zip"])),
        "input_file_regexes": mostly(st.lists(name, max_size=1)),
    }
    rule = part(
        {
            "exit_codes": mostly(st.lists(st.integers(0, 255), max_size=2)),
            "max_retries": mostly(st.integers(0, 3)),
            "match_categories": mostly(st.just(["timeout"])),
            "backoff": mostly(st.floats(1, 3)),
        }
    )
    action = {
        "trigger_type": mostly(st.just("on_workflow_start")),
        "action_type": mostly(st.just("run_commands")),
        "commands": mostly(st.just(["true", "date"])),
    }
    json_data = st.recursive(
        plain, lambda s: st.one_of(st.lists(s, max_size=2), st.dictionaries(good_names, s, max_size=2)), max_leaves=4
    )
    return part(
        {
            "name": name,
            "jobs": mostly(st.lists(part(job, "name", "command"), min_size=1, max_size=2)),
            "parameters": parameters,
            "files": mostly(st.lists(part({"name": name, "path": name}, "name", "path"), max_size=1)),
            "user_data": mostly(
                st.lists(part({"name": name, "data": json_data, "is_ephemeral": flag}, "name"), max_size=1)
            ),
            "resource_requirements": mostly(st.lists(part(requirement, "name"), max_size=1)),
            "failure_handlers": mostly(
                st.lists(
                    part({"name": name, "rules": mostly(st.lists(rule, min_size=1, max_size=2))}, "name", "rules"),
                    max_size=1,
                )
            ),
            "actions": mostly(st.lists(part(action, "trigger_type", "action_type"), max_size=1)),
            "resource_monitor": mostly(
                part(
                    {
                        "granularity": mostly(st.sampled_from(["TimeSeries", "summary"])),
                        "sample_interval_seconds": mostly(st.floats(0.5, 3)),
                    }
                )
            ),
            "slurm_defaults": mostly(
                st.dictionaries(
                    st.sampled_from(["qos", "mail-user", "time", "Ab_c"])
                    if wrong
                    else st.sampled_from(["qos", "mail-user"]),
                    plain,
                    max_size=2,
                )
            ),
            "metadata": mostly(st.dictionaries(good_names, json_data, max_size=2)),
            "execution": mostly(st.just("direct")),
            "compute_node_wait_for_new_jobs_seconds": mostly(st.integers(0, 5)),
        },
        "name",
        "jobs",
    )


@settings(
    max_examples=examples(600),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(documents(wrong=True))
def test_the_schema_and_the_model_accept_and_reject_the_same(document: Any) -> None:
    try:
        WorkflowSpec.model_validate(document)
        by_model = True
    except ValidationError:
        by_model = False
    assert VALIDATOR.is_valid(document) == by_model, [error.message for error in VALIDATOR.iter_errors(document)]


# -- writing ----------------------------------------------------------------------------------------------------


@settings(
    max_examples=examples(200),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(document=documents(wrong=False), format=st.sampled_from(FORMATS))
def test_a_spec_means_the_same_in_every_format(document: Any, format: Any) -> None:
    spec = WorkflowSpec.model_validate(document)
    again, found = parse_spec(write_spec(spec, format), format=format)
    assert again is not None, [problem.render() for problem in found]
    plan, _ = compile_spec(write_spec(spec, "json"), format="json")
    other, _ = compile_spec(write_spec(spec, format), format=format)
    assert other == plan


LINES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40).filter(str.strip)


@settings(max_examples=examples(200), deadline=None)
@given(command=LINES, format=st.sampled_from(FORMATS))
def test_a_command_survives_every_format_to_the_letter(command: str, format: Any) -> None:
    spec = WorkflowSpec.model_validate({"name": "x", "jobs": [{"name": "a", "command": command}]})
    again, found = parse_spec(write_spec(spec, format), format=format)
    assert again is not None, [problem.render() for problem in found]
    assert again.jobs[0].command == command
