"""`torc config`: show where each setting comes from, change settings, check the files."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from torc.cli import rendering
from torc.cli.app import App
from torc.cli.session import SESSION, find_place, torc_folder
from torc.cli.settings import SETTINGS, SYSTEM, Value, load, suggestion, user_file
from torc.cli.terminal import print_document
from torc.client.private_files import write_private
from torc.errors import Conflict, Invalid, NotFound, Unavailable

config = App("Show, change and check the configuration.")
Key = Annotated[
    str, typer.Argument(metavar="KEY", help="A setting, such as run.num_cpus; `torc config show` lists all.")
]
Here = Annotated[bool, typer.Option("--here", help="Use .torc/config.toml of this directory instead of your own file.")]


@config.command()
def show() -> None:
    """Show every setting, its value without passwords, and where it is set.

    Later places take precedence: defaults, /etc/torc/config.toml, ~/.config/torc/config.toml, .torc/config.toml,
    TORC_* variables, options.

    Example: torc config show
    """
    found = {key: (_without_secrets(value), origin) for key, (value, origin) in _origins().items()}
    if SESSION.json:
        rendering.show_json(
            [
                {
                    "key": key,
                    "value": value,
                    "from": origin,
                    "variable": SETTINGS[key].variable,
                    "help": SETTINGS[key].text,
                }
                for key, (value, origin) in found.items()
            ]
        )
        return
    rows = [[key, _shown(value), origin, SETTINGS[key].text] for key, (value, origin) in found.items()]
    rendering.table(["setting", "value", "from", ""], rows)


@config.command()
def get(key: Key) -> None:
    """Print the value of one setting unchanged, including any password in it.

    Example: torc config get run.output_dir
    """
    value, origin = SESSION.settings.origin(_known(key))
    if SESSION.json:
        rendering.show_json({"key": key, "value": value, "from": origin})
    else:
        print_document(_shown(value) + "\n")


@config.command("set")
def set_(
    key: Key,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="Its value; separate the folders of `trusted` with colons.")
    ],
    here: Here = False,
) -> None:
    """Change a setting, for everything you do or for this directory. Comments and order of the file are kept.

    Example: torc config set run.num_cpus 4 --here
    """
    setting = SETTINGS[_known(key)]
    if here and not setting.of_place:
        raise Invalid(f"`{key}` is not read from .torc/config.toml", hint="leave out --here")
    try:
        read = setting.read(value)
    except ValueError as error:
        raise Invalid(f"`{key}`: {error}", hint=setting.text) from None
    path = _target(here)
    _write(path, edited(_text(path), key, read, str(path)))
    rendering.note(f"set {key} in {path}")
    now, origin = load(os.environ, find_place).origin(key)
    if now != read and origin != str(path):
        rendering.note(f"but {origin} sets it to {_shown(_without_secrets(now))}, and wins")


@config.command()
def unset(key: Key, here: Here = False) -> None:
    """Remove a setting from your file, or from that of this directory.

    Example: torc config unset run.num_cpus
    """
    path = _target(here)
    text = _text(path)
    made = edited(text, _known(key), None, str(path))
    if made == text:
        raise NotFound(f"{path} does not set `{key}`", hint="`torc config show` tells where it is set")
    _write(path, made)
    rendering.note(f"took {key} out of {path}")


@config.command()
def validate() -> None:
    """Check all files and variables. Exit code 2 if something is wrong.

    Example: torc config validate
    """
    place = find_place(())
    paths = [SYSTEM, user_file(os.environ), *([place / "config.toml"] if place else [])]
    used = [str(path) for path in paths if path.exists()]
    if SESSION.json:
        rendering.show_json({"valid": True, "files": used})
    else:
        print(f"the configuration is valid ({', '.join(used) or 'no file'})")


def _origins() -> dict[str, tuple[Value, str]]:
    return {key: SESSION.settings.origin(key) for key in SETTINGS}


def _without_secrets(value: Value) -> Value:
    """Leave out the password in the URL of a database: what is listed is copied into reports of faults."""
    from torc.redaction import redact_url

    return redact_url(value) if isinstance(value, str) else value


def _known(key: str) -> str:
    if key not in SETTINGS:
        raise NotFound(f"there is no setting `{key}`{suggestion(key)}", hint="`torc config show` lists what there is")
    return key


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ":".join(value)
    return "" if value is None else str(value)


def _target(here: bool) -> Path:
    if not here:
        return user_file(os.environ)
    return torc_folder() / "config.toml"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _write(path: Path, text: str) -> None:
    try:
        write_private(path.resolve(), text)  # it may name a database with its password
    except Unavailable as error:
        raise Invalid(error.message, hint="check its permissions") from None


def edited(text: str, key: str, value: Value, name: str) -> str:
    """Return the text of a configuration file with one setting changed (None: taken out), all else as it was.

    Raises Conflict where that cannot be done safely: the setting is written over several lines, or in a form of its own.
    """
    section, _, short = key.rpartition(".")
    lines = text.splitlines()
    entry = None if value is None else f"{short} = {_toml(value)}"
    start, end = _section(lines, section)
    at = next((i for i in range(start, end) if re.match(rf"\s*{re.escape(short)}\s*=", lines[i])), None)
    if at is not None:
        lines[at : at + 1] = [] if entry is None else [entry]
    elif entry is not None and start > end:  # no such section
        lines += ([""] if lines else []) + [f"[{section}]", entry]
    elif entry is not None:
        while end > start and not lines[end - 1].strip():
            end -= 1
        lines.insert(end, entry)
    made = "".join(line + "\n" for line in lines)
    if not _is_just(text, made, section, short, value):
        raise Conflict(
            f"{name} is written in a way that cannot be changed safely: it was left alone",
            hint=f"write it by hand: {entry or f'take out {key}'}"
            + (f", below [{section}]" if section and entry else ""),
        )
    return made


def _section(lines: list[str], section: str) -> tuple[int, int]:
    """Return the lines of a section, from its first to behind its last; (1, 0): there is none."""
    heads = [i for i, line in enumerate(lines) if re.match(r"\s*\[", line)]
    if not section:
        return 0, heads[0] if heads else len(lines)
    start = next((i for i in heads if re.match(rf"\s*\[\s*{re.escape(section)}\s*\]", lines[i])), None)
    if start is None:
        return 1, 0
    return start + 1, next((i for i in heads if i > start), len(lines))


def _is_just(before: str, after: str, section: str, short: str, value: Value) -> bool:
    """Return whether a text says what another says, but for one setting."""
    try:
        expected, found = tomllib.loads(before), tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        return False
    inner = expected.setdefault(section, {}) if section else expected
    inner.pop(short, None)
    if value is not None:
        inner[short] = value
    if section and not inner:
        expected.pop(section)
        if not found.get(section, True):
            found.pop(section)
    return found == expected


def _toml(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False)
