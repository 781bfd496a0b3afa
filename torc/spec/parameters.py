"""Parameter values: `"1:100"`, lists, `"@file.csv:column"` and single values into tuples of concrete values.

Files are read through a callable that the caller brings; this room opens nothing.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

Value = str | int | float | bool
Read = Callable[[str], str]

MAX_VALUES = 5_000_000
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*:\s*({_NUMBER})\s*(?::\s*({_NUMBER})\s*)?")
_MOST_DIGITS = 300


class BadParameter(ValueError):
    """A value that means nothing; the message says what was expected."""


def values_of(value: Any, read: Read | None) -> tuple[Value, ...]:
    """Give the values of a parameter in order, at least one. Raises BadParameter."""
    if isinstance(value, list):
        found: tuple[Value, ...] = tuple(value)
    elif not isinstance(value, str):
        return (value,)
    elif value.startswith("@"):
        found = _from_file(value[1:], read)
    elif value.strip().startswith("[") and value.strip().endswith("]"):
        found = tuple(_from_list(value.strip()[1:-1]))
    else:
        found = _from_range(value)
    if not found:
        raise BadParameter("it has no values")
    return found


def file_of(value: Any) -> str | None:
    """Give the name of the file that a value comes from, without its column."""
    if not isinstance(value, str) or not value.startswith("@"):
        return None
    return _split_column(value[1:])[0]


def _split_column(text: str) -> tuple[str, str | None]:
    name, colon, column = text.rpartition(":")
    return (name, column) if colon and name.lower().endswith((".csv", ".tsv")) else (text, None)


def _from_range(text: str) -> tuple[Value, ...]:
    match = _RANGE.fullmatch(text)
    if match is None:
        return (text,)
    first, last, step = match.groups()
    if any(len(part) > _MOST_DIGITS for part in match.groups() if part):
        raise BadParameter("a number of the range is too long")
    if not re.search(r"[.eE]", "".join(part or "" for part in match.groups())):
        return _integers(int(first), int(last), None if step is None else int(step))
    return _floats(Decimal(first), Decimal(last), Decimal(step or "1"))


def _integers(first: int, last: int, step: int | None) -> tuple[Value, ...]:
    if step is None:
        step = 1
    numbers = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
    _bounded(first, last, step, (last - first) // step + 1 if step else 0)
    return tuple(numbers)


def _floats(first: Decimal, last: Decimal, step: Decimal) -> tuple[Value, ...]:
    count = int((last - first) / step) + 1 if step else 0
    _bounded(first, last, step, count)
    return tuple(float(first + index * step) for index in range(count))


def _bounded(first: Any, last: Any, step: Any, count: int) -> None:
    if step == 0:
        raise BadParameter("the step of the range is 0")
    if (last - first) * step < 0:
        raise BadParameter(f"the range {first}:{last}:{step} is empty: the step goes away from the end")
    if count > MAX_VALUES:
        raise BadParameter(f"the range has {count:,} values (at most {MAX_VALUES:,})")


def _from_list(text: str) -> list[Value]:
    items: list[Value] = []
    position = 0
    token = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|((?:[^,\[\]"']|\[[^\]]*\])*))\s*(,|\Z)""")
    while position <= len(text):
        match = token.match(text, position)
        if match is None:
            raise BadParameter(f"the list cannot be read from `{text[position : position + 20]}` on")
        double, single, plain, end = match.groups()
        if double is not None or single is not None:
            items.append(re.sub(r"\\(.)", r"\1", double if double is not None else single))
        elif plain.strip():
            items.append(_scalar(plain.strip()))
        elif end == ",":
            raise BadParameter("the list has an empty item")
        position = match.end()
        if end == "":
            break
    return items


def _scalar(text: str) -> Value:
    if re.fullmatch(r"[-+]?\d{1,300}", text) and not re.match(r"[-+]?0\d", text):
        return int(text)
    if re.fullmatch(_NUMBER, text):
        return float(text)
    if text in {"true", "false"}:
        return bool(json.loads(text))
    return text


def _from_file(text: str, read: Read | None) -> tuple[Value, ...]:
    name, column = _split_column(text)
    if read is None:
        raise BadParameter(f"the file `{name}` cannot be read from here")
    try:
        content = read(name)
    except (OSError, UnicodeError, KeyError) as error:
        raise BadParameter(f"the file `{name}` cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if column is None:
        return tuple(_scalar(line.strip()) for line in content.splitlines() if line.strip())
    return _column(name, column, content)


def _column(name: str, column: str, content: str) -> tuple[Value, ...]:
    rows = csv.DictReader(content.splitlines(), delimiter="\t" if name.lower().endswith(".tsv") else ",")
    fields = [field.strip() for field in rows.fieldnames or ()]
    if column not in fields:
        raise BadParameter(f"`{name}` has no column `{column}` (it has {', '.join(fields) or 'none'})")
    at = fields.index(column)
    found: list[Value] = []
    for row in rows:
        cells: list[Any] = list(row.values())
        if at < len(cells) and isinstance(cells[at], str) and cells[at].strip():
            found.append(_scalar(cells[at].strip()))
    return tuple(found)


def choose(own: Mapping[str, Any], used: list[str], shared: Mapping[str, Any]) -> dict[str, Any]:
    """Give an object's parameters in order: those that it uses of the workflow's, and its own, which win."""
    return {**{name: shared[name] for name in used if name in shared and name not in own}, **own}
