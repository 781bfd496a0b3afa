"""The configuration: the settings, where they may be set, and which value applies.

Defaults < /etc/torc/config.toml < ~/.config/torc/config.toml < .torc/config.toml < TORC_* variables < options. Showing
and changing it is in `config`.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torc.errors import Forbidden, Invalid
from torc.files import config_folder
from torc.planning.scheduler_types import SCHEDULER_TYPES
from torc.units import parse_duration, parse_memory

Value = str | int | bool | list[str] | None
FILE = "config.toml"
#: of characters: the time that TOML takes grows with the square of the length of a key
_LARGEST_FILE = 16 << 10
SYSTEM = Path("/etc/torc") / FILE
FORMATS = ("table", "json")
MCP_POLICIES = ("read-only", "propose", "approve", "auto-within-budget")
LOG_LEVELS = ("error", "warning", "info", "debug")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `read` parses the value from a file or a variable, and raises ValueError if it is invalid."""

    variable: str | None
    default: Value
    read: Callable[[object], Value]
    text: str
    of_place: bool = False  # may be set in .torc/config.toml


@dataclass(frozen=True, slots=True)
class Layer:
    """The values from one place. `name` is shown to users: a path, a variable, or "option"."""

    name: str
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Settings:
    """The values that apply: later layers take precedence."""

    layers: tuple[Layer, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def origin(self, key: str) -> tuple[Value, str]:
        """Return a value and the place that sets it."""
        for layer in reversed(self.layers):
            if key in layer.values:
                return layer.values[key], layer.name
        return SETTINGS[key].default, "default"

    def text(self, key: str) -> str | None:
        """Return a value that is text."""
        value = self.origin(key)[0]
        return None if value is None else str(value)

    def number(self, key: str) -> int | None:
        """Return a value that is a whole number."""
        value = self.origin(key)[0]
        return value if isinstance(value, int) else None

    def is_on(self, key: str) -> bool:
        """Return a value that is true or false."""
        return bool(self.origin(key)[0])

    def place(self) -> tuple[str | None, str | None]:
        """Return (url, database) of the last layer that names either; within a layer, a server takes precedence."""
        for layer in reversed(self.layers):
            url, db = layer.values.get("url"), layer.values.get("db")
            if url or db:
                return (str(url), None) if url else (None, str(db))
        return None, None


def _text(raw: object) -> str:
    if not isinstance(raw, str) or not raw:
        raise ValueError("it must be non-empty text")
    return raw


def _one_of(*choices: str) -> Callable[[object], Value]:
    def read(raw: object) -> str:
        if raw not in choices:
            raise ValueError(f"it must be one of {', '.join(choices)}")
        return str(raw)

    return read


def _whole(least: int) -> Callable[[object], Value]:
    def read(raw: object) -> int:
        if isinstance(raw, str) and re.fullmatch(r"[0-9]{1,18}", raw):
            raw = int(raw)
        if not isinstance(raw, int) or isinstance(raw, bool) or raw < least:
            raise ValueError(f"it must be a whole number of at least {least}")
        return raw

    return read


def _yes_no(raw: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise ValueError("it must be true or false")


def _memory(raw: object) -> str:
    parse_memory(_text(raw))
    return str(raw)


def _duration(raw: object) -> str:
    parse_duration(_text(raw))
    return str(raw)


def _paths(raw: object) -> list[str]:
    if not isinstance(raw, list) or not all(isinstance(item, str) and item.startswith("/") for item in raw):
        raise ValueError("it must be a list of absolute paths")
    return raw


SETTINGS: dict[str, Setting] = {
    "db": Setting("TORC_DB", None, _text, "The database: a SQLite file, or postgresql+psycopg://...", True),
    "url": Setting("TORC_API_URL", None, _text, "The server to use.", True),
    "ca_file": Setting("TORC_CA_FILE", None, _text, "Certificate authority for servers: a PEM file."),
    "server_user": Setting(
        "TORC_SERVER_USER",
        None,
        _text,
        "User who runs the server at a loopback address: your tokens are sent only to that user, to yourself and to root.",
    ),
    "format": Setting("TORC_FORMAT", "table", _one_of(*FORMATS), "Output: table or json.", True),
    "log_level": Setting(
        "TORC_LOG_LEVEL", "warning", _one_of(*LOG_LEVELS), "Least severe messages to write to standard error.", True
    ),
    "color": Setting(
        "TORC_COLOR", True, _yes_no, "Whether to use colors on a terminal; NO_COLOR turns them off.", True
    ),
    "trusted": Setting(
        None, [], _paths, "`.torc` folders of other users that may be used; cannot be set in .torc/config.toml."
    ),
    "run.output_dir": Setting("TORC_RUN_OUTPUT_DIR", "torc_output", _text, "Folder for logs.", True),
    "run.max_parallel_jobs": Setting(
        "TORC_RUN_MAX_PARALLEL_JOBS", None, _whole(1), "Run this many jobs at once, whatever they request.", True
    ),
    "run.num_cpus": Setting("TORC_RUN_NUM_CPUS", None, _whole(1), "CPUs to use.", True),
    "run.memory": Setting("TORC_RUN_MEMORY", None, _memory, "Memory to use, such as 8g.", True),
    "run.num_gpus": Setting("TORC_RUN_NUM_GPUS", None, _whole(0), "GPUs to use.", True),
    "run.time_limit": Setting("TORC_RUN_TIME_LIMIT", None, _duration, "Stop after this time, such as PT8H.", True),
    "run.fail_fast": Setting("TORC_RUN_FAIL_FAST", False, _yes_no, "Stop at the first failed job.", True),
    "run.quiet": Setting("TORC_RUN_QUIET", False, _yes_no, "Show no progress, only the summary.", True),
    "run.server_wait": Setting(
        "TORC_RUN_SERVER_WAIT",
        None,
        _duration,
        "How long runners wait at startup for a server that does not answer; default: 10m, or 0s for `torc worker` started by hand.",
        True,
    ),
    "backup.interval": Setting(
        "TORC_BACKUP_INTERVAL",
        None,
        _duration,
        "Interval between copies of the SQLite database while a server or a run uses it.",
        True,
    ),
    "backup.keep": Setting("TORC_BACKUP_KEEP", 5, _whole(1), "How many copies to keep.", True),
    "backup.folder": Setting("TORC_BACKUP_FOLDER", None, _text, "Folder for the copies; default: .torc/backups.", True),
    **{
        f"{name}.{key}": Setting(f"TORC_{name.upper()}_{key.upper()}", None, _text, about, True)
        for name in SCHEDULER_TYPES
        for key, about in (
            ("account", "Account to charge for allocations."),
            ("profile", "Cluster to plan for: a profile, or a file with one; default: the cluster you are on."),
        )
    },
    "server.max_jobs": Setting(
        "TORC_SERVER_MAX_JOBS",
        10_000_000,
        _whole(0),
        "Most jobs that an account may store on a server; 0: no limit.",
    ),
    "server.max_creations": Setting(
        "TORC_SERVER_MAX_CREATIONS",
        2,
        _whole(0),
        "Most large workflows that an account may create at once; 0: no limit.",
    ),
    "mcp.policy": Setting(
        "TORC_MCP_POLICY",
        "propose",
        _one_of(*MCP_POLICIES),
        "What assistants may do: read-only; propose (a plan first); approve (and if the client cannot ask its user, a person must "
        "use `torc approve`); or auto-within-budget (nobody is asked).",
    ),
    "mcp.max_retries": Setting(
        "TORC_MCP_MAX_RETRIES",
        100,
        _whole(0),
        "How many times assistants may rerun jobs, in all workflows together.",
    ),
    "mcp.max_node_hours": Setting(
        "TORC_MCP_MAX_NODE_HOURS", 1000, _whole(0), "Node-hours that assistants may spend, in all workflows together."
    ),
}


def user_file(environ: Mapping[str, str]) -> Path:
    """Return the path of the user's own configuration."""
    return config_folder(environ) / FILE


def load(
    environ: Mapping[str, str],
    find_place: Callable[[tuple[Path, ...]], Path | None],
    *,
    options: Mapping[str, Value] | None = None,
    system: Path = SYSTEM,
) -> Settings:
    """Read every layer. `find_place` finds the `.torc/` here, given the trusted ones. Raises Invalid or Forbidden."""
    layers = [layer for path in (system, user_file(environ)) if (layer := read_file(path)) is not None]
    trusted = Settings(tuple(layers)).origin("trusted")[0]
    assert isinstance(trusted, list)
    place = find_place(tuple(map(Path, trusted)))
    if place is not None and (here := read_file(place / FILE, of_place=True)) is not None:
        layers.append(here)
    layers += read_variables(environ)
    if options:
        layers.append(Layer("option", options))
    return Settings(tuple(layers))


def read_file(path: Path, *, of_place: bool = False) -> Layer | None:
    """Read a configuration file; None if it does not exist. Raises Invalid, with what is wrong and where, or Forbidden."""
    try:
        # O_NONBLOCK: nobody may ever write into a pipe
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, encoding="utf-8") as file:
            info = os.fstat(fd)
            _check_file(path, info, of_place=of_place)
            text = file.read(_LARGEST_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read {path}: {error}", hint="fix it or move it away") from None
    if len(text) > _LARGEST_FILE:
        raise Invalid(f"{path} is larger than {_LARGEST_FILE >> 10} KiB: that is no configuration", hint="move it away")
    return Layer(str(path), read_text(text, str(path), of_place=of_place))


def _check_file(path: Path, info: os.stat_result, *, of_place: bool) -> None:
    """Refuse what nobody configures by, and what somebody else may have written. Raises Invalid or Forbidden."""
    if not stat.S_ISREG(info.st_mode):
        raise Invalid(f"{path} is not a regular file", hint="move it away")
    if info.st_uid not in (os.geteuid(), 0):
        raise Forbidden(f"{path} belongs to another user", hint="move it away, or change its owner")
    if info.st_mode & stat.S_IWOTH and not of_place:  # a file of a place sets nothing that others could gain by
        raise Forbidden(f"every user can change {path}", hint=f"look at it, then: chmod o-w {path}")


def read_text(text: str, name: str, *, of_place: bool = False) -> dict[str, Value]:
    """Parse the text of a configuration file. Raises Invalid, with every problem and its line."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(f"{name} is not TOML: {error}", hint="`torc config show` lists all settings") from None
    found: dict[str, Value] = {}
    problems: list[str] = []
    for key, raw in _flat(data):
        line = f"{name}:{_line(text, key)}"
        setting = SETTINGS.get(key)
        if setting is None:
            problems.append(f"{line}: there is no setting `{key}`{suggestion(key)}")
        elif of_place and not setting.of_place:
            problems.append(f"{line}: `{key}` is not read from here: set it in {user_file(os.environ)}")
        else:
            try:
                found[key] = _beside(setting.read(raw), key, Path(name))
            except ValueError as error:
                problems.append(f"{line}: `{key}`: {error}")
    if problems:
        raise Invalid("; ".join(problems), hint="`torc config show` lists all settings")
    return found


def _flat(data: Mapping[str, object]) -> Iterable[tuple[str, object]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", item) for name, item in value.items())
        else:
            yield key, value


def _line(text: str, key: str) -> int:
    name = re.escape(key.rpartition(".")[2])
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"""\s*(\w+\.)?["']?{name}["']?\s*[=.]|\s*\[.*{name}""", line):
            return number
    return 1


def _beside(value: Value, key: str, path: Path) -> Value:
    """Take the path of a database relative to the folder of the file that names it."""
    if key == "db" and isinstance(value, str) and "://" not in value:
        return str(path.absolute().parent / Path(value).expanduser())
    return value


def suggestion(key: str) -> str:
    """Return a suggestion of the nearest setting, to end a sentence with."""
    names = {name.rpartition(".")[2]: name for name in SETTINGS}
    near = difflib.get_close_matches(key, SETTINGS, 1) or [
        names[found] for found in difflib.get_close_matches(key.rpartition(".")[2], names, 1)
    ]
    return f"; did you mean `{near[0]}`?" if near else ""


def read_variables(environ: Mapping[str, str]) -> list[Layer]:
    """Read the variables, each as a layer of its own. Raises Invalid."""
    layers = []
    for key, setting in SETTINGS.items():
        raw = environ.get(setting.variable) if setting.variable else None
        if raw:
            try:
                layers.append(Layer(str(setting.variable), {key: setting.read(raw)}))
            except ValueError as error:
                raise Invalid(f"{setting.variable}={raw}: {error}", hint="correct the variable, or unset it") from None
    if environ.get("NO_COLOR"):
        layers.append(Layer("NO_COLOR", {"color": False}))
    return layers
