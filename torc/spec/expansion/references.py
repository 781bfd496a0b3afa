"""Malformed references in commands: misspelled, unclosed, with wrong brackets or in the wrong place.

A shell cannot run `${name.name}`, so text that looks like this and resembles a reference is a mistake, not shell syntax.
`${VAR}`, `${VAR:-default}`, `${VAR#*.}`, `${array[@]}` and the like never match, because no dot follows the name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torc.spec.diagnostics import Severity

REFERENCE = re.compile(r"\$\{(files|user_data)\.(input|output)\.([^{}]*)\}")
_NAME = r"[^{}()\s\"'`$;|&<>]"
# `${user-data.csv}` is shell syntax: `data.csv` if `user` is not set
_WORD = r"[A-Za-z_]\w*(?:[ \t]+\w+)*(?:-data\w*)?"
_LIKE = re.compile(
    rf"""(?P<open>\$[ \t]?[\[({{]{{1,2}}|\{{{{1,2}})[ \t]*
         (?P<first>{_WORD})[ \t]*\.[ \t]*(?P<second>{_WORD})?
         (?:[ \t]*\.[ \t]*(?P<name>(?:{_NAME}|\{{[^{{}}]*\}})+))?[ \t]*(?P<close>[\])}}]*)""",
    re.VERBOSE,
)
_BARE = re.compile(r"\$(files|user_data)\.(input|output)\.([\w.-]*\w)")
_FILES, _USER_DATA = ("files", "file"), ("userdata", "data")
_ALIKE = 0.7


class MalformedReference(NamedTuple):
    """A malformed reference: its text, a message, and a suggestion."""

    text: str
    message: str
    suggestion: str
    severity: Severity


def find_astray(text: str, is_name: Callable[[str], bool] = lambda name: False) -> Iterator[MalformedReference]:
    """Yield malformed references. `is_name` tells whether there is a file or user data with a name."""
    if "." not in text:
        return
    for match in _LIKE.finditer(text):
        if not REFERENCE.match(text, match.start()):
            found = _judged(match, is_name)
            if found is not None:
                yield found
    for match in _BARE.finditer(text):
        if is_name(match[3]):
            yield MalformedReference(
                match[0],
                f"`{match[0]}` is not a reference and is left unchanged",
                f"did you mean `${{{match[0][1:]}}}`?",
                "warning",
            )


def find_misplaced(text: str) -> Iterator[MalformedReference]:
    """Yield references, including malformed ones, in text where none are replaced."""
    where = "references are replaced only in the `command` and the `invocation_script` of a job"
    for match in REFERENCE.finditer(text):
        yield MalformedReference(match[0], f"`{match[0]}` would not be replaced here", where, "error")
    for found in find_astray(text):
        if found.severity == "error":
            yield found._replace(message=f"`{found.text}` would not be replaced here", suggestion=where)


def _judged(match: re.Match[str], is_name: Callable[[str], bool]) -> MalformedReference | None:
    opening, first, second, name = (match[key] or "" for key in ("open", "first", "second", "name"))
    kind, direction = _kind(first), _direction(second)
    if kind is None and _direction(first) is not None:  # `${input.files.x}`, `${input.x}`
        kind, direction = _kind(second), _direction(first)
        if kind is None:
            name = f"{second}.{name}" if name else second
    is_clear = kind is not None and direction is not None
    if (re.search(r"\s", first + second) and opening != "${") or ("-" in first and not is_clear):
        return None
    if not opening.startswith("$"):
        if not (first in {"files", "user_data"} and second in {"input", "output"} and name):
            return None
        is_error = False
    elif opening != "${":
        if not is_clear:
            return None
        is_error = True
    elif kind is None and direction is None:
        return None
    else:
        is_error = is_clear or first in {"files", "user_data"} or is_name(name) or (not name and is_name(second))
    name = name.rstrip(".,:") or (second if direction is None and is_name(second) else "") or "NAME"
    meant = f"${{{kind or 'files'}.{direction or 'input'}.{name}}}"
    text = match[0].rstrip() if match["close"] else match[0].rstrip(" \t.,:")
    is_open = opening == "${" and not match["close"] and f"{text}}}" == meant
    message = f"`{text}` is not closed" if is_open else f"`{text}` is not a reference"
    if not is_error:
        message += " and is left unchanged"
    hint = f"did you mean `{meant}`?"
    left = re.search(r"\{[^{}]*\}", name)
    if left is not None:
        hint = f"`{left[0]}` is not a parameter of this job"
    elif direction is None:
        hint = f"did you mean `{meant}` or `{meant.replace('.input.', '.output.')}`?"
    return MalformedReference(text, message, hint, "error" if is_error else "warning")


def _kind(word: str) -> str | None:
    plain = _plain(word)
    if difflib.get_close_matches(plain, _FILES, 1, _ALIKE):
        return "files"
    return "user_data" if difflib.get_close_matches(plain, _USER_DATA, 1, _ALIKE) else None


def _plain(word: str) -> str:
    return re.sub(r"[\s_-]", "", word.lower())


def _direction(word: str) -> str | None:
    plain = _plain(word)
    if plain in {"in", "out"}:
        return f"{plain}put"
    plain = plain.removesuffix("files").removesuffix("file") or plain
    return next(iter(difflib.get_close_matches(plain, ("input", "output"), 1, _ALIKE)), None)
