"""What grows with what: rows, never their product."""

from __future__ import annotations

import pytest

from torc.spec.compiler import ExpansionLimits, compile_spec


def test_a_barrier_of_files_is_one_gate_and_one_input_set() -> None:
    plan, _ = compile_spec(
        """
name: barrier
parameters: {i: "1:300"}
files: [{name: "f_{i}", path: "f_{i}", use_parameters: [i]}]
jobs:
  - {name: "write_{i}", command: "true", use_parameters: [i], output_files: ["f_{i}"]}
  - {name: "read_{j}", command: "true", use_parameters: [i], parameters: {j: "1:300"}, input_files: ["f_{i}"]}
""",
        format="yaml",
    )
    assert plan is not None
    assert len(plan.jobs) == 600
    assert [len(gate) for gate in plan.gates] == [300]
    assert [len(inputs.files) for inputs in plan.input_sets] == [300]


def test_jobs_of_a_template_share_what_is_equal() -> None:
    plan, _ = compile_spec(
        'name: s\njobs: [{name: "j_{i}", command: "c {i}", env: {A: b}, parameters: {i: "1:1000"}, '
        "resource_requirements: {memory: 1g}}]",
        format="yaml",
    )
    assert plan is not None
    assert len(plan.requirements) == 1
    assert len({id(job.env) for job in plan.jobs}) == 1


@pytest.mark.usefixtures("large")
def test_an_expansion_that_is_too_large_is_refused_before_it_is_made() -> None:
    text = 'name: s\njobs: [{name: "j_{a}_{b}", command: c, parameters: {a: "1:1000000", b: "1:1000000"}}]'
    plan, found = compile_spec(text, format="yaml")
    assert plan is None
    assert [problem.code for problem in found] == ["too_many"]


def test_a_document_that_is_too_large_is_refused_before_it_is_read() -> None:
    plan, found = compile_spec("name: x" + " " * 100, format="yaml", limits=ExpansionLimits(max_characters=50))
    assert plan is None
    assert [problem.code for problem in found] == ["too_large"]
