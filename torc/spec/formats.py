"""The formats of specs: the only list of their names, file suffixes, readers and writers.

A reader takes a text and its name and returns a `Document`; a writer takes the data of a spec and returns text. Their modules are
imported on use, so that code that only needs a suffix does not load a parser.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from torc.errors import Invalid
from torc.spec.document import Document

#: the schema referenced in written specs, for editors
SCHEMA_FILE = "torc-workflow.schema.json"


class Format(StrEnum):
    """A format of specs. If the format is unknown, those whose `openings` match the start of the text are tried first."""

    suffixes: tuple[str, ...]
    media_type: str
    reader: str
    writer: str
    openings: tuple[str, ...]

    YAML = (
        "yaml",
        (".yaml", ".yml"),
        "application/yaml",
        "torc.spec.yaml_reader.read_yaml",
        "torc.spec.yaml_writer.write_yaml",
    )
    JSON = (
        "json",
        (".json",),
        "application/json",
        "torc.spec.json_reader.read_json",
        "torc.spec.json_writer.write_json",
        ("{",),
    )
    JSON5 = (
        "json5",
        (".json5",),
        "application/json5",
        "torc.spec.json_reader.read_json5",
        "torc.spec.json_writer.write_json",
        ("{", "//", "/*"),
    )
    KDL = (
        "kdl",
        (".kdl",),
        "text/plain",
        "torc.spec.kdl_reader.read_kdl",
        "torc.spec.kdl_writer.write_kdl",
        ("//", "/*"),
    )

    def __new__(  # only the members below pass more than the name: `Format(name)` looks one of them up
        cls,
        name: str,
        suffixes: tuple[str, ...] = (),
        media_type: str = "",
        reader: str = "",
        writer: str = "",
        openings: tuple[str, ...] = (),
    ) -> Format:
        member = str.__new__(cls, name)
        member._value_ = name
        member.suffixes, member.media_type, member.openings = suffixes, media_type, openings
        member.reader, member.writer = reader, writer
        return member

    def read(self, text: str, name: str) -> Document:
        read: Callable[[str, str], Document] = _loaded(self.reader)
        return read(text, name)

    def write(self, data: Mapping[str, Any]) -> str:
        write: Callable[[Mapping[str, Any]], str] = _loaded(self.writer)
        return write(data)


def _loaded(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


_BY_SUFFIX = {suffix: format for format in Format for suffix in format.suffixes}
_SUFFIXES = [format.suffixes[0] for format in Format]
#: the usual suffix of each format, for help texts
SUFFIXES = ", ".join(_SUFFIXES)
ANY_SUFFIX = f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"
ANY_FORMAT = f"{', '.join(map(str.upper, list(Format)[:-1]))} or {list(Format)[-1].upper()}"


def format_of(path: str | PurePath) -> Format | None:
    """Return the format that a file name indicates."""
    return _BY_SUFFIX.get(PurePath(path).suffix.lower())


def format_to_write(path: str | PurePath) -> Format:
    """Return the format of a file to be written. Raises Invalid."""
    found = format_of(path)
    if found is None:
        raise Invalid(f"`{PurePath(path).suffix}` is not a format of specs", hint=f"end the name in {ANY_SUFFIX}")
    return found


def likely_formats(text: str) -> list[Format]:
    """Return all formats, the most likely ones first."""
    start = text.lstrip(" \t\r\n")
    return sorted(Format, key=lambda format: not start.startswith(format.openings))
