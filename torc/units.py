"""Parse and format amounts of memory and time.

Memory is counted in powers of 1024 whatever the spelling of the unit (`m`, `MB`, `MiB`), as in all versions of Torc. Times are whole
seconds; fractions are rounded up, so that nobody gets less than requested. sbatch options are passed to Slurm unchanged.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil

MAX_BYTES = (1 << 63) - 1
MAX_SECONDS = (1 << 31) - 1
MINUTE, HOUR, DAY, WEEK = 60, 3600, 86400, 604800
#: Mean lengths in the Julian calendar, as in Torc 0.12.
MONTH, YEAR = 2629800, 31557600

_MEMORY_FORMS = "write a number and a unit (512k, 512m, 2g, 1t, also 2GiB or 512MB; powers of 1024), or plain bytes"
_DURATION_FORMS = (
    "write an ISO 8601 duration (PT1H30M, P1DT2H), a number with a unit (30m, 2h, 45s, 1d, 1h30m), "
    "or a walltime (1-02:00:00, HH:MM:SS, MM:SS)"
)

_MOST_SHOWN = 40  # characters of an invalid value in a message
_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,9})?"
_MEMORY = re.compile(rf"({_NUMBER})\s*(?:([kmgtpe]?)(?:i?b)?)", re.IGNORECASE)
_ISO = re.compile(
    rf"P(?:({_NUMBER})Y)?(?:({_NUMBER})M)?(?:({_NUMBER})W)?(?:({_NUMBER})D)?"
    rf"(?:T(?:({_NUMBER})H)?(?:({_NUMBER})M)?(?:({_NUMBER})S)?)?",
    re.IGNORECASE,
)
_PART = re.compile(rf"({_NUMBER})\s*([a-z]+)\s*", re.IGNORECASE)
_CLOCK = re.compile(r"(?:([0-9]{1,9})-)?([0-9]{1,9})((?::[0-9]{1,9}){0,2})")

_EXPONENT = {unit: 10 * power for power, unit in enumerate(("", "k", "m", "g", "t", "p", "e"))}
_SECONDS = {
    name: seconds
    for names, seconds in (
        ("s sec secs second seconds", 1),
        ("m min mins minute minutes", MINUTE),
        ("h hr hrs hour hours", HOUR),
        ("d day days", DAY),
        ("w week weeks", WEEK),
    )
    for name in names.split()
}
#: larger numbers are not ids or sizes
_MOST_DIGITS = 18


def whole_number(text: str | None) -> int | None:
    """Return the number written in decimal ASCII digits, or None: `str.isdigit` accepts more than `int`, such as `²`."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def parse_memory(text: str) -> int:
    """Return the bytes of `512k`, `512m`, `2g`, `1.5t`, `2GiB`, `512MB` or `1048576`. Raises ValueError."""
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{_shown(text)} is not an amount of memory: {_MEMORY_FORMS}")
    amount = Fraction(match[1]) * (1 << _EXPONENT[match[2].lower()])
    if amount > MAX_BYTES:
        raise ValueError(f"{_shown(text)} is more memory than can be counted (at most 8 EiB)")
    return ceil(amount)


def parse_duration(text: str) -> int:
    """Return the seconds of an ISO 8601 duration, of `30m`, `1h 30m`, `2 days`, or of a Slurm walltime.

    All of Slurm's forms (sbatch --time) are accepted except a bare number, which means minutes there and seconds elsewhere. Years and
    months of ISO 8601 count as 365.25 and 30.4375 days. Raises ValueError.
    """
    stripped = text.strip()
    seconds = _iso_seconds(stripped)
    if seconds is None:
        seconds = _clock_seconds(stripped)
    if seconds is None:
        seconds = _unit_seconds(stripped)
    if seconds is None:
        raise ValueError(f"{_shown(text)} is not a duration: {_complaint(stripped)}")
    if seconds > MAX_SECONDS:
        raise ValueError(f"{_shown(text)} is too long a duration (at most {MAX_SECONDS} seconds, 68 years)")
    return ceil(seconds)


def _iso_seconds(text: str) -> Fraction | None:
    match = _ISO.fullmatch(text)
    if match is None or text[-1] in "PpTt":
        return None
    units = (YEAR, MONTH, WEEK, DAY, HOUR, MINUTE, 1)
    numbers = zip(match.groups(), units, strict=True)
    return sum((Fraction(number) * unit for number, unit in numbers if number), Fraction(0))


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
    return Fraction(seconds + DAY * int(days or 0))


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
    return _DURATION_FORMS


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "...")


def format_memory(memory_bytes: int) -> str:
    """Format bytes exactly, in the largest unit that divides them: `2g`, `1536m`, `1000b`."""
    for unit in ("t", "g", "m", "k"):
        if memory_bytes and memory_bytes % (1 << _EXPONENT[unit]) == 0:
            return f"{memory_bytes >> _EXPONENT[unit]}{unit}"
    return f"{memory_bytes}b"


def format_duration(seconds: int) -> str:
    """Format seconds as an ISO 8601 duration: `PT1H30M`, `P1DT2H`, `PT0S`."""
    days, rest = divmod(seconds, DAY)
    hours, rest = divmod(rest, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    date = f"{days}D" if days else ""
    time = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (rest, "S")) if number)
    if not date and not time:
        return "PT0S"
    return f"P{date}T{time}" if time else f"P{date}"


def human_duration(seconds: float) -> str:
    """Format a time for people, with at most two units: `250ms`, `3.2s`, `45s`, `2m 03s`, `1h 05m`, `2d 04h`."""
    size = abs(seconds)
    if round(size) < MINUTE:
        text = _below_a_minute(size)
    elif round(size) < HOUR:
        text = "{}m {:02d}s".format(*divmod(round(size), MINUTE))
    elif round(size / MINUTE) * MINUTE < DAY:
        text = "{}h {:02d}m".format(*divmod(round(size / MINUTE), HOUR // MINUTE))
    else:
        text = "{}d {:02d}h".format(*divmod(round(size / HOUR), DAY // HOUR))
    return "-" + text if seconds < 0 else text


def _below_a_minute(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    tenths = f"{seconds:.1f}"
    return f"{tenths}s" if len(tenths) < len("10.0") else f"{round(seconds)}s"


def human_bytes(memory_bytes: float) -> str:
    """Format an amount for people: `512 B`, `1.5 GiB`, `120 MiB`."""
    amount, unit = abs(float(memory_bytes)), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if round(amount) < 1 << 10:
            break
        amount, unit = amount / (1 << 10), larger
    tenths = f"{amount:.1f}"
    text = tenths.removesuffix(".0") if len(tenths) < len("100.0") and unit != "B" else f"{amount:.0f}"
    return f"{'-' if memory_bytes < 0 else ''}{text} {unit}"
