"""Amounts of memory and time as people write them, and back.

Memory is counted in powers of 1024 whatever the spelling of the unit (`m`, `MB`, `MiB`), as Torc always did. Times are
whole seconds; a fraction is rounded up, so that nobody gets less than was asked for. Not for sbatch options, which are
handed to Slurm as they stand.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil

MAX_BYTES = (1 << 63) - 1
MAX_SECONDS = (1 << 31) - 1

_MEMORY_FORMS = "write a number and a unit (512k, 512m, 2g, 1t, also 2GiB or 512MB; powers of 1024), or plain bytes"
_DURATION_FORMS = (
    "write an ISO 8601 duration (PT1H30M, P1DT2H), a number with a unit (30m, 2h, 45s, 1d, 1h30m), "
    "or a walltime (1-02:00:00, HH:MM:SS, MM:SS)"
)

_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,9})?"
_MEMORY = re.compile(rf"({_NUMBER})\s*(?:([kmgtpe]?)(?:i?b)?)", re.IGNORECASE)
_ISO = re.compile(
    rf"P(?:({_NUMBER})W)?(?:({_NUMBER})D)?(T(?:({_NUMBER})H)?(?:({_NUMBER})M)?(?:({_NUMBER})S)?)?", re.IGNORECASE
)
_PART = re.compile(rf"({_NUMBER})\s*([a-z]+)\s*", re.IGNORECASE)
_CLOCK = re.compile(r"(?:([0-9]{1,9})-)?([0-9]{1,9})((?::[0-9]{1,9}){0,2})")

_EXPONENT = {unit: 10 * power for power, unit in enumerate(("", "k", "m", "g", "t", "p", "e"))}
_SECONDS = {
    name: seconds
    for names, seconds in (
        ("s sec secs second seconds", 1),
        ("m min mins minute minutes", 60),
        ("h hr hrs hour hours", 3600),
        ("d day days", 86400),
        ("w week weeks", 604800),
    )
    for name in names.split()
}


def parse_memory(text: str) -> int:
    """Give the bytes of `512k`, `512m`, `2g`, `1.5t`, `2GiB`, `512MB` or `1048576`. Raises ValueError."""
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{_shown(text)} is no amount of memory: {_MEMORY_FORMS}")
    amount = Fraction(match[1]) * (1 << _EXPONENT[match[2].lower()])
    if amount > MAX_BYTES:
        raise ValueError(f"{_shown(text)} is more memory than can be counted (at most 8 EiB)")
    return ceil(amount)


def parse_duration(text: str) -> int:
    """Give the seconds of an ISO 8601 duration, of `30m`, `1h 30m`, `2 days`, or of a Slurm walltime.

    Of Slurm's forms (sbatch --time) all are read but the bare number, which would mean minutes there and seconds
    elsewhere. Years and months of ISO 8601 have no length in seconds. Raises ValueError.
    """
    stripped = text.strip()
    seconds = _iso_seconds(stripped)
    if seconds is None:
        seconds = _clock_seconds(stripped)
    if seconds is None:
        seconds = _unit_seconds(stripped)
    if seconds is None:
        raise ValueError(f"{_shown(text)} is no duration: {_complaint(stripped)}")
    if seconds > MAX_SECONDS:
        raise ValueError(f"{_shown(text)} is too long a duration (at most {MAX_SECONDS} seconds, 68 years)")
    return ceil(seconds)


def _iso_seconds(text: str) -> Fraction | None:
    match = _ISO.fullmatch(text)
    if match is None or text[-1] in "PpTt":
        return None
    weeks, days, _, hours, minutes, seconds = match.groups()
    parts = ((weeks, 604800), (days, 86400), (hours, 3600), (minutes, 60), (seconds, 1))
    return sum((Fraction(number) * unit for number, unit in parts if number), Fraction(0))


def _clock_seconds(text: str) -> Fraction | None:
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    days, first, rest = match.groups()
    fields = [int(first), *(int(part) for part in rest.split(":")[1:])]
    if days is not None:  # D-HH, D-HH:MM, D-HH:MM:SS
        fields += [0] * (3 - len(fields))
    elif len(fields) == 1:
        return None
    seconds = 0
    for field in fields:
        seconds = seconds * 60 + field
    return Fraction(seconds + 86400 * int(days or 0))


def _unit_seconds(text: str) -> Fraction | None:
    total, at, previous = Fraction(0), 0, MAX_SECONDS
    while at < len(text):
        match = _PART.match(text, at)
        unit = _SECONDS.get(match[2].lower(), 0) if match else 0
        if match is None or not 0 < unit < previous:  # unknown, repeated, or small before large
            return None
        total += Fraction(match[1]) * unit
        at, previous = match.end(), unit
    return total if text else None


def _complaint(text: str) -> str:
    if re.fullmatch(_NUMBER, text):
        return f"a number alone has no unit; write {text[:20]}s, {text[:20]}m or {text[:20]}h"
    if re.fullmatch(r"P[0-9.]+[YM].*", text, re.IGNORECASE):
        return "years and months have no fixed length; write days, as in P30D"
    return _DURATION_FORMS


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def format_memory(memory_bytes: int) -> str:
    """Write bytes exactly, in the largest unit that divides them: `2g`, `1536m`, `1000b`."""
    for unit in ("t", "g", "m", "k"):
        if memory_bytes and memory_bytes % (1 << _EXPONENT[unit]) == 0:
            return f"{memory_bytes >> _EXPONENT[unit]}{unit}"
    return f"{memory_bytes}b"


def format_duration(seconds: int) -> str:
    """Write seconds as an ISO 8601 duration: `PT1H30M`, `P1DT2H`, `PT0S`."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    date = f"{days}D" if days else ""
    time = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (rest, "S")) if number)
    if not date and not time:
        return "PT0S"
    return f"P{date}T{time}" if time else f"P{date}"


def human_duration(seconds: float) -> str:
    """Write a time for people, two units at most: `250ms`, `3.2s`, `45s`, `2m 03s`, `1h 05m`, `2d 04h`."""
    if seconds < 0:
        return "-" + human_duration(-seconds)
    if round(seconds * 1000) < 1000:
        return f"{round(seconds * 1000)}ms"
    if round(seconds, 1) < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    minutes = round(seconds / 60)
    if minutes < 1440:
        return f"{minutes // 60}h {minutes % 60:02d}m"
    hours = round(seconds / 3600)
    return f"{hours // 24}d {hours % 24:02d}h"


def human_bytes(memory_bytes: float) -> str:
    """Write an amount for people, three digits at most and one of them behind the point: `512 B`, `1.5 GiB`."""
    if memory_bytes < 0:
        return "-" + human_bytes(-memory_bytes)
    amount, unit = float(memory_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if round(amount) < 1024:
            break
        amount, unit = amount / 1024, larger
    text = f"{amount:.1f}" if round(amount, 1) < 100 and unit != "B" else f"{amount:.0f}"
    return f"{text.removesuffix('.0')} {unit}"
