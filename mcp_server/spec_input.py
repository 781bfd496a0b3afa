"""Specs as assistants provide them: text in any format, an object, or a file below the server's directory.

No path leads outside that directory, neither in an argument nor in a spec (`@file`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from mcp_server import file_access
from mcp_server.context import context
from mcp_server.formatting import Reply, plain
from torc.api.transfer import ExportSpec
from torc.api.workflows import SourceFile
from torc.errors import Forbidden, Invalid, NotFound
from torc.spec.compiler import compile_spec, external_files
from torc.spec.diagnostics import Diagnostic
from torc.spec.formats import ANY_FORMAT, ANY_SUFFIX, Format, format_of
from torc.spec.plan import Plan

Spec = Annotated[str | dict[str, Any] | None, Field(description=f"the spec: its text ({ANY_FORMAT}) or an object")]
SpecPath = Annotated[str | None, Field(description="or a spec file below the server's directory")]
_MOST_PROBLEMS = 20


class SpecSource(NamedTuple):
    """A spec and where it comes from."""

    text: str
    format: Format | None
    name: str


class SpecProblem(Reply):
    """A problem in a spec."""

    severity: str
    code: str
    message: str
    line: int | None = None
    at: str | None = Field(None, description="the field, such as jobs[3].command")
    source_line: str | None = None
    fix: str | None = None


def source_of(spec: str | dict[str, Any] | None, path: str | None) -> SpecSource:
    """Return the spec from one of the two arguments. Raises Invalid."""
    if (spec is None) == (path is None):
        raise Invalid(
            "spec: give either spec or path",
            hint='spec={"name": "hello", "jobs": [{"name": "a", "command": "echo hi"}]}',
        )
    if isinstance(spec, dict):
        return SpecSource(json.dumps(spec, ensure_ascii=False, indent=1), Format.JSON, "<spec>")
    if spec is not None:
        return SpecSource(spec, None, "<spec>")
    form = format_of(str(path))
    if form is None:
        raise Invalid(f"path: {plain(str(path))} is not the name of a spec", hint=f"specs end in {ANY_SUFFIX}")
    return SpecSource(file_access.read(str(path)), form, str(path))


def reader(source: SpecSource) -> Callable[[str], str]:
    """Return a function that reads the `@file`s of a spec: relative to it, below the server's directory."""
    base = "" if source.name == "<spec>" else str(Path(source.name).parent)

    def read_file(path: str) -> str:
        try:
            return file_access.read(str(Path(base) / path))
        except (Forbidden, Invalid, NotFound) as error:
            raise OSError(error.message) from None

    return read_file


def compiled(source: SpecSource) -> tuple[Plan | None, list[Diagnostic]]:
    """Compile a spec; the plan is None if it has errors."""
    return compile_spec(source.text, format=source.format, name=source.name, read=reader(source))


def checked(source: SpecSource) -> Plan:
    """Compile a spec that must be valid. Raises Invalid, with its problems."""
    plan, found = compiled(source)
    if plan is None:
        errors = sum(problem.severity == "error" for problem in found)
        raise Invalid(
            f"the spec is not valid: {errors} problem{'' if errors == 1 else 's'}",
            hint="correct these and try again; torc://guide/spec explains specs",
            diagnostics=[problem.to_dict() for problem in found],
        )
    return plan


def source_files(source: SpecSource) -> list[SourceFile]:
    """Return the files that a spec refers to."""
    read_file = reader(source)
    return [SourceFile(path=path, text=read_file(path)) for path in external_files(source.text, format=source.format)]


def problems(found: list[Diagnostic]) -> list[SpecProblem]:
    """Format the problems in a spec, errors first."""
    ordered = sorted(found, key=lambda problem: problem.severity != "error")
    return [
        SpecProblem(
            severity=problem.severity,
            code=problem.code,
            message=plain(problem.message, 300),
            line=problem.line,
            at=plain(problem.path, 80) or None,
            source_line=plain(problem.source_line, 160) or None,
            fix=plain(problem.suggestion, 240) or None,
        )
        for problem in ordered[:_MOST_PROBLEMS]
    ]


def stored_plan(workflow_id: int) -> Plan:
    """Compile the spec from which a stored workflow could be created again."""
    found = context().torc.send(ExportSpec(workflow_id=workflow_id, format=Format.JSON))
    return checked(SpecSource(found.text, Format.JSON, f"workflow {workflow_id}"))
