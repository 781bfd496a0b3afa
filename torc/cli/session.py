"""What all commands share: the global options, how to reach a Torc, which workflow is meant."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torc.errors import Conflict, Invalid, NotFound

#: option -> takes a value
GLOBAL_OPTIONS = {"--url": True, "--db": True, "--format": True, "--log-level": True, "--no-color": False}
FORMATS = ("table", "json")


@dataclass(slots=True)
class Session:
    """The global options of this call."""

    url: str | None = None
    db: str | None = None
    format: str = "table"
    log_level: str = "warning"
    color: bool = True

    @property
    def json(self) -> bool:
        """Tell whether programs read the output."""
        return self.format == "json"


SESSION = Session()


def take_global_options(arguments: list[str]) -> list[str]:
    """Read the global options, wherever they stand, and give the other arguments. Raises Invalid."""
    rest: list[str] = []
    found: dict[str, str | bool] = {}
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if argument == "--":
            return _set(found, rest + arguments[at:])
        name, equals, value = argument.partition("=")
        if argument == "-f" and at + 1 < len(arguments) and arguments[at + 1] in FORMATS:
            found["--format"] = arguments[at + 1]
            at += 1
        elif GLOBAL_OPTIONS.get(name):
            if not equals:
                at += 1
                if at >= len(arguments):
                    raise Invalid(f"{name} needs a value", hint="`torc --help` explains it")
                value = arguments[at]
            found[name] = value
        elif argument in GLOBAL_OPTIONS:
            found[argument] = True
        else:
            rest.append(argument)
        at += 1
    return _set(found, rest)


def _set(found: dict[str, str | bool], rest: list[str]) -> list[str]:
    form = str(found.get("--format") or os.environ.get("TORC_FORMAT") or "table")
    if form not in FORMATS:
        raise Invalid(f"there is no format `{form}`", hint="formats are table and json")
    SESSION.format = form
    SESSION.url = str(found["--url"]) if "--url" in found else None
    SESSION.db = str(found["--db"]) if "--db" in found else None
    SESSION.log_level = str(found.get("--log-level", "warning"))
    SESSION.color = "--no-color" not in found and not os.environ.get("NO_COLOR")
    return rest


@contextmanager
def torc(*, create: bool = True) -> Iterator[Any]:
    """Open the Torc that the options, the environment and the directory lead to."""
    from torc.client.connect import connect

    opened = connect(SESSION.url, SESSION.db, create=create)
    for note in getattr(opened, "notes", ()):
        print(f"note: {note}", file=sys.stderr)
    try:
        yield opened
    finally:
        opened.close()


def workflow_id(opened: Any, named: str | None) -> int:
    """Find the workflow that is meant: by id, by name (the newest), or the only active one. Raises NotFound."""
    from torc.api.workflows import GetWorkflow, ListWorkflows

    if named is not None and named.isdigit():
        return int(opened.send(GetWorkflow(workflow_id=int(named))).id)
    if named is not None:
        found = opened.send(ListWorkflows(name=named, include_archived=True, limit=1)).items
        if not found:
            raise NotFound(f"there is no workflow called `{named}`", hint="`torc workflows list` shows what there is")
        return int(found[0].id)
    active = opened.send(ListWorkflows(limit=3)).items
    unfinished = [workflow for workflow in active if workflow.state not in {"completed", "canceled"}]
    if len(active) == 1:
        return int(active[0].id)
    if len(unfinished) == 1 and len(active) < 3:
        return int(unfinished[0].id)
    if not active:
        raise NotFound("there is no workflow here", hint="`torc run SPEC` makes and runs one")
    raise Conflict("several workflows are here: say which one", hint="by id or name; `torc workflows list` shows them")


def read_spec(path: str) -> tuple[str, str | None, str]:
    """Give the text of a spec, its format (None: unknown) and its name. `-` is standard input."""
    from torc.spec.compile import SUFFIXES

    if path == "-":
        return sys.stdin.read(), None, "<stdin>"
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(
            f"there is no file {path}", hint="name a spec (.yaml, .json, .json5, .kdl), or a stored workflow"
        ) from None
    except IsADirectoryError:
        raise Invalid(f"{path} is a directory", hint="name a spec file") from None
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}", hint="check its permissions") from None
    return text, SUFFIXES.get(Path(path).suffix.lower()), path


def looks_like_spec(named: str) -> bool:
    """Tell whether an argument names a spec rather than a stored workflow."""
    return named == "-" or Path(named).suffix.lower() in {".yaml", ".yml", ".json", ".json5", ".kdl"} or "/" in named
