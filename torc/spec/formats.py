"""The formats of specs: the one list of their names, the suffixes of their files, and what reads and writes them.

A reader takes a text and a name for it, and returns a `Document`; a writer takes the data of a spec and returns a text. Their
modules are imported when they are used: whoever only asks for a suffix does not wait for a parser.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from torc.errors import Invalid
from torc.spec.document import Document

#: the schema that written specs name, for editors
SCHEMA_FILE = "torc-workflow.schema.json"


class Format(StrEnum):
    """A format of specs. Where none is named, those are tried first that may begin with one of these `openings`."""

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

    def __new__(  # apart from the name, what only the members below give: `Format(name)` finds one of them
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
#: for texts of help: the usual suffix of each
SUFFIXES = ", ".join(_SUFFIXES)
ANY_SUFFIX = f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"
ANY_FORMAT = f"{', '.join(map(str.upper, list(Format)[:-1]))} or {list(Format)[-1].upper()}"


def format_of(path: str | PurePath) -> Format | None:
    """Return the format that the name of a file tells."""
    return _BY_SUFFIX.get(PurePath(path).suffix.lower())


def format_to_write(path: str | PurePath) -> Format:
    """Return the format of a file that is to be written. Raises Invalid."""
    found = format_of(path)
    if found is None:
        raise Invalid(f"`{PurePath(path).suffix}` is not a format of specs", hint=f"end the name in {ANY_SUFFIX}")
    return found


def likely_formats(text: str) -> list[Format]:
    """Return all formats, those first that a text looks like."""
    start = text.lstrip(" \t\r\n")
    return sorted(Format, key=lambda format: not start.startswith(format.openings))
