"""What observations of a cluster may change about an allocation: forward only, but for a requeue that the queue tells."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.planning.allocation_outcomes import InterruptedJob, end_explains_attempt, is_faultless, meaning
from torc.planning.allocations import (
    PHASES,
    AllocationState,
    AllocationStatus,
    Observation,
    began,
    busy_seconds,
    is_forgotten,
    merged,
    nodes_to_exclude,
    observe,
    phase_of,
)

S = AllocationState
ORDER = list(AllocationState)
words = st.sampled_from([*PHASES, "REVOKED", "CANCELLED by 1000", "SOMETHING_NEW"])
times = st.one_of(st.none(), st.floats(0, 10_000, allow_nan=False))
observations = st.builds(
    Observation,
    source=st.sampled_from(["queue", "accounting"]),
    cluster_state=words,
    started_at=times,
    ended_at=times,
    restarts=st.one_of(st.none(), st.integers(0, 3)),
)


@given(st.lists(observations, max_size=12))
def test_states_go_forward_but_for_requeues_that_the_queue_tells(seen: list[Observation]) -> None:
    standing = AllocationStatus()
    for now, observation in enumerate(seen):
        change = observe(standing, observation, float(now))
        if ORDER.index(change.standing.state) < ORDER.index(standing.state):
            assert change.requeued and observation.source == "queue" and standing.state is S.RUNNING
        assert not (standing.state is S.ENDED and not change.ended), "what is over stays over"
        assert (change.standing.ended_at is None) is (change.standing.state is not S.ENDED)
        assert change.standing.restarts >= standing.restarts
        standing = change.standing


@given(st.lists(observations, max_size=6), observations)
def test_the_same_observation_twice_is_once(before: list[Observation], last: Observation) -> None:
    standing = AllocationStatus()
    for observation in before:
        standing = observe(standing, observation, 1.0).standing
    once = observe(standing, last, 5.0)
    if not once.requeued:
        assert observe(once.standing, last, 9.0).standing == once.standing


def test_the_accounting_is_not_believed_while_the_queue_has_it() -> None:
    queue = Observation("queue", "PENDING", reason="BeginTime")
    old = Observation("accounting", "NODE_FAIL", ended_at=3.0)
    assert merged(queue, old) is queue
    assert merged(replace(queue, cluster_state="COMPLETED"), old) is not None
    assert phase_of("CANCELLED by 0") is S.ENDED and phase_of("COMPLETED+") is S.ENDED and phase_of("REVOKED") is None


def test_a_requeue_between_two_polls_is_seen_by_its_start() -> None:
    running = AllocationStatus(S.RUNNING, "RUNNING", started_at=100.0)
    assert not observe(running, Observation("queue", "RUNNING", started_at=101.0), 200.0).requeued
    change = observe(running, Observation("queue", "RUNNING", started_at=400.0), 500.0)
    assert change.requeued and change.standing.started_at == 400.0 and change.standing.restarts == 1
    late = observe(change.standing, Observation("accounting", "NODE_FAIL", ended_at=300.0), 501.0)
    assert late.standing.state is S.RUNNING, "that was the run before"


def test_silence_means_nothing_for_long() -> None:
    running = AllocationStatus(S.RUNNING, "RUNNING", started_at=0.0)
    about = {"known_to_cluster": True, "last_seen_at": 3600.0, "walltime_seconds": 7200.0}
    assert not is_forgotten(running, now=7000.0, **about)  # type: ignore[arg-type]
    assert is_forgotten(running, now=9000.0, **about)  # type: ignore[arg-type]
    unknown = {"known_to_cluster": False, "last_seen_at": 0.0, "walltime_seconds": 60.0}
    assert not is_forgotten(AllocationStatus(), now=300.0, **unknown)  # type: ignore[arg-type]
    assert is_forgotten(AllocationStatus(), now=1000.0, **unknown)  # type: ignore[arg-type]


def test_a_runner_that_speaks_is_proof_that_its_allocation_runs() -> None:
    assert began(AllocationStatus(S.PENDING, "PENDING", "Priority"), "n1", 7.0) == AllocationStatus(
        S.RUNNING, "RUNNING", nodes=("n1",), started_at=7.0
    )


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=8))
def test_what_overlaps_is_counted_once(spans: list[tuple[int, int]]) -> None:
    seconds = {second for start, length in spans for second in range(start, start + length)}
    assert busy_seconds([(float(start), float(start + length)) for start, length in spans]) == len(seconds)


def test_nodes_that_failed_just_now_or_repeatedly_are_left_out() -> None:
    failures = [("n1", 0.0), ("n2", 9000.0), ("n3", 0.0), ("n3", 100.0)]
    assert nodes_to_exclude(failures, 10_000.0) == ("n2", "n3")


@pytest.mark.parametrize(
    ("state", "wall", "expected"),
    [
        ("OUT_OF_MEMORY", 5.0, "out_of_memory"),
        ("TIMEOUT", 60.0, "timeout"),
        ("TIMEOUT", 5.0, "lost"),
        ("DEADLINE", 61.0, "timeout"),
        ("TIMEOUT", None, "lost"),
        ("NODE_FAIL", 60.0, "lost"),
        ("PREEMPTED", 60.0, "lost"),
        ("BOOT_FAIL", None, "lost"),
        ("CANCELLED by 0", 60.0, "interrupted"),
        ("FAILED", 60.0, "lost"),
        ("COMPLETED", 60.0, "lost"),
        ("REQUEUED", 60.0, "lost"),
    ],
)
def test_what_the_end_of_an_allocation_means_for_a_job_in_it(state: str, wall: float | None, expected: str) -> None:
    assert meaning(state, InterruptedJob(wall, 60.0)) == expected


def test_only_ends_that_are_nobodys_fault_may_happen_for_ever() -> None:
    assert is_faultless("PREEMPTED") and is_faultless("REQUEUED")
    assert not is_faultless("NODE_FAIL") and not is_faultless(None)
    assert end_explains_attempt("OUT_OF_MEMORY", None, 137)
    assert not end_explains_attempt("OUT_OF_MEMORY", None, 1) and not end_explains_attempt("FAILED", None, 137)
    assert end_explains_attempt("PREEMPTED", "runner_stopped", 143) and not end_explains_attempt(
        "COMPLETED", "runner_stopped", 143
    )
