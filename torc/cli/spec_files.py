"""Specs that commands name: files, or standard input."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from torc import files
from torc.errors import Invalid, NotFound
from torc.spec.formats import SUFFIXES, Format, format_of


def read_spec(path: str) -> tuple[str, Format | None, str]:
    """Return the text of a spec, its format (None: unknown) and its name. `-` is standard input."""
    if path == "-":
        return sys.stdin.read(), None, "<stdin>"
    try:
        text = files.read_text(path)
    except FileNotFoundError:
        raise NotFound(
            f"there is no file {path}{_near(Path(path))}",
            hint=f"name a spec ({SUFFIXES}), or a stored workflow",
        ) from None
    except IsADirectoryError:
        raise Invalid(f"{path} is a directory", hint="name a spec file") from None
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        hint = "name a spec file" if error.errno == errno.EFBIG else "check its permissions"
        raise Invalid(f"cannot read {path}: {error.strerror}", hint=hint) from None
    return text, format_of(path), path


def _near(path: Path) -> str:
    import difflib

    try:
        names = [name for name in os.listdir(path.parent) if looks_like_spec(name)]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, 1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""


def looks_like_spec(named: str) -> bool:
    """Return whether an argument names a spec rather than a stored workflow."""
    return named == "-" or format_of(named) is not None or "/" in named
