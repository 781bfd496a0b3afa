"""The table of tools: names, accurate annotations, and schemas small enough to list."""

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
    view: str | None = None  # the `ui://` resource that displays its results, if the client supports that


TOOLS: dict[str, ToolEntry] = {}


def tool(
    title: str, effect: Effect = "reads", *, idempotent: bool | None = None, view: str | None = None
) -> Callable[[F], F]:
    """Function decorator: register a tool. Its docstring says when to use it, what it costs and what to call next.

    adds: only creates new things; destroys: can stop work, replace files or discard results; runs: makes commands run, which can do
    anything anywhere.
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
    """Remove from a schema what tells a model little: titles, null alternatives, null defaults; for an output also the required
    fields, and everything nested more than `levels` objects deep."""
    named = schema.get("$defs", {})
    whole = _inlined({key: value for key, value in schema.items() if key != "$defs"}, named, levels if is_output else 9)
    made: dict[str, Any] = _slim(whole, is_output)
    return {**made, "type": "object"}


def _inlined(part: Any, named: dict[str, Any], levels: int) -> Any:
    """Replace references by what they refer to: errors list the choices of a field, which must be in its own schema."""
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
    """Return whether a schema entry can be removed: descriptions of whole objects repeat the tool's description."""
    if key in {"title", "maxLength", "minLength", "maxItems", "minItems"}:  # still validated
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
