"""The program `torc`: finds the command, loads only what that command needs, and renders errors.

Commands are loaded on use: `torc --help` and `torc --version` import neither the database nor the network.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Any

#: section of the help -> command -> ("module:function or app", what it does)
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run workflows": {
        "run": ("torc.cli.commands.run:run", "Run a spec, or resume a stored workflow, on this machine."),
        "create": ("torc.cli.commands.specs:create", "Store a workflow from a spec, without running it."),
        "status": ("torc.cli.commands.status:status", "Show the state of a workflow."),
        "watch": (
            "torc.cli.commands.watch:watch",
            "Follow a workflow until it ends; with --recover, recover from failures.",
        ),
        "worker": ("torc.cli.commands.run:worker", "Run an additional runner for a stored workflow."),
        "recover": (
            "torc.cli.commands.recover:recover",
            "Rerun failed jobs, with more memory or time if they ran out of it.",
        ),
        "submit": (
            "torc.cli.commands.submit:submit",
            "Plan and submit allocations on a Slurm cluster, and follow the workflow.",
        ),
        "remote": ("torc.cli.commands.remote:app", "Run workers on other machines over SSH."),
        "slurm": ("torc.cli.commands.slurm:app", "Run and manage allocations on a Slurm cluster."),
    },
    "Slurm": {
        "hpc": ("torc.cli.commands.hpc:hpc", "Show what clusters offer, and start a private cluster for experiments."),
    },
    "Write specs": {
        "validate": ("torc.cli.commands.specs:validate", "Check a spec, and show every problem with its location."),
        "plan": ("torc.cli.commands.plan:plan", "Show the stages, critical path, resources and expected makespan."),
        "convert": ("torc.cli.commands.specs:convert", "Convert a spec to another format."),
        "schema": ("torc.cli.commands.specs:schema", "Print the JSON Schema of specs, or set up an editor."),
    },
    "Inspect and change workflows": {
        "workflows": ("torc.cli.commands.workflows:app", "List, inspect and change workflows."),
        "jobs": ("torc.cli.commands.jobs:app", "List, inspect and change jobs; read their logs."),
        "files": ("torc.cli.commands.files:files", "Files that jobs read and write."),
        "user-data": ("torc.cli.commands.user_data:user_data", "JSON that jobs exchange."),
        "resource-requirements": (
            "torc.cli.commands.resource_requirements:requirements",
            "Classes of resources that jobs request.",
        ),
        "failure-handlers": (
            "torc.cli.commands.failure_handlers:failure_handlers",
            "What to do about failed attempts.",
        ),
        "slurm-schedulers": ("torc.cli.commands.slurm_schedulers:slurm_schedulers", "Slurm allocations of a workflow."),
        "results": ("torc.cli.commands.results:results", "List how attempts ended, and what they used."),
        "events": ("torc.cli.commands.events:events", "Show what happened, and who did it."),
        "compute-nodes": ("torc.cli.commands.compute_nodes:compute_nodes", "The runners of a workflow."),
        "logs": ("torc.cli.commands.logs:logs", "Search logs for failures, or pack an archive for a bug report."),
        "plot-resources": (
            "torc.cli.commands.plots:plot_resources",
            "Plot a run: timeline, CPU and memory over time, distributions.",
        ),
        "reports": (
            "torc.cli.commands.reports:reports",
            "Report on a run: tables, an HTML page, an archive for publication.",
        ),
    },
    "Share": {
        "server": ("torc.cli.commands.server:app", "Start, stop and inspect a server for this directory."),
        "login": ("torc.cli.commands.login:login", "Sign in to a server."),
        "logout": ("torc.cli.commands.login:logout", "Sign out of a server."),
        "whoami": ("torc.cli.commands.login:whoami", "Show who you are on the server, and what you may do."),
        "users": ("torc.cli.commands.users:users", "Manage the accounts of a server."),
        "tokens": ("torc.cli.commands.tokens:tokens", "Manage tokens, which programs use instead of a password."),
        "access-groups": (
            "torc.cli.commands.access_groups:access_groups",
            "Manage groups of users that share workflows.",
        ),
        "audit": ("torc.cli.commands.audit:audit", "Show who did what, and from where."),
        "mcp": ("torc.cli.commands.mcp:app", "Let assistants use Torc over MCP."),
        "approve": ("torc.cli.commands.plans:approve", "Approve the plan of an assistant."),
        "plans": ("torc.cli.commands.plans:plans", "Review the plans of assistants, and what they have spent."),
    },
    "Set up": {
        "config": ("torc.cli.commands.config:config", "Show, change and check the configuration."),
        "completion": ("torc.cli.commands.completion:completion", "Complete commands in bash, zsh or fish."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
_USAGE = 2
_NO_INTEGER = "Input should be a valid integer, unable to parse string as an integer"
#: imports and plans make many objects that stay: collecting after each 700 costs a tenth of the time of a start
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main() -> None:
    """Run the program and exit with the documented code."""
    _use_utf8()
    from torc.cli import terminal

    terminal.install()
    sys.exit(terminal.finish(_main(sys.argv[1:])))


def _use_utf8() -> None:
    """Start again in UTF-8 mode (PEP 540) under a locale of another encoding: commands and names in specs are UTF-8 anyway.

    The terminal keeps its encoding.
    """
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    terminal = getattr(sys.stdout or sys.stderr, "encoding", None) or "utf-8"
    options = ["-X", "utf8", "-X", f"torc_terminal={terminal}"]
    os.execv(sys.executable, [sys.executable, *options, *sys.orig_argv[1:]])


def _main(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-V"]):
        print(f"torc {importlib.import_module('torc').__version__}")
        return 0
    if arguments[:2] == ["completion", "--complete"]:
        importlib.import_module("torc.cli.commands.completion").print_offers(arguments[2:])
        return 0
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 50)
    return run(arguments)


def run(arguments: list[str]) -> int:
    """Run one command line and give its exit code."""
    from torc.cli import errors
    from torc.cli.session import SESSION, take_global_options
    from torc.errors import TorcError

    try:
        rest = take_global_options(arguments)
        errors.require_text(arguments)
        if rest and "--help" not in rest:
            SESSION.load()
        return _dispatch(rest)
    except TorcError as error:
        errors.render(error, color=SESSION.color, as_json=SESSION.json)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return errors.INTERRUPTED
    except UnicodeEncodeError as error:  # a folder or variable that is not UTF-8 on its way to a store or a file
        return errors.render_not_text(error, color=SESSION.color, as_json=SESSION.json)
    except BrokenPipeError:  # whoever read the output has enough
        return 0
    except Exception as error:  # noqa: BLE001 - the one place where the unexpected is told to a user
        return errors.render_other(error, color=SESSION.color, as_json=SESSION.json)


def _dispatch(arguments: list[str]) -> int:
    typer = importlib.import_module("typer")
    try:
        code = command_group().main(args=arguments, prog_name="torc", standalone_mode=False)
    except typer.Exit as exit_:
        return int(exit_.exit_code)
    except typer.Abort:
        print("interrupted", file=sys.stderr)
        return 130
    except importlib.import_module("torc.cli.app").click().exceptions.ClickException as error:
        return _usage_error(error)
    return code if isinstance(code, int) else 0


def _usage_error(error: Any) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its message is the help
        print(error.format_message(), file=sys.stderr)
        return _USAGE
    message = error.format_message().replace("Value error, ", "").replace(_NO_INTEGER, "a whole number is needed")
    print(f"error: {message}", file=sys.stderr)
    if context is not None:
        print(f"  hint: `{context.command_path} --help` explains it", file=sys.stderr)
    return _USAGE


def command_group() -> Any:
    """Make the group of all commands, each loaded on use."""
    from torc.cli.app import Lazy

    return Lazy(COMMANDS, {title: tuple(section) for title, section in SECTIONS.items()})


if __name__ == "__main__":
    main()
