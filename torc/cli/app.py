"""Commands, groups of commands, and how their help looks. Not for what commands do.

Help is written here, not by typer: the same page for a command and a group, as wide as the terminal up to 100 columns.
"""

from __future__ import annotations

import difflib
import importlib
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from torc.cli.terminal import style

_WIDEST = 100
_INDENT = "  "
_MOST_NAME = 34

GLOBAL_HELP = [
    ("--db PATH_OR_URL", "The database: a SQLite file, or postgresql+psycopg://... [env TORC_DB]"),
    ("--url URL", "The server to use. [env TORC_API_URL]"),
    ("-f, --format table|json", "Output format: tables or JSON. [env TORC_FORMAT]"),
    ("--log-level LEVEL", "Least severe messages to show: error, warning, info or debug. [env TORC_LOG_LEVEL]"),
    ("--no-color", "Do not use colors. [env NO_COLOR]"),
    ("--version", "Show the version."),
    ("--help", "Show the help of a command, with an example."),
]


class Command(TyperCommand):
    """A command whose help is our page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        formatter.write(_command_page(self, ctx))


class CommandGroup(TyperGroup):
    """A group of commands whose help is our page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        rows = [
            (name, _first_line(command.help))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        ]
        formatter.write(
            _page(
                _usage(f"{ctx.command_path} COMMAND [OPTIONS]"),
                _paragraphs(self.help or ""),
                *_sections({"Commands": rows}),
                _footer(f"`{ctx.command_path} COMMAND --help` shows the help of a command, with an example."),
            )
        )


class App(typer.Typer):
    """A typer of ours: no colors in help but ours, no options of its own."""

    def __init__(self, text: str, *, alone: Callable[..., Any] | None = None) -> None:
        super().__init__(
            cls=CommandGroup, help=text, no_args_is_help=alone is None, rich_markup_mode=None, add_completion=False
        )
        if alone is not None:  # what the group does without a command
            self.callback(cls=CommandGroup, help=text, invoke_without_command=True)(alone)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Enter a function as a command."""
        return super().command(name, cls=Command, **settings)


class Lazy(CommandGroup):
    """The group of all commands, each loaded when it is used. `table`: name -> ("module:function or app", what it does)."""

    def __init__(self, table: Mapping[str, tuple[str, str]], sections: Mapping[str, Sequence[str]]) -> None:
        super().__init__(
            name="torc",
            help="Torc runs workflows: from a loop over a thousand jobs to pipelines of many stages.",
            no_args_is_help=True,
            rich_markup_mode=None,
        )
        self.table, self.sections = table, sections

    def list_commands(self, ctx: Any) -> list[str]:
        """Name all commands."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load a command. Raises typer's usage error, with the nearest name."""
        if cmd_name not in self.table:
            near = difflib.get_close_matches(cmd_name, self.table, 1)
            hint = f" Did you mean `torc {near[0]}`?" if near else ""
            raise click().exceptions.UsageError(f"there is no command `{cmd_name}`.{hint}", ctx)
        module, _, name = self.table[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), name)
        if not isinstance(found, typer.Typer):
            single = App("")
            single.command(cmd_name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page, without loading any command."""
        sections = {title: [(name, self.table[name][1]) for name in names] for title, names in self.sections.items()}
        formatter.write(
            _page(
                _usage("torc COMMAND [OPTIONS]"),
                _paragraphs(self.help or ""),
                _paragraphs(
                    "Begin with `torc run SPEC`. `torc COMMAND --help` shows the help of a command, with an example."
                ),
                *_sections(sections, {"Options, before or after the command": GLOBAL_HELP}),
            )
        )


def click() -> Any:
    """Return the click that typer uses: newer versions carry their own."""
    try:
        return importlib.import_module("typer._click")
    except ModuleNotFoundError:
        return importlib.import_module("click")


def option_names(parameter: Any) -> str:
    """Write the names of an option, with what it takes: `-j, --max-parallel-jobs N`."""
    names = sorted(parameter.opts, key=len)
    if parameter.secondary_opts:
        return f"{', '.join(names)} / {', '.join(parameter.secondary_opts)}"
    return ", ".join(names) + ("" if parameter.is_flag else f" {parameter.metavar or _taken(parameter)}")


def _taken(parameter: Any) -> str:
    if chosen := choices(parameter):
        return "|".join(chosen)
    return {int: "N", float: "NUMBER", Path: "PATH"}.get(value_type(parameter), "TEXT")


def value_type(parameter: Any) -> type:
    """Tell of which type the values of an option or argument are."""
    found = parameter.type_descriptor.annotation
    return found if isinstance(found, type) else str


def choices(parameter: Any) -> list[str]:
    """Return the values that an option or argument may have, where they are few."""
    kind = value_type(parameter)
    return [str(member.value) for member in kind] if issubclass(kind, Enum) else []


def argument_name(parameter: Any) -> str:
    """Write an argument: in brackets where it may be left out."""
    name = str(parameter.metavar or parameter.name.upper().replace("_", "-"))
    if parameter.nargs != 1:
        name += "..."
    return name if parameter.required else f"[{name}]"


def parameters(command: Any, kind: str) -> list[Any]:
    """Return the arguments or the options of a command, those that are shown."""
    return [
        parameter
        for parameter in command.params
        if parameter.param_type_name == kind and not getattr(parameter, "hidden", False)
    ]


def parameter_help(parameter: Any) -> str:
    """Say what an option or argument is for, with its default."""
    text = " ".join((getattr(parameter, "help", None) or "").split())
    default = parameter.default
    if default is None or default is False or default in ((), "") or callable(default) or not parameter.opts:
        return text
    if parameter.secondary_opts or default is True:
        return text
    return f"{text} Default: {getattr(default, 'value', default)}."


def _command_page(command: Any, ctx: Any) -> str:
    text, _, example = (command.help or "").partition("Example:")
    arguments = parameters(command, "argument")
    usage = " ".join([ctx.command_path, *map(argument_name, arguments), "[OPTIONS]"])
    return _page(
        _usage(usage),
        _paragraphs(text),
        f"{_bold('Example')}\n{_INDENT}{example.strip()}" if example else "",
        *_sections(
            {
                "Arguments": [(argument_name(item), parameter_help(item)) for item in arguments],
                "Options": [
                    (option_names(item), parameter_help(item) + (" Required." if item.required else ""))
                    for item in parameters(command, "option")
                ],
            }
        ),
        _footer("-f, --format, --db, --url, --log-level and --no-color work everywhere: `torc --help`."),
    )


def _page(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _usage(text: str) -> str:
    return f"{_bold('Usage')}  {text}"


def _paragraphs(text: str) -> str:
    return "\n\n".join(textwrap.fill(" ".join(part.split()), _width()) for part in text.split("\n\n") if part.strip())


def _footer(text: str) -> str:
    return textwrap.fill(text, _width())


def _sections(*groups: Mapping[str, Iterable[tuple[str, str]]]) -> list[str]:
    """Write sections; the names of those in one group stand in columns of one width."""
    made = []
    for group in groups:
        found = {title: list(rows) for title, rows in group.items()}
        names = [len(name) for rows in found.values() for name, _ in rows if len(name) <= _MOST_NAME]
        column = max(names, default=0)
        made += [
            "\n".join([_bold(title), *(_row(name, text, column) for name, text in rows)])
            for title, rows in found.items()
            if rows
        ]
    return made


def _row(name: str, text: str, column: int) -> str:
    indent = " " * (len(_INDENT) + column + 2)
    shown = textwrap.wrap(text, max(_width() - len(indent), 24)) or [""]
    first = f"{_INDENT}{name.ljust(column)}  "
    if len(name) > column:
        return "\n".join([f"{_INDENT}{name}", *(indent + line for line in shown)]).rstrip()
    return "\n".join([first + shown[0], *(indent + line for line in shown[1:])]).rstrip()


def _first_line(text: str | None) -> str:
    paragraph = (text or "").partition("Example:")[0].strip().split("\n\n")[0]
    return " ".join(paragraph.split()).split(". ")[0].rstrip(".") + "."


def _width() -> int:
    return min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)


def _bold(text: str) -> str:
    plain = not sys.stdout.isatty() or bool(os.environ.get("NO_COLOR")) or "--no-color" in sys.argv
    return text if plain else style("1", text)
