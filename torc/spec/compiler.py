"""The pipeline from text to plan: read -> check -> expand -> resolve -> connect. The only caller of the other modules here."""

from __future__ import annotations

import re
from typing import Any

from torc.spec.diagnostics import Diagnostic
from torc.spec.document import Document, Path
from torc.spec.expansion.jobs import build_plan
from torc.spec.expansion.objects import Builder, ExpansionLimits
from torc.spec.expansion.parameters import Read, file_of, shown
from torc.spec.expansion.paths import Place, place_of
from torc.spec.formats import Format, likely_formats
from torc.spec.model import WorkflowSpec
from torc.spec.plan import Plan
from torc.spec.validation import check

_SCALAR = re.compile(r"[-+.\w]+")
_HOW_TO_RAISE = "let parameters multiply jobs instead of writing each of them out"


def compile_spec(
    text: str,
    *,
    format: Format | str | None = None,
    name: str = "<stdin>",
    read: Read | None = None,
    limits: ExpansionLimits = ExpansionLimits(),
    place: Place = place_of,
) -> tuple[Plan | None, list[Diagnostic]]:
    """Compile a spec. The plan is None if the diagnostics include an error; they are ordered by position.

    `read` returns the text of an `@file` relative to the spec. `format` None: each format is tried. `place` returns the canonical
    form of a file's path, by which files are compared.
    """
    document = load_document(text, format=format, name=name, limits=limits)
    keep_as_written(document)
    spec = check(document)
    if spec is None:
        return None, document.found()
    plan = build_plan(Builder(spec, document, read, limits, place))
    return None if document.failed else plan, document.found()


def parse_spec(
    text: str, *, format: Format | str | None = None, name: str = "<stdin>", limits: ExpansionLimits = ExpansionLimits()
) -> tuple[WorkflowSpec | None, list[Diagnostic]]:
    """Read and check a spec without expanding it."""
    document = load_document(text, format=format, name=name, limits=limits)
    keep_as_written(document)
    spec = check(document)
    return None if document.failed else spec, document.found()


def external_files(text: str, *, format: Format | str | None = None) -> list[str]:
    """Return the names of the `@file`s in the parameters of a spec, in order."""
    data = load_document(text, format=format).data
    found: dict[str, None] = {}
    for _, owner in _parameter_owners(data):
        for value in owner.values():
            name = file_of(value)
            if name is not None:
                found[name] = None
    return list(found)


def keep_as_written(document: Document) -> None:
    """Preserve the text of parameter values that would be formatted differently: 1.10 is not 1.1 in a name."""
    if not document.may_differ:
        return
    for path, parameters in _parameter_owners(document.data):
        for key, value in parameters.items():
            here: Path = (*path, "parameters", key)
            if isinstance(value, list):
                parameters[key] = [_as_written(document, item, (*here, at)) for at, item in enumerate(value)]
            else:
                parameters[key] = _as_written(document, value, here)


def _as_written(document: Document, value: Any, path: Path) -> Any:
    if not isinstance(value, (int, float)):
        return value
    text = document.written(path)
    if text is None or text == shown(value) or text.lstrip("#") == shown(value) or not _SCALAR.fullmatch(text):
        return value
    return text


def _parameter_owners(data: Any) -> list[tuple[Path, dict[str, Any]]]:
    if not isinstance(data, dict):
        return []
    parts: list[tuple[Path, Any]] = [((), data)]
    for key in ("jobs", "files", "user_data"):
        items = data.get(key)
        parts += [((key, at), item) for at, item in enumerate(items if isinstance(items, list) else ())]
    return [
        (path, part["parameters"])
        for path, part in parts
        if isinstance(part, dict) and isinstance(part.get("parameters"), dict)
    ]


def load_document(
    text: str, *, format: Format | str | None = None, name: str = "<stdin>", limits: ExpansionLimits = ExpansionLimits()
) -> Document:
    """Read a document without checking it against the schema."""
    if len(text) > limits.max_characters:
        document = Document(name, "")
        message = f"the document has {len(text):,} characters (at most {limits.max_characters:,})"
        document.report("too_large", message, suggestion=_HOW_TO_RAISE)
        return document
    text = text.removeprefix("\ufeff")
    if format is not None:
        return Format(format).read(text, name)
    best: Document | None = None
    for kind in likely_formats(text):
        tried = kind.read(text, name)
        if isinstance(tried.data, dict) and not tried.failed:
            return tried
        if best is None or (isinstance(tried.data, dict) and not isinstance(best.data, dict)):
            best = tried
    return best or Document(name, text)
