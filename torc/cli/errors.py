"""The one place where the command line renders errors. No traceback ever reaches a user."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path

from torc.cli.terminal import style
from torc.errors import Invalid, TorcError, Unavailable

INTERRUPTED = 130
#: what no program can do anything about -> what a person can
_REFUSALS = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "end other programs, or have the machine's limit of open files raised",
    errno.ENOMEM: "raise the limit of memory (ulimit -v), or end other programs",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or end other programs",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space: your quota is used up",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "work in a directory that can be written to",
    errno.EIO: "check the disk",
}


def render(error: TorcError, *, color: bool, as_json: bool = False) -> None:
    """Print an error on standard error: what happened, and what to do."""
    if as_json:
        body = {"code": error.code, "message": error.message, "hint": error.hint, "details": error.details}
        print(json.dumps({"error": body}, default=str), file=sys.stderr)
        return
    title = style("31", "error") if color and sys.stderr.isatty() else "error"
    for text in error.details.get("rendered", ()):
        print(text, file=sys.stderr)
    print(f"{title}: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


def render_other(error: Exception, *, color: bool, as_json: bool) -> int:
    """Print what nobody caught, which is a fault of Torc unless the system refused something; return the exit code."""
    refused = _refused_by_system(error)
    if refused is None:
        render_unexpected(error)
        return 1
    render(refused, color=color, as_json=as_json)
    return refused.exit_code


def _refused_by_system(error: Exception) -> TorcError | None:
    if isinstance(error, MemoryError):
        return Unavailable(
            "this process gets no more memory", hint="raise its limit (ulimit -v), or end other programs"
        )
    if not isinstance(error, OSError):
        return None
    if isinstance(error, FileNotFoundError) and _has_lost_folder():
        return Invalid("the working directory has been removed", hint="change to another directory")
    hint = _REFUSALS.get(error.errno or 0)
    if hint is None:
        return None
    where = f": {error.filename}" if isinstance(error.filename, str) else ""
    return Unavailable(f"the system refuses to go on: {error.strerror}{where}", hint=hint)


def _has_lost_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def render_unexpected(error: BaseException) -> None:
    """Say that Torc broke, and where the details are. TORC_DEBUG=1 shows them."""
    details = "".join(traceback.format_exception(error))
    if os.environ.get("TORC_DEBUG"):
        print(details, file=sys.stderr)
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="torc-error-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            log.write(details)
        where = f"; details are in {Path(log.name)}"
    except OSError:
        where = ""
    print(f"error: something broke inside Torc ({type(error).__name__}){where}", file=sys.stderr)
    print("  hint: this is a fault of Torc: please report it with those details", file=sys.stderr)


def require_text(arguments: Iterable[str]) -> None:
    """Raise Invalid for an argument whose bytes are not UTF-8: Python carries those as lone surrogates, which nothing can store."""
    for number, argument in enumerate(arguments, 1):
        if _is_not_text(argument):
            raise _not_text(f"argument {number}", argument)


def render_not_text(error: UnicodeEncodeError, *, color: bool, as_json: bool) -> int:
    """Say that something besides the arguments (a folder, a variable) is not UTF-8; return the exit code."""
    if not _is_not_text(error.object):
        render_unexpected(error)
        return 1
    refused = _not_text("this", error.object)
    render(refused, color=color, as_json=as_json)
    return refused.exit_code


def _is_not_text(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _not_text(what: str, text: str) -> Invalid:
    shown = text[:200].encode("utf-8", "backslashreplace").decode()
    return Invalid(
        f"{what} is not UTF-8 text: {shown}", hint="write it in UTF-8; rename files and folders that are not"
    )
