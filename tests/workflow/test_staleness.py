"""Which finished jobs must run again, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.graphs import acyclic_prerequisites, graph_from, plain_graph
from torc.workflow.graph import downstream
from torc.workflow.staleness import (
    MISSING,
    FileObservation,
    JobFacts,
    Reruns,
    TrackedFile,
    find_reruns,
    fingerprint,
    fingerprint_changes,
)
from torc.workflow.states import State

FACT = FileObservation(True, 10, 1000, "aa")
TOUCHED = FileObservation(True, 10, 2000)


def prints(
    command: str,
    script: str | None = None,
    env: Mapping[str, str] | None = None,
    user_data: Mapping[str, object] | None = None,
) -> str:
    executed = {"command": command, "invocation_script": script, "env": env or {}}
    return fingerprint(executed, user_data or {})


def cannot_tell(path: str) -> None:
    return None


@dataclass
class Case:
    """A workflow that completed and of which nothing has changed; tests then change something."""

    text: str
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    writes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    now: dict[str, FileObservation] = field(default_factory=dict)
    recorded: dict[str, FileObservation | None] = field(default_factory=dict)

    def reruns(self, hash_of: Callable[[str], str | None] = cannot_tell) -> Reruns:
        graph, names = graph_from(self.text)
        paths = sorted({path for group in (self.reads, self.writes) for files in group.values() for path in files})
        sets = [[paths.index(path) for path in self.reads.get(name, ())] for name in names]
        jobs = JobFacts(
            names=names,
            states=[self.states.get(name, State.COMPLETED) for name in names],
            recorded=[prints("true")] * len(names),
            current=[prints(self.commands.get(name, "true")) for name in names],
            input_set_of=[number if members else None for number, members in enumerate(sets)],
            input_sets=sets,
            outputs=[[paths.index(path) for path in self.writes.get(name, ())] for name in names],
        )
        files = [TrackedFile(path, self.recorded.get(path, FACT), self.now.get(path, FACT)) for path in paths]
        return find_reruns(graph, jobs, files, hash_of)

    def reasons(self, hash_of: Callable[[str], str | None] = cannot_tell) -> dict[str, str]:
        _, names = graph_from(self.text)
        return {names[job]: reason for job, reason in self.reruns(hash_of).reasons.items()}


def test_where_nothing_changed_nothing_runs_again() -> None:
    assert Case("a -> b", reads={"a": ("in",), "b": ("mid",)}, writes={"a": ("mid",)}).reruns() == Reruns({})


def test_a_changed_command_reruns_its_job_and_all_behind_it_each_with_the_reason() -> None:
    case = Case("a -> b -> c, d", commands={"a": "false"})
    assert case.reasons() == {"a": "command changed", "b": "upstream job a reruns", "c": "upstream job b reruns"}


def test_a_touched_input_is_hashed_and_reruns_nothing_when_its_content_is_the_same() -> None:
    case = Case("a b", reads={"a": ("in",), "b": ("in",)}, now={"in": TOUCHED})
    asked: list[str] = []

    def same(path: str) -> str:
        asked.append(path)
        return "aa"

    assert case.reasons(same) == {}
    assert asked == ["in"]
    assert case.reasons(lambda path: "bb") == {name: "input file in changed" for name in "ab"}


def test_a_content_that_is_not_known_yet_is_asked_for() -> None:
    case = Case("a", reads={"a": ("in",)}, now={"in": TOUCHED})
    assert case.reruns().needs_hash == ("in",)
    case.now["in"] = TOUCHED._replace(sha256="aa")
    assert case.reruns() == Reruns({})


def test_a_file_of_another_size_has_changed_and_needs_no_hash() -> None:
    case = Case("a", reads={"a": ("in",)}, now={"in": FileObservation(True, 11, 1000)})
    assert case.reruns() == Reruns({0: "input file in changed"})


def test_a_touched_file_whose_content_was_never_recorded_counts_as_changed() -> None:
    case = Case("a", reads={"a": ("in",)}, now={"in": TOUCHED}, recorded={"in": FACT._replace(sha256=None)})
    assert case.reruns() == Reruns({0: "input file in changed"})


@pytest.mark.parametrize(
    ("recorded", "now", "reason"),
    [(FACT, MISSING, "is missing"), (None, FACT, "is new"), (MISSING, FACT, "is new"), (None, MISSING, "is missing")],
)
def test_inputs_that_came_or_went_rerun_their_readers(
    recorded: FileObservation | None, now: FileObservation, reason: str
) -> None:
    case = Case("a", reads={"a": ("in",)}, now={"in": now}, recorded={"in": recorded})
    assert case.reasons() == {"a": f"input file in {reason}"}


def test_a_missing_output_reruns_the_job_that_writes_it() -> None:
    case = Case("a -> b", writes={"a": ("x", "y", "z"), "b": ("w",)}, now={"x": MISSING, "y": MISSING})
    assert case.reasons() == {"a": "output x is missing (and 1 more outputs)", "b": "upstream job a reruns"}


def test_a_changed_output_reruns_its_readers_and_not_its_writer() -> None:
    case = Case("a -> b", reads={"b": ("mid",)}, writes={"a": ("mid",)}, now={"mid": FileObservation(True, 9, 5)})
    assert case.reasons() == {"b": "input file mid changed"}


def test_all_reasons_of_a_job_are_told() -> None:
    case = Case("a", {"a": ("in",)}, {"a": ("out",)}, commands={"a": "x"}, now={"in": MISSING, "out": MISSING})
    assert case.reasons() == {"a": "command changed; input file in is missing; output out is missing"}


def test_unsuccessful_jobs_run_again_and_disabled_ones_never() -> None:
    states = {"a": State.FAILED, "b": State.CANCELED, "c": State.DISABLED, "d": State.COMPLETED}
    case = Case("a -> b, c -> d", states=states, commands={"c": "x"})
    assert case.reasons() == {"a": "it was failed before", "b": "it was canceled before"}


def test_a_disabled_job_passes_nothing_on() -> None:
    assert Case("a -> b -> c", states={"b": State.DISABLED}, commands={"a": "x"}).reasons() == {"a": "command changed"}


def test_what_completed_behind_a_job_that_has_yet_to_run_runs_again() -> None:
    assert Case("a -> b", states={"a": State.READY}).reasons() == {"b": "upstream job a has yet to run"}


@given(acyclic_prerequisites(fewest_jobs=1), st.data())
def test_what_reruns_is_what_changed_and_all_behind_it(prerequisites: list[list[int]], data: st.DataObject) -> None:
    graph = plain_graph(prerequisites)
    count = len(graph)
    changed = data.draw(st.lists(st.integers(0, count - 1), unique=True))
    jobs = JobFacts(
        names=[f"j{job}" for job in range(count)],
        states=[State.COMPLETED] * count,
        recorded=[prints("old")] * count,
        current=[prints("new" if job in changed else "old") for job in range(count)],
        input_set_of=[None] * count,
        input_sets=[],
        outputs=[()] * count,
    )
    reasons = find_reruns(graph, jobs, []).reasons
    assert list(reasons) == sorted(downstream(graph, changed))
    assert {job for job, reason in reasons.items() if reason == "command changed"} == set(changed)


texts = st.text(max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
parts = st.tuples(
    texts,
    st.none() | texts,
    st.dictionaries(texts, texts, max_size=3),
    st.dictionaries(texts, json_values, max_size=12),
)


@given(parts, parts)
def test_fingerprints_are_equal_exactly_when_what_they_are_of_is(
    one: tuple[str, str | None, dict[str, str], dict[str, object]],
    other: tuple[str, str | None, dict[str, str], dict[str, object]],
) -> None:
    a, b = prints(*one), prints(*other)
    assert (a == b) == (repr(_sorted(one)) == repr(_sorted(other)))
    assert (fingerprint_changes(a, b) == ()) == (a == b)


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return sorted((key, _sorted(inner)) for key, inner in value.items())
    return [_sorted(inner) for inner in value] if isinstance(value, list | tuple) else value


def test_the_order_of_variables_does_not_matter() -> None:
    assert prints("c", None, {"A": "1", "B": "2"}, {}) == prints("c", None, {"B": "2", "A": "1"}, {})


def test_a_fingerprint_tells_what_changed_by_name() -> None:
    old = prints("c", None, {"A": "1"}, {"x": 1, "y": [2]})
    new = prints("d", "bash", {"A": "2"}, {"x": 1, "y": [3], "z": 4})
    assert fingerprint_changes(old, new) == (
        "command changed",
        "invocation script changed",
        "environment changed",
        "user data y changed",
        "user data z changed",
    )


def test_a_fingerprint_stays_short_however_much_user_data_is_read() -> None:
    many = {f"name_{number}": number for number in range(1000)}
    old, new = prints("c", None, {}, many), prints("c", None, {}, many | {"name_7": 0})
    assert len(old) < 200
    assert fingerprint_changes(old, new) == ("user data changed",)
