"""Predict what jobs need from completed attempts with the same command (ignoring numbers) or else the same program."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import ceil
from typing import Literal, NamedTuple

from torc.failures.fingerprint import program_of

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(\.\d+)?([eE][+-]?\d+)?")
_SPACE = re.compile(r"\s+")
_LONGEST_SHAPE = 2000
#: an interpreter with an inline script does not count as a program: two of them have nothing in common
_INLINE = (" -c", " -e")
_ROUND_BYTES, _ROUND_SECONDS = 64 << 20, 60
_QUANTILE = 0.95
#: the request is at least this multiple of the highest use
_LEAST_MARGIN = 1.1

Match = Literal["command", "program"]


class UsageSample(NamedTuple):
    """What a completed attempt used."""

    command: str
    memory_bytes: int
    wall_seconds: float


class LearnedRequest(NamedTuple):
    """What to request, and on what evidence. In bytes and seconds."""

    memory_bytes: int
    runtime_seconds: int
    num_samples: int
    matched: Match
    most_memory_bytes: int
    longest_seconds: float


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile of some values by nearest rank, so that it is one of them. There must be at least one."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def needed(values: Sequence[float], margin: float) -> float:
    """Return what to request, given what was used: a margin above the 95th percentile, and a little above the maximum."""
    return max(quantile(values, _QUANTILE) * margin, max(values) * _LEAST_MARGIN)


@lru_cache(maxsize=65536)
def shape_of(command: str) -> str:
    """Return a command without its numbers, in which the members of a sweep differ."""
    return _SPACE.sub(" ", _NUMBER.sub("#", command[: 4 * _LONGEST_SHAPE])).strip()[:_LONGEST_SHAPE]


@lru_cache(maxsize=65536)
def _program(command: str) -> str:
    program = program_of(command)
    return "" if program.endswith(_INLINE) else program


class History:
    """What completed attempts used, by the shapes of their commands and by program."""

    def __init__(self, samples: Iterable[UsageSample], most_each: int = 10_000) -> None:
        self._by_shape: dict[str, list[UsageSample]] = defaultdict(list)
        self._by_program: dict[str, list[UsageSample]] = defaultdict(list)
        for sample in samples:
            for known, key in (
                (self._by_shape, shape_of(sample.command)),
                (self._by_program, _program(sample.command)),
            ):
                if key and len(known[key]) < most_each:
                    known[key].append(sample)

    def learn(self, command: str, margin: float, min_samples: int) -> LearnedRequest | None:
        """Return what a command should request; None if too few similar attempts have completed."""
        for matched, samples in (
            ("command", self._by_shape.get(shape_of(command), [])),
            ("program", self._by_program.get(_program(command), [])),
        ):
            if len(samples) >= min_samples:
                return _learnt(samples, margin, "command" if matched == "command" else "program")
        return None


def _learnt(samples: Sequence[UsageSample], margin: float, matched: Match) -> LearnedRequest:
    memory = [float(sample.memory_bytes) for sample in samples]
    wall = [sample.wall_seconds for sample in samples]
    return LearnedRequest(
        memory_bytes=max(1, ceil(needed(memory, margin) / _ROUND_BYTES)) * _ROUND_BYTES,
        runtime_seconds=max(1, ceil(needed(wall, margin) / _ROUND_SECONDS)) * _ROUND_SECONDS,
        num_samples=len(samples),
        matched=matched,
        most_memory_bytes=int(max(memory)),
        longest_seconds=max(wall),
    )


def together(learnt: Sequence[LearnedRequest]) -> LearnedRequest:
    """Return what suffices for all of several commands (at least one)."""
    matched: Match = "program" if any(item.matched == "program" for item in learnt) else "command"
    return LearnedRequest(
        max(item.memory_bytes for item in learnt),
        max(item.runtime_seconds for item in learnt),
        sum(item.num_samples for item in learnt),
        matched,
        max(item.most_memory_bytes for item in learnt),
        max(item.longest_seconds for item in learnt),
    )
