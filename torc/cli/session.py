"""What all commands share: the global options, the settings that hold, and the spec that is named."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from torc.cli.settings import FORMATS, LOG_LEVELS, Layer, Settings, Value, load
from torc.errors import Forbidden, Invalid

#: option -> the setting that it sets (those without one take no value)
OPTIONS = {"--url": "url", "--db": "db", "--format": "format", "--log-level": "log_level"}
#: followed by text that is not ours, whatever it looks like
_TAKE_ANYTHING = {"--command", "-c", "--data", "--fields", "--metadata", "--env", "--set", "--description"}


@dataclass(slots=True)
class Session:
    """The global options of this call, and the settings that hold for it, once they are loaded."""

    options: dict[str, Value] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)

    @property
    def json(self) -> bool:
        """Return whether programs read the output."""
        return self.settings.text("format") == "json"

    @property
    def color(self) -> bool:
        """Return whether colors are wanted, where there is a terminal."""
        return self.settings.is_on("color")

    def load(self) -> None:
        """Read all that is set: files, variables, options. Raises Invalid or Forbidden."""
        self.settings = load(os.environ, find_place, options=self.options)
        from torc.cli.log_messages import log_to_stderr

        log_to_stderr(self.settings.text("log_level") or "warning")


SESSION = Session()


def take_global_options(arguments: list[str]) -> list[str]:
    """Read the global options, wherever they stand, and give the other arguments. Raises Invalid."""
    rest: list[str] = []
    found: dict[str, Value] = {}
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *waiting]
        elif argument in _TAKE_ANYTHING:
            rest += [argument, *([following] if (following := next(waiting, None)) is not None else [])]
        elif name in OPTIONS or (argument == "-f" and rest[:2] != ["jobs", "logs"]):
            taken = value if equals else next(waiting, None)
            if taken is None:
                raise Invalid(f"{name} needs a value", hint="`torc --help` explains it")
            found[OPTIONS.get(name, "format")] = taken
        elif argument == "--no-color":
            found["color"] = False
        else:
            rest.append(argument)
    SESSION.options = _checked(found)
    layers = [Layer("option", found)] if found else []
    if os.environ.get("NO_COLOR"):
        layers.append(Layer("NO_COLOR", {"color": False}))
    SESSION.settings = Settings(tuple(layers))
    return rest


def _checked(found: dict[str, Value]) -> dict[str, Value]:
    for key, choices in (("format", FORMATS), ("log_level", LOG_LEVELS)):
        if key in found and found[key] not in choices:
            what = key.replace("_", " ")
            raise Invalid(f"there is no {what} `{found[key]}`", hint=f"choose one of {', '.join(choices)}")
    return found


def trusted() -> tuple[Path, ...]:
    """Return the folders of others that the user trusts."""
    folders = SESSION.settings.origin("trusted")[0]
    return tuple(map(Path, folders)) if isinstance(folders, list) else ()


def find_place(trusted: tuple[Path, ...]) -> Path | None:
    """Find the `.torc/` of this directory, where there is one that may be used."""
    from torc.client.connect import find

    try:
        folder = Path(find(Path.cwd(), trusted).database).parent
    except (Forbidden, OSError):
        return None
    return folder if folder.is_dir() else None


def torc_folder(*, make: bool = True) -> Path:
    """Return the `.torc/` of this directory; it is made where there is none. Raises Forbidden or Invalid."""
    from torc.client.connect import find, make_directory

    folder = Path(find(Path.cwd(), trusted()).database).parent
    if make:
        make_directory(folder)
    return folder
