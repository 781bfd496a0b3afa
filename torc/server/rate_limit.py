"""Slows down guessing and limits request rates. Memory is bounded: the least recently used entries are dropped first."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from torc.server.problems import Busy, TooMany

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Clock = Callable[[], float]
_MOST_KEYS = 20_000


class _Bounded(OrderedDict[K, V], Generic[K, V]):
    """Drops the least recently used entries."""

    def keep(self, key: K, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > _MOST_KEYS:
            self.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Misses:
    number: int
    until: float  # nothing is tried earlier


class FailureDelay:
    """Doubles the delay with each further failure, after a number of free ones.

    `free`: number of failures without delay; `longest_seconds`: maximum delay, and time without failures after which all is forgotten.
    """

    def __init__(self, free: int, longest_seconds: float, clock: Clock = time.monotonic) -> None:
        self._free, self._longest, self._clock = free, longest_seconds, clock
        self._known: _Bounded[str, _Misses] = _Bounded()

    def check(self, key: str) -> None:
        """Raise TooMany if it is too early for another attempt."""
        found = self._known.get(key)
        wait = found.until - self._clock() if found else 0.0
        if wait > 0:
            seconds = int(wait) + 1
            raise TooMany(
                "too many wrong passwords or tokens came from there",
                hint=f"try again in {seconds} s",
                retry_after=seconds,
            )

    def knows(self, key: str) -> bool:
        """Return whether there are recent failures."""
        return key in self._known

    def miss(self, key: str) -> None:
        """Count a failure."""
        now = self._clock()
        found = self._known.get(key)
        number = 1 if found is None or now > found.until + self._longest else found.number + 1
        over = number - self._free
        wait = 0.0 if over < 0 else min(2.0 ** min(over, 40), self._longest)
        self._known.keep(key, _Misses(number, now + wait))

    def hit(self, key: str) -> None:
        """Forget the failures."""
        self._known.pop(key, None)


class RequestRate:
    """Limits the requests per second of each caller, with some burst (one token bucket each)."""

    def __init__(self, per_second: float, at_once: float, clock: Clock = time.monotonic) -> None:
        self._per_second, self._at_once, self._clock = per_second, at_once, clock
        self._known: _Bounded[str, tuple[float, float]] = _Bounded()

    def take(self, key: str) -> None:
        """Count a request. Raises TooMany."""
        now = self._clock()
        left, seen = self._known.get(key, (self._at_once, now))
        left = min(self._at_once, left + (now - seen) * self._per_second)
        if left < 1.0:
            self._known.keep(key, (left, now))
            raise TooMany(
                f"you send more than {self._per_second:g} requests per second",
                hint="request more at once: lists have a `limit`, and events have a stream",
                retry_after=1,
            )
        self._known.keep(key, (left - 1.0, now))


class BoundedQueue:
    """Runs tasks one after another on a separate thread, and rejects more than it can run soon."""

    def __init__(self, most: int, name: str, what: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._places = threading.BoundedSemaphore(most)
        self._what = what

    def begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a task. Raises Busy at once if too many are waiting."""
        if not self._places.acquire(blocking=False):
            raise Busy(f"too many {self._what} at once", hint="try again in a moment", retry_after=1)
        try:
            asked = self._thread.submit(work)
        except BaseException:
            self._places.release()
            raise
        asked.add_done_callback(lambda _: self._places.release())
        return asyncio.wrap_future(asked)


def network_of(address: str) -> str:
    """Return the network of a single client: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)


def region_of(address: str) -> str:
    """Return the network of a client with many addresses: the /24 of an IPv4 address, the /48 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(network_of(address).partition("/")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(found), 48), strict=False))
    return str(ipaddress.IPv4Network((int(found), 24), strict=False))
