"""The program `torc`: finds the command, loads only what that command needs, and renders errors.

Commands are loaded on use: `torc --help` and `torc --version` import neither the database nor the network.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import sys
from typing import Any

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("torc.cli.run:run", "Run a spec, or go on with a stored workflow, on this machine."),
    "create": ("torc.cli.specs:create", "Store a workflow from a spec, without running it."),
    "validate": ("torc.cli.specs:validate", "Check a spec and show every problem with its place."),
    "plan": ("torc.cli.plan:plan", "Show stages, critical path, resources and expected makespan."),
    "convert": ("torc.cli.specs:convert", "Turn a spec into another format."),
    "schema": ("torc.cli.specs:schema", "Print the JSON Schema of specs, or set up an editor."),
    "status": ("torc.cli.status:status", "Show how a workflow stands."),
    "watch": ("torc.cli.status:watch", "Follow a workflow to its end."),
    "worker": ("torc.cli.run:worker", "Run a further runner for a stored workflow."),
    "workflows": ("torc.cli.workflows:app", "List, inspect and change workflows."),
    "jobs": ("torc.cli.jobs:app", "List, inspect and change jobs; read their logs."),
    "files": ("torc.cli.tables:files", "Files that jobs read and write."),
    "user-data": ("torc.cli.tables:user_data", "JSON that jobs pass on."),
    "resource-requirements": ("torc.cli.tables:requirements", "Classes of resources that jobs ask for."),
    "failure-handlers": ("torc.cli.named:failure_handlers", "What to do about failed attempts."),
    "slurm-schedulers": ("torc.cli.named:slurm_schedulers", "Slurm allocations of a workflow."),
    "results": ("torc.cli.results:results", "How attempts ended, and what they used."),
    "events": ("torc.cli.results:events", "What happened, and who did it."),
    "compute-nodes": ("torc.cli.results:compute_nodes", "The runners of a workflow."),
    "reports": ("torc.cli.results:reports", "Sums over a run."),
}
_USAGE = 2
#: imports and plans make many objects that stay: collecting after each 700 costs a tenth of the time of a start
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main() -> None:
    """Run the program and exit with the documented code."""
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["-V"]):
        print(f"torc {importlib.import_module('torc').__version__}")
        sys.exit(0)
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 50)
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """Run one command line and give its exit code."""
    from torc.cli import errors
    from torc.cli.session import SESSION, take_global_options
    from torc.errors import TorcError

    try:
        return _dispatch(take_global_options(arguments))
    except TorcError as error:
        errors.render(error, color=SESSION.color, as_json=SESSION.json)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return errors.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the one place where the unexpected is told to a user
        errors.render_unexpected(error)
        return 1


def _dispatch(arguments: list[str]) -> int:
    group = command_group()
    typer_exit = importlib.import_module("typer")
    try:
        code = group.main(args=arguments, prog_name="torc", standalone_mode=False)
    except typer_exit.Exit as exit_:
        return int(exit_.exit_code)
    except typer_exit.Abort:
        print("interrupted", file=sys.stderr)
        return 130
    except _click().exceptions.ClickException as error:
        return _usage_error(error)
    return code if isinstance(code, int) else 0


def _usage_error(error: Any) -> int:
    context = getattr(error, "ctx", None)
    print(f"error: {error.format_message()}", file=sys.stderr)
    if context is not None:
        print(f"  hint: `{context.command_path} --help` explains it", file=sys.stderr)
    return _USAGE


def _click() -> Any:
    """Give the click that typer uses: newer versions carry their own."""
    try:
        return importlib.import_module("typer._click")
    except ModuleNotFoundError:
        return importlib.import_module("click")


def command_group() -> Any:
    """Make the group of all commands, each loaded on use."""
    typer_core = importlib.import_module("typer.core")
    typer_main = importlib.import_module("typer.main")

    class Lazy(typer_core.TyperGroup):  # type: ignore[misc, name-defined]
        def list_commands(self, ctx: Any) -> list[str]:
            return list(COMMANDS)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in COMMANDS:
                near = difflib.get_close_matches(cmd_name, COMMANDS, 1)
                hint = f" Did you mean `torc {near[0]}`?" if near else ""
                raise _click().exceptions.UsageError(f"there is no command `{cmd_name}`.{hint}", ctx)
            module, _, name = COMMANDS[cmd_name][0].partition(":")
            found = getattr(importlib.import_module(module), name)
            if not isinstance(found, typer_main.Typer):
                single = typer_main.Typer(add_completion=False, rich_markup_mode=None)
                single.command(cmd_name)(found)
                found = single
            command = typer_main.get_command(found)
            command.name = cmd_name
            return command

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

        def format_options(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Options, before or after the command"):
                formatter.write_dl(GLOBAL_HELP)
            self.format_commands(ctx, formatter)

    return Lazy(
        name="torc",
        help="Torc runs workflows: from a loop over a thousand jobs to pipelines of many stages.",
        epilog="`torc COMMAND --help` explains a command with an example. Begin with `torc run SPEC`.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )


GLOBAL_HELP = [
    ("--db PATH_OR_URL", "The database: a SQLite file, or postgresql+psycopg://... [env TORC_DB]"),
    ("--url URL", "The server to talk to. [env TORC_API_URL]"),
    ("-f, --format table|json", "Tables for people, JSON for programs."),
    ("--log-level LEVEL", "debug, info, warning or error."),
    ("--no-color", "Plain text. [env NO_COLOR]"),
    ("--version", "Show the version."),
    ("--help", "Show this text."),
]

if __name__ == "__main__":
    main()
