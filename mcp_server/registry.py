"""The table of tools: what each is called, which hints are true of it, and schemas small enough to be listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from mcp.types import ToolAnnotations

F = TypeVar("F", bound=Callable[..., Any])
Effect = Literal["reads", "adds", "changes", "destroys", "runs"]


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """A tool."""

    function: Callable[..., Any]
    title: str
    annotations: ToolAnnotations
    view: str | None = None  # the `ui://` resource that shows its results, where clients show any


TOOLS: dict[str, ToolEntry] = {}


def tool(
    title: str, effect: Effect = "reads", *, idempotent: bool | None = None, view: str | None = None
) -> Callable[[F], F]:
    """Function decorator: enter a tool. Its docstring says when to use it, what it costs and what to call next.

    adds: it only makes new things; destroys: it can stop work, replace files or throw results away; runs: it makes commands run,
    which can do anything anywhere.
    """

    def enter(function: F) -> F:
        reads = effect == "reads"
        TOOLS[function.__name__] = ToolEntry(
            function,
            title,
            ToolAnnotations(
                read_only_hint=reads,
                destructive_hint=None if reads else effect in {"destroys", "runs"},
                idempotent_hint=None if reads else bool(idempotent),  # what only reads is
                open_world_hint=effect == "runs",
            ),
            view,
        )
        return function

    return enter


def slim(schema: dict[str, Any], *, is_output: bool = False, levels: int = 1) -> dict[str, Any]:
    """Leave out of a schema what tells a model little: titles, the null beside a type, defaults that are null; of an output
    also what is required, and what stands deeper than `levels` of objects."""
    named = schema.get("$defs", {})
    whole = _inlined({key: value for key, value in schema.items() if key != "$defs"}, named, levels if is_output else 9)
    made: dict[str, Any] = _slim(whole, is_output)
    return {**made, "type": "object"}


def _inlined(part: Any, named: dict[str, Any], levels: int) -> Any:
    """Put what is referred to where it is referred to: errors name the choices of a field, which must stand in it."""
    if isinstance(part, list):
        return [_inlined(item, named, levels) for item in part]
    if not isinstance(part, dict):
        return part
    rest = {key: _inlined(value, named, levels) for key, value in part.items() if key != "$ref"}
    if "$ref" not in part:
        return rest
    meant = named[part["$ref"].rpartition("/")[2]]
    if not levels and "properties" in meant:
        return {"type": "object", **rest}
    inner = _inlined(meant, named, levels - ("properties" in meant))
    return {**{key: value for key, value in inner.items() if key != "description"}, **rest}


def _slim(part: Any, is_output: bool) -> Any:
    if isinstance(part, list):
        return [_slim(item, is_output) for item in part]
    if not isinstance(part, dict):
        return part
    choices = part.get("anyOf")
    if isinstance(choices, list):
        real = [choice for choice in choices if choice != {"type": "null"}]
        others = {key: value for key, value in part.items() if key != "anyOf"}
        if len(real) == 1:
            part = {**real[0], **others}
        elif all(set(choice) <= {"type", "additionalProperties"} for choice in real):
            part = {"type": [choice["type"] for choice in real], **others}
        else:
            part = {"anyOf": real, **others}
    made = {}
    for key, value in part.items():
        if key == "properties" and isinstance(value, dict):
            made[key] = {name: _slim(item, is_output) for name, item in value.items()}
        elif not _says_nothing(key, value, part, is_output):
            made[key] = _slim(value, is_output)
    return made


def _says_nothing(key: str, value: Any, part: dict[str, Any], is_output: bool) -> bool:
    """Return whether an entry of a schema can be left out: descriptions of whole objects repeat that of the tool."""
    if key in {"title", "maxLength", "minLength", "maxItems", "minItems"}:  # they are checked all the same
        return True
    if key == "default" and (value is None or value is False or is_output):
        return True
    if not is_output:
        return False
    return (
        key == "required"
        or (key in {"description", "type"} and "properties" in part)
        or (key == "additionalProperties" and not value)
    )
