"""Machines as users write them: `[user@]host[:port]` and options, on the command line or one per line in a file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from torc.api.remote_workers import NewRemoteWorker
from torc.errors import Invalid
from torc.units import parse_memory

_NUMBERS = ("num_cpus", "num_gpus", "max_parallel_jobs")
_TEXTS = ("torc", "directory", "output_dir")
_NAMES = (*_TEXTS, *_NUMBERS, "memory", "label.NAME")


def read_lines(text: str, name: str, defaults: Mapping[str, Any]) -> list[NewRemoteWorker]:
    """Parse a file of machines, one per line, with comments after `#`. Raises Invalid with the line number."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise _wrong(f"{name}:{number}", str(error).lower()) from None
        if words:
            found.append(read_worker(words, f"{name}:{number}", defaults))
    return found


def read_worker(words: list[str], place: str, defaults: Mapping[str, Any]) -> NewRemoteWorker:
    """Parse a machine from words: the host, then `name=value`. `defaults` apply to missing options. Raises Invalid."""
    fields: dict[str, Any] = {**defaults, "labels": dict(defaults.get("labels", {})), "host": words[0]}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals:
            raise _wrong(place, f"`{word}` is not of the form NAME=VALUE")
        if name.startswith("label."):
            fields["labels"][name.removeprefix("label.")] = value
        elif name in _NUMBERS or name == "memory":
            fields["memory_bytes" if name == "memory" else name] = _number(place, name, value)
        elif name in _TEXTS:
            fields[name] = value
        else:
            raise _wrong(place, f"there is no option `{name}`")
    try:
        return NewRemoteWorker.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = first["msg"].removeprefix("Value error, ")
        where = ".".join(map(str, first["loc"]))
        raise _wrong(place, what if where == "host" else f"`{where}`: {what}") from None


def _number(place: str, name: str, value: str) -> int:
    try:
        return parse_memory(value) if name == "memory" else int(value)
    except ValueError as error:
        raise _wrong(place, f"`{name}`: {error if name == 'memory' else f'`{value}` is not a whole number'}") from None


def _wrong(place: str, what: str) -> Invalid:
    return Invalid(
        f"{place}: {what}",
        hint=f"write [user@]host[:port] followed by options that differ there: {', '.join(_NAMES)} (NAME=VALUE)",
    )
