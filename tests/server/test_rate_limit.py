"""Guessing and asking too often, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.server.problems import Busy, TooMany
from torc.server.rate_limit import _MOST_KEYS, BoundedQueue, FailureDelay, RequestRate, network_of, region_of


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def is_open(misses: FailureDelay, key: str = "a") -> bool:
    try:
        misses.check(key)
    except TooMany:
        return False
    return True


def test_each_further_miss_costs_twice_as_long_up_to_a_bound() -> None:
    clock = Clock()
    misses = FailureDelay(3, 60.0, clock)
    waits = []
    for _ in range(12):
        misses.miss("a")
        began = clock.now
        while not is_open(misses):
            clock.now += 0.5
        waits.append(clock.now - began)
        assert is_open(misses, "b")
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    misses.hit("a")
    misses.miss("a")
    assert is_open(misses)


def test_misses_are_forgotten_after_a_while() -> None:
    clock = Clock()
    misses = FailureDelay(2, 10.0, clock)
    for _ in range(3):
        misses.miss("a")
    clock.now += 2.0 + 10.0 + 0.1
    misses.miss("a")
    assert is_open(misses)


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from("ab")), max_size=200))
def test_nobody_gets_more_than_the_rate_and_what_was_saved(calls: list[tuple[float, str]]) -> None:
    clock = Clock()
    rate = RequestRate(2.0, 5.0, clock)
    passed = {"a": 0, "b": 0}
    for pause, who in calls:
        clock.now += pause
        try:
            rate.take(who)
        except TooMany:
            continue
        passed[who] += 1
    assert max(passed.values()) <= 5 + 2.0 * (clock.now - 1000.0) + 1e-6


def test_memory_is_bounded() -> None:
    misses, rate = FailureDelay(1, 10.0), RequestRate(1.0, 1.0)
    for number in range(_MOST_KEYS + 100):
        misses.miss(str(number))
        rate.take(str(number))
    assert len(misses._known) == len(rate._known) == _MOST_KEYS
    assert is_open(misses, "0")
    assert not is_open(misses, str(_MOST_KEYS + 99))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a socket", "a socket"),
    ],
)
def test_one_customer_of_a_network_is_one_caller(address: str, network: str) -> None:
    assert network_of(address) == network


def test_more_than_can_be_done_soon_is_refused_at_once_and_taken_again_when_there_is_room() -> None:
    async def ask() -> None:
        bounded, go = BoundedQueue(3, "test", "ask"), threading.Event()
        waiting = [bounded.begin(go.wait) for _ in range(3)]
        with pytest.raises(Busy, match="too many ask at once") as refused:
            bounded.begin(go.wait)
        assert refused.value.details["retry_after"] == 1
        go.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await bounded.begin(go.wait)

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("address", "region"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2::5", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_region_is_what_somebody_with_many_networks_has(address: str, region: str) -> None:
    assert region_of(address) == region
