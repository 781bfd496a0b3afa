"""Generate parts of the documentation: the command line, the fields of the spec, the diagram of job states, the schema and
the examples of the REST interface.

`python scripts/make_docs.py` writes them. With `--check`, it lists what is out of date and exits with 1.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from torc.cli.app import GLOBAL_HELP
from torc.cli.main import COMMANDS, command_group
from torc.cli.settings import SETTINGS
from torc.spec.schema import schema_text, workflow_schema
from torc.workflow.states import TRANSITIONS, states_mermaid

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
rest_examples = importlib.import_module("scripts.rest_examples")


def cli_page() -> str:
    """Return the reference of all commands and options."""
    lines = [
        "# The command line",
        "",
        "A workflow is named by its id or its name (the newest with that name). It may be left out if the directory has only one",
        "active workflow. Exit codes: 0 done, 1 the work failed, 2 usage or invalid input, 3 not found, 4 conflict or",
        "forbidden, 5 unavailable, 130 interrupted.",
        "",
        "| option, before or after the command | |",
        "|---|---|",
        *(f"| `{name.replace('|', chr(92) + '|')}` | {text} |" for name, text in GLOBAL_HELP),
    ]
    group = command_group()
    for name in COMMANDS:
        _command(lines, group.get_command(None, name), f"torc {name}", 2)
    return "\n".join(lines) + "\n"


def _command(lines: list[str], command: Any, path: str, depth: int) -> None:
    lines += ["", f"{'#' * depth} `{path}`", ""]
    text, _, example = (command.help or "").partition("Example:")
    lines.append(" ".join(text.split()))
    if example.strip():
        lines += ["", "```sh", example.strip(), "```"]
    if hasattr(command, "commands"):
        for name, child in sorted(command.commands.items()):
            _command(lines, child, f"{path} {name}", depth + 1)
        return
    rows = [row for parameter in command.params if (row := _parameter(parameter))]
    if rows:
        lines += ["", "| argument or option | default | |", "|---|---|---|", *rows]


def _parameter(parameter: Any) -> str | None:
    if parameter.name == "help":
        return None
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = parameter.metavar or parameter.name.upper()
    default = (
        "" if parameter.default in (None, False, (), "") or callable(parameter.default) else f"`{parameter.default}`"
    )
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"| `{names.replace('|', chr(92) + '|')}` | {default} | {text} |"


def spec_tables() -> str:
    """Return a table of fields for each kind of object."""
    schema = workflow_schema()
    lines: list[str] = []
    for title, part in [("Workflow", schema), *schema["$defs"].items()]:
        lines += [
            f"### {title.removesuffix('Spec')}",
            "",
            part.get("description", "") if title != "Workflow" else "The document itself.",
            "",
        ]
        lines += ["| field | type | default | |", "|---|---|---|---|"]
        required = set(part.get("required", ()))
        for name, field in part["properties"].items():
            default = (
                "required"
                if name in required
                else f"`{_shown(field['default'])}`"
                if field.get("default") not in (None, [], {})
                else ""
            )
            lines.append(f"| `{name}` | {_type(field)} | {default} | {_cell(field.get('description', ''))} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1].removesuffix("Spec")
        return f"[{name}](#{name.lower()})"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(part) for part in field["anyOf"] if part.get("type") != "null"))
    kind = field.get("type", "anything")
    if kind == "array":
        return f"list of {_type(field['items'])}"
    return {"object": "map", "string": "text", "boolean": "true or false"}.get(kind, kind)


def states_section() -> str:
    """Return the diagram and the table of job states."""
    rows = [
        f"| {state} | {event} | {target} | {', '.join(effects) or ''} |"
        for (state, event), (target, effects) in TRANSITIONS.items()
    ]
    table = "\n".join(["| state | event | new state | effects |", "|---|---|---|---|", *rows])
    return f'```mermaid\n{states_mermaid()}\n```\n\n??? note "The whole table"\n\n' + "\n".join(
        f"    {line}" for line in table.splitlines()
    )


def settings_table() -> str:
    """Return a table of all settings."""
    lines = ["| setting | variable | default | |", "|---|---|---|---|"]
    for key, setting in SETTINGS.items():
        variable = f"`{setting.variable}`" if setting.variable else ""
        default = "" if setting.default in (None, []) else f"`{_shown(setting.default)}`"
        lines.append(f"| `{key}` | {variable} | {default} | {_cell(setting.text)} |")
    return "\n".join(lines)


def between(text: str, mark: str, content: str) -> str:
    """Replace what stands between two marks."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n\n{content}\n\n{end}", text)


def pages() -> dict[Path, str]:
    """Return every generated file with its content."""
    concepts, spec, configuration = (ROOT / f"docs/{name}.md" for name in ("concepts", "spec", "configuration"))
    return {
        ROOT / "docs/cli.md": cli_page(),
        concepts: between(concepts.read_text(encoding="utf-8"), "states", states_section()),
        spec: between(spec.read_text(encoding="utf-8"), "fields", spec_tables()),
        configuration: between(configuration.read_text(encoding="utf-8"), "settings", settings_table()),
        ROOT / "schemas/torc-workflow.schema.json": schema_text(),
        ROOT / "torc/server/examples.json": rest_examples.examples(),
    }


def main() -> int:
    """Write, or check."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"out of date: {path.relative_to(ROOT)}; run scripts/make_docs.py", file=sys.stderr)
        return 1 if stale else 0
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
