"""The decision: every right of a token, every right to a workflow, every need."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.workflow.access import LEVELS, Access, AccessDecision, Rights, decide, includes

HELD: list[Access | None] = [None, "read", "run", "write"]
rights = st.builds(
    Rights,
    user=st.just("ada"),
    account_id=st.just(1),
    is_admin=st.booleans(),
    scope=st.sampled_from(LEVELS),
    workflow_id=st.sampled_from([None, 1, 2]),
)
workflows = st.none() | st.tuples(st.just(1), st.sampled_from(HELD))


def ada(scope: Access, *, is_admin: bool = False, workflow_id: int | None = None) -> Rights:
    return Rights("ada", 1, is_admin, scope, workflow_id)


@pytest.mark.parametrize(("needed", "scope", "held"), list(itertools.product(LEVELS[:3], LEVELS[:3], HELD)))
def test_a_caller_may_do_what_both_its_token_and_its_right_to_the_workflow_allow(
    needed: Access, scope: Access, held: Access | None
) -> None:
    expected = AccessDecision.HIDDEN
    if held is not None:
        both = LEVELS.index(needed) <= min(LEVELS.index(scope), LEVELS.index(held))
        expected = AccessDecision.ALLOWED if both else AccessDecision.REFUSED
    assert decide(needed, ada(scope), (1, held)) is expected


def test_an_administrator_sees_all_with_a_token_that_says_so_and_only_then() -> None:
    assert decide("write", ada("admin", is_admin=True), (1, None)) is AccessDecision.ALLOWED
    assert decide("admin", ada("admin", is_admin=True), None) is AccessDecision.ALLOWED
    for scope in LEVELS[:3]:
        assert decide("read", ada(scope, is_admin=True), (1, None)) is AccessDecision.HIDDEN
        assert decide("admin", ada(scope, is_admin=True), None) is AccessDecision.REFUSED
    assert decide("read", ada("admin"), (1, None)) is AccessDecision.HIDDEN
    assert decide("admin", ada("admin"), None) is AccessDecision.REFUSED


def test_a_token_for_one_workflow_is_for_that_one_alone() -> None:
    assert decide("run", ada("run", workflow_id=1), (1, "write")) is AccessDecision.ALLOWED
    assert decide("read", ada("run", workflow_id=2), (1, "write")) is AccessDecision.HIDDEN
    assert decide("read", ada("admin", is_admin=True, workflow_id=2), (1, None)) is AccessDecision.HIDDEN
    assert decide("write", ada("write", workflow_id=1), None) is AccessDecision.REFUSED


@given(rights=rights, workflow=workflows, needed=st.sampled_from(LEVELS))
def test_who_may_do_more_may_do_less(
    rights: Rights, workflow: tuple[int, Access | None] | None, needed: Access
) -> None:
    if decide(needed, rights, workflow) is AccessDecision.ALLOWED:
        assert includes(rights.scope, needed)
        for less in LEVELS[: LEVELS.index(needed)]:
            assert decide(less, rights, workflow) is AccessDecision.ALLOWED


@given(rights=rights, held=st.sampled_from(HELD), needed=st.sampled_from(LEVELS))
def test_what_is_hidden_is_hidden_whatever_is_asked(rights: Rights, held: Access | None, needed: Access) -> None:
    hidden = decide("read", rights, (1, held)) is AccessDecision.HIDDEN
    assert (decide(needed, rights, (1, held)) is AccessDecision.HIDDEN) is hidden
