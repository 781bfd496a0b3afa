"""Specs that ask for what was learnt."""

from __future__ import annotations

import json
from typing import Any

from torc.planning.history import LearnedRequest
from torc.spec.apply_estimates import AppliedEstimate, adopt
from torc.spec.compiler import compile_spec, parse_spec
from torc.spec.model import WorkflowSpec
from torc.spec.writer import write_spec

MIB = 1 << 20


def learnt(megabytes: int, seconds: int = 60) -> LearnedRequest:
    return LearnedRequest(megabytes * MIB, seconds, 7, "command", megabytes * MIB // 2, seconds / 2)


def adopted(
    jobs: list[dict[str, Any]], known: dict[int, LearnedRequest], **fields: Any
) -> tuple[Any, list[AppliedEstimate]]:
    spec, _ = parse_spec(json.dumps({"name": "w", "jobs": jobs, **fields}), format="json")
    assert isinstance(spec, WorkflowSpec)
    made, what = adopt(spec, known)
    plan, problems = compile_spec(write_spec(made, "yaml"), format="yaml")
    assert plan is not None, problems
    return {job.name: plan.requirements[job.requirement] for job in plan.jobs}, what


CLASSES = [{"name": "small", "num_cpus": 4, "memory": "64g", "runtime": "PT4H"}]


def test_a_class_of_which_all_is_known_asks_for_that() -> None:
    jobs = [
        {"name": "a_{i}", "command": "x.sh {i}", "resource_requirements": "small", "parameters": {"i": "1:3"}},
        {"name": "b", "command": "x.sh b", "resource_requirements": "small"},
    ]
    found, what = adopted(jobs, {0: learnt(512), 1: learnt(640, 120)}, resource_requirements=CLASSES)
    assert {requirement.name for requirement in found.values()} == {"small"}
    assert found["a_1"].request == (4, 0, 1, 640 * MIB, 120)
    assert [(item.templates, item.name) for item in what] == [((0, 1), "small")]


def test_templates_that_need_very_different_amounts_part_and_the_unknown_keep_theirs() -> None:
    jobs = [
        {"name": name, "command": f"python3 {name}.py", "resource_requirements": "small"}
        for name in ("fit", "plot", "new")
    ]
    found, _ = adopted(jobs, {0: learnt(512), 1: learnt(8192)}, resource_requirements=CLASSES)
    assert {name: requirement.name for name, requirement in found.items()} == {
        "fit": "small_fit",
        "plot": "small_plot",
        "new": "small",
    }
    assert found["fit"].request.num_cpus == 4 and found["new"].request.memory_bytes == 64 << 30


def test_templates_without_a_class_get_one() -> None:
    jobs = [
        {"name": "a", "command": "python3 fit.py"},
        {"name": "b", "command": "python3 train.py", "resource_requirements": {"num_gpus": 1, "memory": "9g"}},
        {"name": "c", "command": "true"},
    ]
    found, _ = adopted(jobs, {0: learnt(512), 1: learnt(512)})
    assert (found["a"].name, found["b"].name, found["b"].request.num_gpus) == ("fit", "train", 1)
    assert found["c"].name == "default"
