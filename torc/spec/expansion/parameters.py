"""Evaluate parameters: `"1:100"`, lists, `"@file.csv:column"` and single values become tuples of values.

Files are read through a function passed by the caller; this module opens nothing.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Any

Value = str | int | float | bool
Read = Callable[[str], str]

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*:\s*({_NUMBER})\s*(?::\s*({_NUMBER})\s*)?", re.ASCII)
_INTEGER = re.compile(r"[-+]?\d+", re.ASCII)
_FLOAT = re.compile(_NUMBER, re.ASCII)
_BASED = re.compile(r"[-+]?0(?:[xX][0-9a-fA-F_]+|[oO][0-7_]+|[bB][01_]+)")
_PADDED = re.compile(r"-?0\d+", re.ASCII)
_BROKEN_RANGE = re.compile(r"[-+.\d\seE]*\d[-+.\d\seE]*:[-+.,:;\d\seE]*|:[-+.,:;\d\seE]*\d[-+.,:;\d\seE]*")
_OTHER_RANGE = re.compile(r"(\d+)\s*(?:-|\.\.+|\bto\b)\s*(\d+)")
_ITEM = re.compile(
    r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|((?:[^,\[\]"']|\[[^\]]*\])*))\s*(,|\Z)""", re.DOTALL
)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_ESCAPES = {"n": "\n", "t": "\t"}
_MOST_DIGITS = 300
_MOST_SHOWN = 40


class ParameterColumn(tuple[Value, ...]):
    """The values from a file. `gap` describes the first missing value, which matters if values are combined row by row."""

    gap: str | None = None


class BadParameter(ValueError):
    """An invalid value; the message says what was expected."""


class TooManyValues(BadParameter):
    """More values than can be expanded."""


def values_of(value: Any, read: Read | None, most: int) -> tuple[Value, ...]:
    """Return the values of a parameter in order, at least one and at most `most`. Raises BadParameter."""
    if isinstance(value, list):
        found: Sequence[Value] = tuple(value)
    elif not isinstance(value, str):
        found = (value,)
    elif value.startswith("@"):
        found = _from_file(value[1:], read)
    else:
        found = _from_text(value.strip(), most)
    if not found:
        raise BadParameter("it has no values")
    if len(found) > most:
        raise TooManyValues(_too_many(len(found), most))
    return found if isinstance(found, ParameterColumn) else tuple(found)


def file_of(value: Any) -> str | None:
    """Return the name of the file that a value comes from, without its column."""
    if not isinstance(value, str) or not value.startswith("@"):
        return None
    return _split_column(value[1:])[0]


def choose(own: Mapping[str, Any], used: Sequence[str], shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object's parameters in order: the workflow parameters that it uses, and its own, which take precedence."""
    return {**{name: shared[name] for name in used if name in shared and name not in own}, **own}


def _too_many(count: int, most: int) -> str:
    return f"it has {count:,} values, which together with earlier ones is more than can be expanded (at most {most:,} are left)"


def _from_text(text: str, most: int) -> Sequence[Value]:
    if text.startswith("{") and text.endswith("}") and _RANGE.fullmatch(text[1:-1]):
        text = text[1:-1]  # accepted by Torc 0.12: `{1:10}`
    if text.startswith("[") and text.endswith("]"):
        return _from_list(text[1:-1])
    return _from_range(text, most)


def _split_column(text: str) -> tuple[str, str | None]:
    name, colon, column = text.rpartition(":")
    return (name, column) if colon and name.lower().endswith((".csv", ".tsv")) else (text, None)


def _from_range(text: str, most: int) -> Sequence[Value]:
    match = _RANGE.fullmatch(text)
    if match is None:
        if ":" in text and len(text) <= _MOST_DIGITS and _BROKEN_RANGE.fullmatch(text):
            raise BadParameter(
                f"`{text[:_MOST_SHOWN]}` is not a range: write first:last or first:last:step; put literal text in a list: [...]"
            )
        if text.startswith("[") != text.endswith("]"):
            raise BadParameter(
                f"`{text[:_MOST_SHOWN]}` is not a list: a bracket is missing; put literal text in a list: [...]"
            )
        return (_scalar(text),)
    first, last, step = match.groups()
    parts = [part for part in match.groups() if part]
    if any(len(part) > _MOST_DIGITS for part in parts):
        raise BadParameter("a number of the range is too long")
    if all(_INTEGER.fullmatch(part) for part in parts):
        whole = int(first), int(last), int(step or 1)
        count = _count(whole[0], whole[1], whole[2], most)
        if _PADDED.fullmatch(first) or _PADDED.fullmatch(last):
            return _padded(first, last, range(whole[0], whole[0] + count * whole[2], whole[2]))
        return range(whole[0], whole[0] + count * whole[2], whole[2])
    start, by = Decimal(first), Decimal(step or "1")
    # start + index x step in decimal, so that 0.3 is 0.3
    numbers = [float(start + index * by) for index in range(_count(start, Decimal(last), by, most))]
    if not isfinite(numbers[0]) or not isfinite(numbers[-1]):
        raise BadParameter("a number of the range is too large")
    return numbers


def _padded(first: str, last: str, numbers: range) -> Sequence[Value]:
    """Return the numbers of `001:100` with leading zeros."""
    if len(first.lstrip("-")) != len(last.lstrip("-")):
        raise BadParameter(
            f"`{first}:{last}`: the number of digits is ambiguous: give both the same number of digits, or neither leading zeros"
        )
    width = len(first.lstrip("-"))
    return [f"{'-' if number < 0 else ''}{abs(number):0{width}d}" for number in numbers]


def range_meant(value: Any) -> str | None:
    """Return the range that a single value may have been meant as: `1-10` as 1:10."""
    match = _OTHER_RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    return None if match is None else f"{match[1]}:{match[2]}"


def _count(first: Any, last: Any, step: Any, most: int) -> int:
    if step == 0:
        raise BadParameter("the step of the range is 0")
    if (last - first) * step < 0:
        raise BadParameter(f"the range {first}:{last}:{step} is empty: the step has the wrong sign")
    count = int((last - first) / step if isinstance(step, Decimal) else (last - first) // step) + 1
    if count > most:
        raise TooManyValues(_too_many(count, most))
    return count


def _from_list(text: str) -> list[Value]:
    items: list[Value] = []
    position = 0
    while position <= len(text):
        match = _ITEM.match(text, position)
        if match is None:
            raise BadParameter(f"the list cannot be parsed from `{text[position : position + 20].strip()}` on")
        double, single, plain, end = match.groups()
        quoted = double if double is not None else single
        if quoted is not None:
            items.append(re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), quoted, flags=re.DOTALL))
        elif plain.strip():
            items.append(_scalar(plain.strip()))
        elif end == ",":
            raise BadParameter("the list has an empty item")
        position = match.end()
        if end == "":
            break
    return items


def shown(value: Value) -> str:
    """Format a value like Torc 0.12: floats without exponent, and without a zero fraction."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return str(value)
    text = repr(value)
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")


def number_of(text: str) -> Value:
    """Parse a number for formatting; anything else stays text."""
    if len(text) <= _MOST_DIGITS:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _BASED.fullmatch(text):
            return int(text.replace("_", ""), 0)
        if _FLOAT.fullmatch(text) and isfinite(float(text)):
            return float(text)
    return text


def _scalar(text: str) -> Value:
    """Parse a number if formatting it restores the text: `007` and `1.10` stay text."""
    value = number_of(text)
    return value if shown(value) == text else text


def _from_file(text: str, read: Read | None) -> ParameterColumn:
    name, column = _split_column(text)
    if read is None:
        raise BadParameter(f"the file `{name}` cannot be read from here")
    try:
        content = read(name)
    except (OSError, UnicodeError, KeyError, ValueError) as error:
        why = getattr(error, "strerror", None) or ("it was not sent along" if isinstance(error, KeyError) else error)
        raise BadParameter(f"the file `{name}` cannot be read: {why}") from None
    if "\x00" in content:
        raise BadParameter(f"the file `{name}` is not text: it contains NUL characters")
    content = content.removeprefix("\ufeff")
    if column is None:
        return _lines(name, content)
    return _column(name, column, content)


def _lines(name: str, content: str) -> ParameterColumn:
    lines = [line.strip() for line in _LINE.findall(content)]
    found = ParameterColumn(_scalar(line) for line in lines if line)
    gap = next((at for at, line in enumerate(lines, 1) if not line), None)
    if gap is not None and gap <= len(found):  # at the end of the file it does not matter
        found.gap = f"line {gap} of `{name}` is empty"
    return found


def _column(name: str, column: str, content: str) -> ParameterColumn:
    rows = csv.reader(_LINE.findall(content), delimiter="\t" if name.lower().endswith(".tsv") else ",")
    try:
        fields = [field.strip() for field in next(rows, [])]
        if column not in fields:
            raise BadParameter(f"`{name}` has no column `{column}` (it has {', '.join(fields[:20]) or 'none'})")
        if fields.count(column) > 1:
            raise BadParameter(f"`{name}` has {fields.count(column)} columns `{column}`")
        at = fields.index(column)
        gap: int | None = None
        cells: list[str] = []
        for row in rows:
            cell = row[at].strip() if at < len(row) else ""
            if cell:
                cells.append(cell)
            elif gap is None and any(map(str.strip, row)):  # skip empty rows
                gap = rows.line_num
    except csv.Error as error:
        raise BadParameter(f"the file `{name}` cannot be read: {error}") from None
    found = ParameterColumn(map(_scalar, cells))
    found.gap = None if gap is None else f"column `{column}` is empty in line {gap} of `{name}`"
    return found
