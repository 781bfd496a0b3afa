"""Failure handlers that look at the diagnosis, and give the next attempt more."""

from __future__ import annotations

from typing import Any

from tests.support.workflows import ended, exchange, jobs, runner, states, workflow
from torc.api.base import Torc
from torc.api.data import ListRequirements
from torc.api.events import ListEvents
from torc.api.runs import Assignment

GIB = 1 << 30
CLASSES = {"resource_requirements": [{"name": "small", "num_cpus": 2, "memory": "1g", "runtime": "PT10M"}]}


def handled(torc: Torc, chains: str, rules: list[dict[str, Any]]) -> int:
    own = {
        name: {"failure_handler": "h", "resource_requirements": "small"} for name in chains.replace("->", " ").split()
    }
    return workflow(torc, chains, failure_handlers=[{"name": "h", "rules": rules}], jobs=own, **CLASSES)


def attempt(torc: Torc, wf: int, number: int, texts: dict[str, str], **more: Any) -> dict[str, Assignment]:
    """Claim everything and have the named jobs fail, each with what it wrote; returns what was claimed."""
    given = {item.name: item for item in exchange(torc, wf, number, limit=100).assignments}
    reports = [ended(given[name], "failed", 1, stderr_tail=text, **more) for name, text in texts.items()]
    exchange(torc, wf, number, finished=reports)
    return given


def test_a_rule_for_a_category_is_for_that_category(torc: Torc) -> None:
    wf = handled(torc, "a b c", [{"match_categories": ["network", "license"], "max_retries": 1}])
    number = runner(torc, wf)
    attempt(torc, wf, number, {"a": "curl: (7) Connection refused", "b": "MemoryError", "c": ""})
    assert states(torc, wf) == "a:ready b:failed c:failed"
    attempt(torc, wf, number, {"a": "curl: (7) Connection refused"})
    assert states(torc, wf) == "a:failed b:failed c:failed"


def test_a_multiplier_gives_the_next_attempt_more_and_no_other_job(torc: Torc) -> None:
    rule = {
        "match_categories": ["out_of_memory"],
        "memory_multiplier": 2.0,
        "runtime_multiplier": 1.5,
        "max_retries": 2,
    }
    wf = handled(torc, "a b c", [rule])
    number = runner(torc, wf)
    attempt(torc, wf, number, {"a": "MemoryError", "b": "MemoryError"})
    classes = {item.name: item for item in torc.send(ListRequirements(workflow_id=wf)).items}
    assert set(classes) == {"small", "small__raised_1"}
    made = classes["small__raised_1"]
    assert (made.num_cpus, made.memory_bytes, made.runtime_seconds) == (2, 2 * GIB, 900)
    assert classes["small"].memory_bytes == GIB
    names = {name: job.requirement_name for name, job in jobs(torc, wf).items()}
    assert names == {"a": "small__raised_1", "b": "small__raised_1", "c": "small"}
    told = torc.send(ListEvents(workflow_id=wf, type="job_resources_raised")).items
    assert [event.data["memory_bytes"] for event in told] == [[GIB, 2 * GIB]] * 2
    usage = {"peak_memory_bytes": 3 * GIB}
    attempt(torc, wf, number, {"a": "MemoryError"}, usage=usage)
    assert jobs(torc, wf)["a"].requirement_name == "small__raised_2"
    sizes = {item.name: item.memory_bytes for item in torc.send(ListRequirements(workflow_id=wf)).items}
    assert sizes["small__raised_2"] == 6 * GIB, "twice what was used, where that is more than was asked for"


def test_an_exit_code_is_as_good_a_reason_as_a_category(torc: Torc) -> None:
    wf = handled(torc, "a", [{"exit_codes": [1], "runtime_multiplier": 3}])
    number = runner(torc, wf)
    attempt(torc, wf, number, {"a": ""})
    name = jobs(torc, wf)["a"].requirement_name
    assert {item.name: item.runtime_seconds for item in torc.send(ListRequirements(workflow_id=wf)).items}[name] == 1800


def test_each_rule_counts_its_own_retries_and_then_somebody_decides(torc: Torc) -> None:
    rules = [
        {"match_categories": ["network"], "max_retries": 1},
        {"exit_codes": [1], "max_retries": 2, "recovery_script": "./mend.sh"},
    ]
    own = {"a": {"failure_handler": "h", "resource_requirements": "small"}}
    handlers = [{"name": "h", "rules": rules}]
    wf = workflow(torc, "a", failure_handlers=handlers, jobs=own, use_pending_failed=True, **CLASSES)
    number = runner(torc, wf)
    away, other = "curl: (7) Connection refused", ""
    seen = []
    for text in (away, other, away, other):
        assert states(torc, wf) == "a:ready"
        given = attempt(torc, wf, number, {"a": text})["a"]
        seen.append((given.recovery_script, given.previous_return_code))
    # by the first rule, then by the second (also for the network, when the first is used up), which mends something before
    assert seen == [(None, None), (None, 1), ("./mend.sh", 1), ("./mend.sh", 1)]
    assert states(torc, wf) == "a:pending_failed", "both are used up: it waits for a decision"
