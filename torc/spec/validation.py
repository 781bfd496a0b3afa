"""Validate a document against the schema: the result is the spec, or problems in plain words at their positions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from torc.spec.document import Document, Path
from torc.spec.model import WorkflowSpec
from torc.spec.suggestions import Nearest

_MOST_FIELDS = 12
_MOST_SHOWN = 80
_WRONG_TYPE = {
    "string_type": "a text",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "`true` or `false`",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of fields",
}
_FORMS = {
    "memory": "is not an amount of memory: write 512m, 2g, 1t",
    "runtime": "is not a duration: write PT1H30M, 30m or 1-02:00:00",
    "walltime": "is not a time limit: write 01:30:00 or 1-02:00:00",
    "granularity": "is not `summary` or `time_series`",
}
#: fields of Torc before 0.12, and their current names
_OLD_NAMES = {
    "blocked_by": "depends_on",
    "blocked_by_job": "depends_on",
    "blocked_by_job_names": "depends_on",
    "blocked_by_regexes": "depends_on_regexes",
    "resource_requirements_name": "resource_requirements",
    "scheduler_name": "scheduler",
    "input_file_names": "input_files",
    "output_file_names": "output_files",
    "input_user_data_names": "input_user_data",
    "output_data_names": "output_user_data",
    "output_data": "output_user_data",
    "job_names": "jobs",
    "job_name": "jobs",
}
#: fields accepted by Torc 0.12 that have no effect here
_WITHOUT_EFFECT = (("files", "st_mtime"), ("resource_monitor", "metrics"))


def check(document: Document) -> WorkflowSpec | None:
    """Validate a document; return None if it is invalid, with problems recorded in the document."""
    data = document.data
    if data is None and document.failed:
        return None
    if not isinstance(data, dict):
        what = "the document is empty" if data is None else "the document is not a mapping of fields"
        document.report("not_a_spec", what, suggestion="start with `name:` and `jobs:`")
        return None
    _warn(document)
    try:
        return WorkflowSpec.model_validate({key: value for key, value in data.items() if key != "$schema"})
    except ValidationError as error:
        _report(error, document)
        return None


def _warn(document: Document) -> None:
    for field, inner in _WITHOUT_EFFECT:
        value = document.data.get(field)
        for at, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, dict) and item.get(inner) is not None:
                path: Path = (field, at, inner) if isinstance(value, list) else (field, inner)
                document.report("no_effect", f"`{inner}` has no effect", path, key=True, severity="warning")


def _report(error: ValidationError, document: Document) -> None:
    found: dict[Path, list[Any]] = {}
    for problem in error.errors(include_url=False):
        found.setdefault(_data_path(problem["loc"], document.data), []).append(problem)
    nearest = Nearest()
    known: dict[tuple[str, tuple[str, ...]], str | None] = {}
    meant: dict[Path, str] = {}
    for path, problems in found.items():
        if problems[0]["type"] == "extra_forbidden":
            fields = tuple(_fields_at(path[:-1]))
            key = (str(path[-1]), fields)
            if key not in known:
                known[key] = _meant(*key, nearest)
            near = known[key]
            if near is not None:
                meant[path] = near
    instead = {(*path[:-1], name) for path, name in meant.items()}
    parents = {path[:depth] for path in found for depth in range(len(path))}
    for path, problems in found.items():
        if not _follows_from_others(path, problems, parents, instead):
            _describe(path, problems, meant, document)


def _meant(name: str, fields: Collection[str], nearest: Nearest) -> str | None:
    if name in _OLD_NAMES and _OLD_NAMES[name] in fields:
        return _OLD_NAMES[name]
    return next(iter(nearest.of(name, fields, most=1)), None)


def _follows_from_others(path: Path, problems: list[Any], parents: Collection[Path], instead: Collection[Path]) -> bool:
    """Return whether a problem is caused by another: a misspelled existing field, or an alternative with invalid parts."""
    if problems[0]["type"] == "missing":
        return path in instead
    return problems[0]["type"] in _WRONG_TYPE and path in parents


def _describe(path: Path, problems: list[Any], meant: Mapping[Path, str], document: Document) -> None:
    problem = problems[0]
    kind, last, given = problem["type"], path[-1] if path else "", problem["input"]
    hint: str | None
    if kind == "extra_forbidden":
        fields = ", ".join(_fields_at(path[:-1])[:_MOST_FIELDS])
        near_field = meant.get(path)
        hint = f"did you mean `{near_field}`?" if near_field else f"fields here are {fields}"
        document.report("unknown_field", f"unknown field `{last}`", path, key=True, suggestion=hint)
        return
    if kind == "missing":
        document.report("missing_field", f"`{last}` is missing", path[:-1])
        return
    if kind in {"literal_error", "enum"}:
        expected = problem["ctx"]["expected"].replace("'", "`")
        choices = expected.replace("`", "").replace(" or ", ", ").split(", ")
        near = Nearest().of(given, choices, most=1) if isinstance(given, str) else []
        hint = f"did you mean `{near[0]}`?" if near else None
        document.report("bad_value", f"{_shown(given)} is not one of {expected}", path, suggestion=hint)
    elif all(problem["type"] in _WRONG_TYPE for problem in problems):
        needed = list(dict.fromkeys(_WRONG_TYPE[problem["type"]] for problem in problems))
        message = f"{_listed(needed)} is needed here"
        is_unquoted = "string_type" in {p["type"] for p in problems} and isinstance(given, (int, float, bool))
        hint = "put the text in quotes" if is_unquoted else None
        document.report("bad_type", message, path, suggestion=hint)
    else:
        chosen = next(problem for problem in problems if problem["type"] not in _WRONG_TYPE)
        code = "bad_type" if chosen["type"] in {"too_short", "finite_number"} else "bad_value"
        document.report(code, _message(chosen, last), path)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def _message(problem: Any, last: int | str) -> str:
    kind, given = problem["type"], problem["input"]
    if kind == "too_short":
        return "this must not be empty"
    if kind == "finite_number":
        return "this must be a finite number"
    if kind == "string_unicode":
        return "this contains half of a surrogate pair, which is not a character"
    if kind != "string_pattern_mismatch":
        return str(problem["msg"])
    if last in _FORMS:
        return f"{_shown(given)} {_FORMS[str(last)]}"
    if not given.strip():
        return "this must not be empty"
    if "\x00" in given:
        return f"{_shown(given)} does not have the right form: it contains a NUL character"
    if any(character < " " or character == "\x7f" for character in given):
        return f"{_shown(given)} does not have the right form: a name is one line without control characters"
    return f"{_shown(given)} does not have the right form (pattern {problem['ctx']['pattern']})"


def _keys(data: Any) -> Any:
    return range(len(data)) if isinstance(data, list) else data if isinstance(data, dict) else ()


def _data_path(loc: tuple[int | str, ...], data: Any) -> Path:
    """Remove the names of union members, which are not in the data, from a pydantic location."""
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


def _fields_at(path: Path) -> list[str]:
    """Return the fields that the schema defines at a path."""
    kind: Any = WorkflowSpec
    for part in path:
        if isinstance(part, str) and part in _fields(kind):
            kind = _model_in(_fields(kind)[part].annotation)
    return list(_fields(kind))


def _fields(kind: Any) -> Mapping[str, Any]:
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument)) is not None), None)
