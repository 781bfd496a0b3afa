"""The table of tools: what each is called, which hints are true of it, and schemas small enough to be listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from mcp.types import ToolAnnotations

F = TypeVar("F", bound=Callable[..., Any])
Effect = Literal["reads", "adds", "changes", "destroys"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool."""

    function: Callable[..., Any]
    title: str
    annotations: ToolAnnotations


TOOLS: dict[str, Entry] = {}


def tool(title: str, effect: Effect = "reads", *, idempotent: bool | None = None) -> Callable[[F], F]:
    """Function decorator: enter a tool. Its docstring says when to use it, what it costs and what to call next.

    destroys: it can stop work or throw results away; adds: it only makes new things. None of them reaches beyond Torc.
    """

    def enter(function: F) -> F:
        reads = effect == "reads"
        TOOLS[function.__name__] = Entry(
            function,
            title,
            ToolAnnotations(
                title=title,
                read_only_hint=reads,
                destructive_hint=None if reads else effect == "destroys",
                idempotent_hint=reads if idempotent is None else idempotent,
                open_world_hint=False,
            ),
        )
        return function

    return enter


def slim(schema: dict[str, Any], *, is_output: bool = False) -> dict[str, Any]:
    """Leave out of a schema what tells a model nothing: titles, the null beside a type, defaults that are null."""
    if not is_output:  # errors name the choices of a field: they stand in the field itself
        named = schema.get("$defs", {})
        schema = _inlined({key: value for key, value in schema.items() if key != "$defs"}, named)
    made: dict[str, Any] = _slim(schema, is_output)
    return made


def _inlined(part: Any, named: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(item, named) for item in part]
    if not isinstance(part, dict):
        return part
    rest = {key: _inlined(value, named) for key, value in part.items() if key != "$ref"}
    if "$ref" not in part:
        return rest
    meant = _inlined(named[part["$ref"].rpartition("/")[2]], named)
    return {**{key: value for key, value in meant.items() if key != "description"}, **rest}


def _slim(part: Any, is_output: bool) -> Any:
    if isinstance(part, list):
        return [_slim(item, is_output) for item in part]
    if not isinstance(part, dict):
        return part
    choices = part.get("anyOf")
    if isinstance(choices, list):
        real = [choice for choice in choices if choice != {"type": "null"}]
        if len(real) == 1 and len(real) < len(choices):
            part = {**real[0], **{key: value for key, value in part.items() if key != "anyOf"}}
    made = {}
    for key, value in part.items():
        if key in {"properties", "$defs"} and isinstance(value, dict):
            made[key] = {name: _slim(item, is_output) for name, item in value.items()}
        elif _says_nothing(key, value, part, is_output):
            continue
        else:
            made[key] = _slim(value, is_output)
    return made


def _says_nothing(key: str, value: Any, part: dict[str, Any], is_output: bool) -> bool:
    """Tell whether an entry of a schema can be left out: descriptions of whole objects repeat that of the tool."""
    if key == "title" or (key == "default" and (value is None or is_output)):
        return True
    if not is_output:
        return False
    return (key == "description" and "properties" in part) or (key == "additionalProperties" and value is False)
