"""Amounts of memory and time as options give them: read, or refused by the name of the option."""

from __future__ import annotations

from typing import overload

from torc.errors import Invalid
from torc.units import parse_duration, parse_memory


@overload
def memory_bytes(text: str, option: str) -> int:
    """Read an amount of memory. Raises Invalid."""


@overload
def memory_bytes(text: str | None, option: str) -> int | None:
    """Do so where it was given."""


def memory_bytes(text: str | None, option: str) -> int | None:
    """Read an amount of memory; None: it was not given. Raises Invalid."""
    try:
        return None if text is None else parse_memory(text)
    except ValueError as error:
        raise Invalid(f"{option}: {error}") from None


@overload
def seconds(text: str, option: str) -> int:
    """Read a duration. Raises Invalid."""


@overload
def seconds(text: str | None, option: str) -> int | None:
    """Do so where it was given."""


def seconds(text: str | None, option: str) -> int | None:
    """Read a duration; None: it was not given. Raises Invalid."""
    try:
        return None if text is None else int(parse_duration(text))
    except ValueError as error:
        raise Invalid(f"{option}: {error}") from None
