"""Commands about specs: validate, create, convert, schema."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from torc import files
from torc.cli import rendering
from torc.cli.connection import torc
from torc.cli.session import SESSION
from torc.cli.spec_files import read_spec
from torc.cli.terminal import print_json, style
from torc.errors import Conflict, Invalid
from torc.spec.formats import SUFFIXES, Format

Spec = Annotated[str, typer.Argument(metavar="SPEC", help=f"A spec ({SUFFIXES}), or - for standard input.")]


def reader_beside(name: str) -> Callable[[str], str]:
    """Return what reads the files that a spec refers to, relative to it."""
    base = Path.cwd() if name == "<stdin>" else Path(name).parent

    def read(path: str) -> str:
        return files.read_text(base / path)

    return read


def compiled(path: str) -> tuple[Any, list[Any], str, Format | None, str]:
    """Compile a spec: plan, diagnostics, text, format, name. Raises Invalid with the rendered diagnostics."""
    from torc.runner.symbolic_links import links_of
    from torc.spec.compiler import compile_spec
    from torc.spec.expansion.paths import placing

    text, form, name = read_spec(path)
    read, here = reader_beside(name), os.getcwd()
    plan, found = compile_spec(text, format=form, name=name, read=read, place=placing(here))
    links = None if plan is None else links_of([file.path for file in plan.files], here)
    if links:
        plan, found = compile_spec(text, format=form, name=name, read=read, place=placing(here, links))
    if plan is None:
        errors = [problem for problem in found if problem.severity == "error"]
        raise Invalid(
            f"{name} is not valid: {len(errors)} problem{'s' if len(errors) > 1 else ''}",
            hint="nothing was stored",
            diagnostics=[problem.to_dict() for problem in found],
            rendered=[_rendered(problem) for problem in found],
        )
    return plan, found, text, form, name


def _rendered(problem: Any) -> str:
    is_colored = SESSION.color and not SESSION.json and sys.stderr.isatty()
    return str(problem.render(style) if is_colored else problem.render())


def checked_spec(path: str) -> tuple[Any, Any]:
    """Check a spec; returns what it stands for, and the request that stores it. Warnings are shown."""
    from torc.api.workflows import CreateWorkflow, SourceFile
    from torc.runner.symbolic_links import links_of
    from torc.spec.compiler import external_files

    made, found, text, form, name = compiled(path)
    for problem in found:
        rendering.note(_rendered(problem))
    read = reader_beside(name)
    files = [SourceFile(path=file, text=read(file)) for file in external_files(text, format=form)]
    here = os.getcwd()
    links = links_of([file.path for file in made.files], here)
    request = CreateWorkflow(spec=text, format=form, name=name, files=files, directory=here, links=links)
    return made, request


def checked_request(path: str) -> Any:
    """Check a spec and make the request that stores it; warnings are shown."""
    return checked_spec(path)[1]


def validate(spec: Spec) -> None:
    """Check a spec, and show every problem with its location. Exit code 2 if there are problems.

    Example: torc validate sweep.yaml
    """
    try:
        plan, found, _, _, name = compiled(spec)
    except Invalid as error:
        if SESSION.json and "diagnostics" in error.details:
            rendering.show_json({"valid": False, "diagnostics": error.details["diagnostics"]})
            raise typer.Exit(2) from None
        raise
    if SESSION.json:
        rendering.show_json(
            {
                "valid": True,
                "name": plan.name,
                "num_jobs": len(plan.jobs),
                "num_files": len(plan.files),
                "num_user_data": len(plan.user_data),
                "diagnostics": [problem.to_dict() for problem in found],
            }
        )
        return
    for problem in found:
        rendering.note(_rendered(problem))
    print(f"{name} is valid: {rendering.plural(len(plan.jobs), 'job')}, {rendering.plural(len(plan.files), 'file')}")


def create(spec: Spec) -> None:
    """Store a workflow without running it. Run it with `torc run ID` or `torc submit ID`.

    Example: torc create sweep.yaml
    """
    made, request = checked_spec(spec)
    with torc() as opened:
        workflow = opened.send(request)
    command = "submit" if any(action.action_type == "schedule_nodes" for action in made.actions) else "run"
    if SESSION.json:
        rendering.show_json(workflow)
    else:
        print(f"created workflow {workflow.id} ({workflow.name}) with {rendering.plural(workflow.counts.total, 'job')}")
        rendering.note(f"run it with: torc {command} {workflow.id}")


def convert(
    spec: Spec,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; its suffix selects the format.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Convert a spec to another format, with the same meaning.

    Example: torc convert sweep.yaml -o sweep.kdl
    """
    from torc.files import write_whole
    from torc.spec.compiler import parse_spec
    from torc.spec.formats import format_to_write
    from torc.spec.writer import write_spec

    form = format_to_write(output)
    if output.exists() and not force:
        raise Conflict(f"{output} already exists", hint="use --force to overwrite it")
    compiled(spec) if spec != "-" else None
    text, source, name = read_spec(spec)
    parsed, found = parse_spec(text, format=source, name=name)
    if parsed is None:
        raise Invalid(f"{name} is not valid", rendered=[problem.render() for problem in found])
    write_whole(output, write_spec(parsed, form).encode())
    rendering.note(f"wrote {output}")


def schema(
    install: Annotated[
        str | None, typer.Option("--install", help="Set up an editor: `vscode` writes .vscode/settings.json here.")
    ] = None,
) -> None:
    """Print the JSON Schema of specs, or set up an editor with it.

    Example: torc schema --install vscode
    """
    from torc.spec.schema import workflow_schema

    if install is None:
        print_json(json.dumps(workflow_schema(), indent=2))
        return
    if install != "vscode":
        raise Invalid(f"there is no set-up for `{install}`", hint="`vscode` is known")
    _install_vscode(workflow_schema())


_PATTERNS = ["*.torc.yaml", "*.torc.yml", "torc/*.yaml", "workflow.yaml"]


def _install_vscode(content: dict[str, Any]) -> None:
    from torc.files import write_whole

    folder = Path(".vscode")
    schema_file = folder / "torc-workflow.schema.json"
    settings_file = folder / "settings.json"
    entries = {
        "yaml.schemas": {"./.vscode/torc-workflow.schema.json": _PATTERNS},
        "json.schemas": [{"fileMatch": ["*.torc.json", "workflow.json"], "url": "./.vscode/torc-workflow.schema.json"}],
    }
    settings: dict[str, Any] = {}
    if settings_file.exists():
        try:
            settings = json.loads(settings_file.read_text(encoding="utf-8"))
        except ValueError:
            settings = {}
        if not isinstance(settings, dict) or not settings:
            raise Conflict(
                f"{settings_file} has comments or is not plain JSON: it was left alone",
                hint="put this into it:\n" + json.dumps(entries, indent=2),
            )
    yaml_schemas = {**settings.get("yaml.schemas", {}), **entries["yaml.schemas"]}  # type: ignore[dict-item]
    ours = entries["json.schemas"][0]  # type: ignore[index]
    json_schemas = [item for item in settings.get("json.schemas", []) if item.get("url") != ours["url"]] + [ours]
    folder.mkdir(exist_ok=True)
    write_whole(schema_file, f"{json.dumps(content, indent=2)}\n".encode())
    merged = {**settings, "yaml.schemas": yaml_schemas, "json.schemas": json_schemas}
    write_whole(settings_file.resolve(), f"{json.dumps(merged, indent=2)}\n".encode())
    rendering.note(
        f"wrote {schema_file} and {settings_file}; a spec anywhere else can name the schema in its first line"
    )
