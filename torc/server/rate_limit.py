"""Slows down who guesses, and who asks too often. Memory is bounded: what was heard of longest ago is forgotten first."""

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
    """Forgets what was heard of longest ago."""

    def keep(self, key: K, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > _MOST_KEYS:
            self.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Misses:
    number: int
    until: float  # nothing is tried before


class FailureDelay:
    """Makes each further miss cost twice the waiting of the one before, after some that are free.

    `free`: how many cost nothing; `longest_seconds`: no waiting is longer; as long without a miss, and all is forgotten.
    """

    def __init__(self, free: int, longest_seconds: float, clock: Clock = time.monotonic) -> None:
        self._free, self._longest, self._clock = free, longest_seconds, clock
        self._known: _Bounded[str, _Misses] = _Bounded()

    def check(self, key: str) -> None:
        """Raise TooMany when it is too early to try."""
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
        """Return whether misses are remembered."""
        return key in self._known

    def miss(self, key: str) -> None:
        """Count a miss."""
        now = self._clock()
        found = self._known.get(key)
        number = 1 if found is None or now > found.until + self._longest else found.number + 1
        over = number - self._free
        wait = 0.0 if over < 0 else min(2.0 ** min(over, 40), self._longest)
        self._known.keep(key, _Misses(number, now + wait))

    def hit(self, key: str) -> None:
        """Forget the misses."""
        self._known.pop(key, None)


class RequestRate:
    """Lets each caller ask so many times a second, and some more at once (a token bucket each)."""

    def __init__(self, per_second: float, at_once: float, clock: Clock = time.monotonic) -> None:
        self._per_second, self._at_once, self._clock = per_second, at_once, clock
        self._known: _Bounded[str, tuple[float, float]] = _Bounded()

    def take(self, key: str) -> None:
        """Count a call. Raises TooMany."""
        now = self._clock()
        left, seen = self._known.get(key, (self._at_once, now))
        left = min(self._at_once, left + (now - seen) * self._per_second)
        if left < 1.0:
            self._known.keep(key, (left, now))
            raise TooMany(
                f"more than {self._per_second:g} calls a second come from you",
                hint="ask for more at once: lists have a `limit`, events a stream",
                retry_after=1,
            )
        self._known.keep(key, (left - 1.0, now))


class BoundedQueue:
    """Does one thing after the other on a thread of its own, and takes no more of them than it can do soon."""

    def __init__(self, most: int, name: str, what: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._places = threading.BoundedSemaphore(most)
        self._what = what

    def begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have something done when its turn comes. Raises Busy at once where too many wait."""
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
    """Return what one customer of a network has: an IPv4 address, or the /64 of an IPv6 one."""
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
    """Return what somebody has who has many networks: the /24 of an IPv4 address, the /48 of an IPv6 one."""
    try:
        found = ipaddress.ip_address(network_of(address).partition("/")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(found), 48), strict=False))
    return str(ipaddress.IPv4Network((int(found), 24), strict=False))
