"""Specs that are almost right, in all formats: what is wrong with them is told, and nothing is ever raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from torc.spec.compiler import ExpansionLimits, compile_spec
from torc.spec.expansion.paths import placing

NAMES = st.sampled_from(
    ["a", "b", "a_{i}", "b_{j}", "{i}", "x_{i}_{j}", "a_{i:02d}", "a_{i:q}", "a_{nope}", "", "a\nb", "{i}{i}", "ü"]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "1:3",
            "3:1",
            "1:3:0",
            "1:",
            "001:003",
            "[1,2]",
            "[1,",
            "['a','b']",
            "@f.csv:a",
            "@f.csv:b",
            "@f.csv:z",
            "@f.txt",
            "@none",
            "",
            "0.0:1.0:0.5",
            "a",
            "1-3",
            "{1:3}",
            "1e309",
            "0x10",
            "${files.input.a}",
        ]
    ),
    st.integers(-3, 3),
    st.floats(allow_nan=True),
    st.booleans(),
    st.none(),
    st.lists(
        st.one_of(
            st.integers(-2, 2), st.sampled_from(["a", "b", "a\x00", "${files.output.b}", "%s", "{i}"]), st.floats()
        ),
        max_size=3,
    ),
)
TEXTS = st.lists(
    st.sampled_from(
        [
            "echo ",
            "{i}",
            "{j}",
            "{i:03d}",
            "${files.input.a}",
            "${files.output.b}",
            "${files.input.a_{i}}",
            "${file.input.a}",
            "${files.input.a",
            "${user_data.input.d}",
            "${user_data.output.d_{i}}",
            "${VAR}",
            "%",
            "%s",
            "'",
            '"',
            "$(",
            ")",
            "#",
            "{",
            "}",
            " ",
            "\n",
            "\\",
            "\x00",
            "ü",
        ]
    ),
    max_size=6,
).map("".join)
PATHS = st.sampled_from(
    ["a", "./a", "a/", "a/b", "a/b/../c", "{i}", "p_{i}", "/", ".", "..", "//x", "a/{i}/{j}", "${files.input.a}", ""]
)
REGEXES = st.sampled_from([".*", "a", "a_.*", "(", "{i}", "a_{i}", "(a+)+b", "[", "\\d", "b{2,1}"])
PARAMETERS = st.dictionaries(st.sampled_from(["i", "j", "k", "1bad"]), VALUES, max_size=2)
USED = st.lists(st.sampled_from(["i", "j", "k", "nope"]), max_size=2)
LISTED = st.lists(NAMES, max_size=2)
DATA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(NAMES, inner, max_size=2)),
    max_leaves=4,
)
ODD = st.one_of(DATA, PATHS)


def part(needed: dict[str, Any], more: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a mapping, now and then with a field that is missing, odd or unknown."""
    whole = st.fixed_dictionaries(needed, optional=more)
    fields = [*needed, *more, "oops"]

    def spoil(found: dict[str, Any], how: int, field: str, odd: Any) -> dict[str, Any]:
        if how == 0:
            return {**found, field: odd}
        return {key: value for key, value in found.items() if key != field} if how == 1 else found

    return st.builds(spoil, whole, st.integers(0, 15), st.sampled_from(fields), ODD)


SHARED = {"parameters": PARAMETERS, "use_parameters": USED, "parameter_mode": st.sampled_from(["product", "zip"])}
JOB = part(
    {"name": NAMES, "command": TEXTS},
    {
        **SHARED,
        "invocation_script": TEXTS,
        "env": st.dictionaries(st.sampled_from(["A", "B C"]), TEXTS, max_size=1),
        "depends_on": LISTED,
        "depends_on_regexes": st.lists(REGEXES, max_size=1),
        "input_files": LISTED,
        "output_files": LISTED,
        "input_file_regexes": st.lists(REGEXES, max_size=1),
        "output_file_regexes": st.lists(REGEXES, max_size=1),
        "input_user_data": LISTED,
        "output_user_data": LISTED,
        "priority": st.integers(-1, 3),
        "resource_requirements": st.one_of(
            NAMES,
            st.fixed_dictionaries({"memory": st.sampled_from(["1g", "lots", "010"]), "num_cpus": st.integers(0, 2)}),
        ),
        "failure_handler": NAMES,
        "scheduler": NAMES,
    },
)
SPEC = part(
    {"name": NAMES, "jobs": st.lists(JOB, min_size=1, max_size=3)},
    {
        "parameters": PARAMETERS,
        "env": st.dictionaries(st.just("A"), TEXTS, max_size=1),
        "files": st.lists(part({"name": NAMES, "path": PATHS}, SHARED), max_size=3),
        "user_data": st.lists(part({"name": NAMES}, {**SHARED, "data": DATA}), max_size=2),
        "resource_requirements": st.lists(part({"name": NAMES}, {"memory": st.sampled_from(["1g", "x"])}), max_size=2),
        "failure_handlers": st.lists(
            part(
                {"name": NAMES},
                {
                    "rules": st.lists(
                        part({}, {"exit_codes": st.lists(st.integers(-1, 300), max_size=2), "recovery_script": TEXTS}),
                        max_size=2,
                    )
                },
            ),
            max_size=2,
        ),
        "slurm_schedulers": st.lists(
            part({"name": NAMES}, {"walltime": st.sampled_from(["1:00", "x"]), "extra": TEXTS}), max_size=1
        ),
        "actions": st.lists(
            part(
                {
                    "trigger_type": st.sampled_from(["on_workflow_start", "on_jobs_ready", "x"]),
                    "action_type": st.sampled_from(["run_commands", "schedule_nodes"]),
                },
                {
                    "jobs": LISTED,
                    "commands": st.lists(TEXTS, max_size=2),
                    "scheduler": NAMES,
                    "job_name_regexes": st.lists(REGEXES, max_size=1),
                },
            ),
            max_size=2,
        ),
        "metadata": DATA,
        "slurm_defaults": st.dictionaries(st.sampled_from(["qos", "time", "x y"]), DATA, max_size=1),
    },
)


def kdl(value: Any) -> str:
    """Write a value of KDL 2; what it has no form for becomes text."""
    if value is None or isinstance(value, bool):
        return {None: "#null", True: "#true", False: "#false"}[value]
    return repr(value) if isinstance(value, int) else json.dumps(str(value))


def kdl_nodes(document: dict[str, Any]) -> str:
    """Write a document as KDL, freely: repeated nodes for lists of mappings, arguments for lists of values."""
    singular = {
        "jobs": "job",
        "files": "file",
        "failure_handlers": "failure_handler",
        "slurm_schedulers": "slurm_scheduler",
        "actions": "action",
        "rules": "rule",
    }
    lines: list[str] = []
    for key, value in document.items():
        name = json.dumps(singular.get(key, key))
        for item in value if isinstance(value, list) and any(isinstance(i, dict) for i in value) else [value]:
            if isinstance(item, dict):
                own = dict(item)
                head = (
                    f" {kdl(own.pop('name'))}"
                    if "name" in own and key in {*singular, "user_data", "resource_requirements"}
                    else ""
                )
                lines.append(f"{name}{head} {{\n{kdl_nodes(own)}\n}}")
            elif isinstance(item, list):
                lines.append(" ".join([name, *map(kdl, item)]))
            else:
                lines.append(f"{name} {kdl(item)}")
    return "\n".join(lines)


WRITERS: dict[str, Any] = {
    "yaml": lambda document: yaml.safe_dump(document, sort_keys=False),
    "json": json.dumps,
    "json5": lambda document: json.dumps(document).replace('"jobs"', "jobs") + " // end",
    "kdl": kdl_nodes,
}
TEXT_OF = {"f.csv": "a,b\n1,\n2,x\n", "f.txt": "p\n\nq\n"}


@pytest.mark.parametrize("format", WRITERS)
@settings(
    max_examples=examples(250),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(document=SPEC)
def test_a_spec_that_is_almost_right_gives_a_plan_or_diagnostics(format: Any, document: dict[str, Any]) -> None:
    text = WRITERS[format](document)
    plan, found = compile_spec(
        text, format=format, read=TEXT_OF.__getitem__, limits=ExpansionLimits(max_jobs=1_000), place=placing("/w")
    )
    assert (plan is None) == any(problem.severity == "error" for problem in found)
    for problem in found:
        assert problem.render()
        json.dumps(problem.to_dict())
    if plan is not None:
        assert all("${files." not in job.command and "${file." not in job.command for job in plan.jobs)
        assert all(file.producer is None or 0 <= file.producer < len(plan.jobs) for file in plan.files)
