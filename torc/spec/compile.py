"""The pipe from text to plan: read -> check -> expand -> resolve. The only caller of the parts of this room."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from torc.spec.build import Builder
from torc.spec.build_jobs import build_plan
from torc.spec.diagnostics import Diagnostic
from torc.spec.document import MAX_CHARACTERS, Document, Path
from torc.spec.model import WorkflowSpec
from torc.spec.parameters import Read, file_of
from torc.spec.plan import Plan
from torc.spec.read_json import read_json, read_json5
from torc.spec.read_kdl import read_kdl
from torc.spec.read_yaml import read_yaml

Format = Literal["yaml", "json", "json5", "kdl"]
READERS: dict[str, Callable[[str, str], Document]] = {
    "json": read_json,
    "yaml": read_yaml,
    "json5": read_json5,
    "kdl": read_kdl,
}
SUFFIXES: dict[str, Format] = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".json5": "json5", ".kdl": "kdl"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a spec may be."""

    max_jobs: int = 5_000_000
    max_characters: int = MAX_CHARACTERS


def compile_spec(
    text: str,
    *,
    format: Format | None = None,
    name: str = "<stdin>",
    read: Read | None = None,
    limits: Limits = Limits(),
) -> tuple[Plan | None, list[Diagnostic]]:
    """Compile a spec. The plan is None when there is an error among the diagnostics, which are in order of place.

    `read` gives the text of an `@file` relative to the spec. `format` None: the formats are tried in turn.
    """
    document, spec = _checked(text, format, name, limits)
    problems = list(document.problems)
    plan = None
    if spec is not None:
        builder = Builder(spec, document, read, limits.max_jobs)
        plan = build_plan(builder)
        problems += builder.problems
    if any(problem.severity == "error" for problem in problems):
        plan = None
    return plan, _sorted(problems)


def parse_spec(
    text: str, *, format: Format | None = None, name: str = "<stdin>", limits: Limits = Limits()
) -> tuple[WorkflowSpec | None, list[Diagnostic]]:
    """Read and check a spec without expanding it."""
    document, spec = _checked(text, format, name, limits)
    return spec, _sorted(document.problems)


def external_files(text: str, *, format: Format | None = None) -> list[str]:
    """Give the names of the `@file`s that the parameters of a spec mention, in order."""
    data = load_document(text, format=format).data
    found: dict[str, None] = {}
    for owner in _parameter_owners(data):
        for value in owner.values():
            name = file_of(value)
            if name is not None:
                found[name] = None
    return list(found)


def _parameter_owners(data: Any) -> list[dict[str, Any]]:
    if not isinstance(data, dict):
        return []
    parts = [data, *(item for key in ("jobs", "files", "user_data") for item in _items(data.get(key)))]
    return [part["parameters"] for part in parts if isinstance(part.get("parameters"), dict)]


def _items(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def load_document(
    text: str, *, format: Format | None = None, name: str = "<stdin>", limits: Limits = Limits()
) -> Document:
    """Read a document without checking it against the schema."""
    if len(text) > limits.max_characters:
        message = f"the document has {len(text):,} characters (at most {limits.max_characters:,})"
        return Document(name, "", None, lambda path, key: None, [Diagnostic("too_large", message, file=name)])
    if format is not None:
        return READERS[format](text.removeprefix("\ufeff"), name)
    tried = [READERS[kind](text.removeprefix("\ufeff"), name) for kind in _likely(text)]
    fitting = [document for document in tried if isinstance(document.data, dict)]
    return next((d for d in fitting if not d.problems), fitting[0] if fitting else tried[0])


def _likely(text: str) -> list[str]:
    start = text.lstrip("\ufeff \t\r\n")
    return ["json", "json5", "kdl", "yaml"] if start.startswith(("{", "//", "/*")) else ["yaml", "kdl", "json5"]


def _checked(text: str, format: Format | None, name: str, limits: Limits) -> tuple[Document, WorkflowSpec | None]:
    document = load_document(text, format=format, name=name, limits=limits)
    if any(problem.code in _HOPELESS for problem in document.problems):
        return document, None
    data = document.data
    if not isinstance(data, dict):
        what = "the document is empty" if data is None else "the document is not a mapping of fields"
        document.problems.append(document.problem("not_a_spec", what, suggestion="begin with `name:` and `jobs:`"))
        return document, None
    data = {key: value for key, value in data.items() if key != "$schema"}
    try:
        return document, WorkflowSpec.model_validate(data)
    except ValidationError as error:
        document.problems += _schema_problems(error, document)
        return document, None


def _sorted(problems: list[Diagnostic]) -> list[Diagnostic]:
    unique = list(dict.fromkeys(problems))
    return sorted(unique, key=lambda p: (p.span.line, p.span.column) if p.span else (0, 0))


#: what these concern cannot be looked at further
_HOPELESS = frozenset({"syntax", "too_deep", "too_large"})
_MOST_FIELDS = 12
_WRONG_TYPE = {
    "string_type": "a text is needed here",
    "int_type": "an integer is needed here",
    "float_type": "a number is needed here",
    "bool_type": "`true` or `false` is needed here",
    "list_type": "a list is needed here",
    "dict_type": "a mapping is needed here",
    "model_type": "a mapping of fields is needed here",
    "too_short": "this must not be empty",
    "finite_number": "this must be a finite number",
}


def _schema_problems(error: ValidationError, document: Document) -> list[Diagnostic]:
    found: dict[Path, list[Any]] = {}
    for problem in error.errors(include_url=False):
        found.setdefault(_data_path(problem["loc"], document.data), []).append(problem)
    meant = {
        (*path[:-1], near)
        for path, problems in found.items()
        if problems[0]["type"] == "extra_forbidden" and (near := _near_field(path))
    }
    return [
        _schema_problem(path, problems, document)
        for path, problems in found.items()
        if not _follows_from_others(path, problems, found, meant)
    ]


def _near_field(path: Path) -> str | None:
    near = difflib.get_close_matches(str(path[-1]), _fields_at(path[:-1]), 1, 0.6)
    return near[0] if near else None


def _follows_from_others(path: Path, problems: list[Any], found: Mapping[Path, Any], meant: Collection[Path]) -> bool:
    """Tell whether a problem goes away with another: a field that is there misspelt, a choice whose parts are wrong."""
    if problems[0]["type"] == "missing":
        return path in meant
    return problems[0]["type"] in _WRONG_TYPE and any(
        len(other) > len(path) and other[: len(path)] == path for other in found
    )


def _keys(data: Any) -> Any:
    return range(len(data)) if isinstance(data, list) else data if isinstance(data, dict) else ()


def _data_path(loc: tuple[int | str, ...], data: Any) -> Path:
    """Leave out of a pydantic location what is not in the data: the names of union members."""
    path: list[int | str] = []
    here: Any = data
    for position, part in enumerate(loc):
        if part in _keys(here):
            here = here[part]
        elif (
            position != len(loc) - 1
            or not isinstance(here, dict)
            or (isinstance(part, str) and not part.isidentifier())
        ):
            continue
        path.append(part)
    return tuple(path)


def _schema_problem(path: Path, problems: list[Any], document: Document) -> Diagnostic:
    problem = problems[0]
    kind, last = problem["type"], path[-1] if path else ""
    hint: str | None
    if kind == "extra_forbidden":
        near = _near_field(path)
        known = ", ".join(_fields_at(path[:-1])[:_MOST_FIELDS])
        hint = f"did you mean `{near}`?" if near else f"fields here are {known}"
        return document.problem("unknown_field", f"unknown field `{last}`", path, key=True, suggestion=hint)
    if kind == "missing":
        return document.problem("missing_field", f"`{last}` is missing", path[:-1])
    if kind == "literal_error":
        expected = problem["ctx"]["expected"].replace("'", "`")
        choices = expected.replace("`", "").replace(" or ", ", ").split(", ")
        close = difflib.get_close_matches(str(problem["input"]), choices, 1)
        hint = f"did you mean `{close[0]}`?" if close else None
        return document.problem("bad_value", f"{problem['input']!r} is not one of {expected}", path, suggestion=hint)
    types = [p["type"] for p in problems]
    message = _WRONG_TYPE.get(kind) or _message(problem, path)
    if len(set(types)) > 1 and all(t in _WRONG_TYPE for t in types):
        message = (
            " or ".join(dict.fromkeys(_WRONG_TYPE[t].removesuffix(" is needed here") for t in types))
            + " is needed here"
        )
    hint = (
        "put the text in quotes" if kind == "string_type" and isinstance(problem["input"], (int, float, bool)) else None
    )
    return document.problem("bad_type" if kind in _WRONG_TYPE else "bad_value", message, path, suggestion=hint)


def _message(problem: Any, path: Path) -> str:
    last = path[-1] if path else ""
    if problem["type"] == "string_pattern_mismatch":
        if last == "memory":
            return f"{problem['input']!r} is no amount of memory: write 512m, 2g, 1t"
        if last in {"runtime", "walltime"}:
            return f"{problem['input']!r} is no duration: write PT1H30M, 30m or 1-02:00:00"
        if problem["input"] == "":
            return "this must not be empty"
        return f"{problem['input']!r} does not have the right form (pattern {problem['ctx']['pattern']})"
    return str(problem["msg"])


def _fields_at(path: Path) -> list[str]:
    """Give the fields that the schema has at a path."""
    kind: Any = WorkflowSpec
    for part in path:
        if (
            isinstance(part, str)
            and isinstance(kind, type)
            and issubclass(kind, BaseModel)
            and part in kind.model_fields
        ):
            kind = _model_in(kind.model_fields[part].annotation)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument)) is not None), None)
