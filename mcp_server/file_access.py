"""Files named by a model: below the server's directory, never through a link, never in a hidden folder.

Each folder on the way is opened relative to its parent without following links, so that what was checked is what is used. Only specs
are written, and only specs are overwritten.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from mcp_server.context import context, require_here
from mcp_server.formatting import plain
from torc.errors import Conflict, Forbidden, Invalid, NotFound

#: larger than any spec that a person writes, and than most `@file`s of parameters
MOST_BYTES = 64 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GIVE_TEXT = "give the text of the spec as `spec`"


def below(path: str) -> tuple[Path, tuple[str, ...]]:
    """Return the server's directory and the path components below it. Raises Invalid or Forbidden."""
    require_here("reading and writing files")
    base = context().directory.resolve()
    found = Path(os.path.normpath(base / path))
    if "\0" in path or not found.is_relative_to(base):
        raise Invalid(f"{plain(path)} is not below {base}", hint="use a path relative to that directory")
    steps = found.relative_to(base).parts
    if hidden := next((step for step in steps if step.startswith(".")), None):
        raise Forbidden(
            f"{plain(path)} is hidden ({plain(hidden, 60)}): assistants cannot read or write hidden files here",
            hint="use a file whose path has no component that starts with a dot",
        )
    return base, steps


def folder(path: str) -> Path:
    """Return a folder below the server's directory that is not reached through a link. Raises Invalid, Forbidden or NotFound."""
    base, steps = below(path)
    with _opened(base, steps, path):
        return base.joinpath(*steps)


def read(path: str) -> str:
    """Read a text file below the server's directory. Raises NotFound, Invalid or Forbidden."""
    base, steps = below(path)
    if not steps:
        raise Invalid(f"{plain(path)} is a folder", hint=_GIVE_TEXT)
    with _opened(base, steps[:-1], path) as at:
        return _text(_open(steps[-1], at, path), path)


def write(path: str, text: str, *, overwrite: bool, is_ours: Callable[[str], bool]) -> str:
    """Write a file atomically and return its path relative to the server's directory.

    An existing file is replaced only with `overwrite`, and only if it is a regular file accepted by `is_ours`.
    Raises Invalid, Conflict or Forbidden.
    """
    base, steps = below(path)
    if not steps:
        raise Invalid(f"save_as: {plain(path)} is a folder", hint="use a file name")
    with _opened(base, steps[:-1], path, make=True) as at:
        name, fresh = steps[-1], f".{steps[-1]}.{secrets.token_hex(6)}"
        seen = _seen(name, at)
        if seen is not None:
            _check_old(path, name, at, seen, overwrite=overwrite, is_ours=is_ours)
        try:
            made = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=at)
            with open(made, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(made)
            if seen is None:
                os.link(fresh, name, src_dir_fd=at, dst_dir_fd=at)  # fails if the file has been created meanwhile
            elif _seen(name, at) != seen:
                raise FileExistsError
            else:
                os.replace(fresh, name, src_dir_fd=at, dst_dir_fd=at)
        except FileExistsError:
            raise Conflict(f"save_as: {plain(path)} was changed just now", hint="look at it, then try again") from None
        except (OSError, UnicodeEncodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "the text contains invalid characters"
            raise Invalid(f"save_as: cannot write {plain(path)}: {why}", hint="choose another file") from None
        finally:
            with suppress(OSError):
                os.unlink(fresh, dir_fd=at)
    return str(PurePosixPath(*steps))


def _check_old(
    path: str, name: str, at: int, seen: tuple[int, ...], *, overwrite: bool, is_ours: Callable[[str], bool]
) -> None:
    if not stat.S_ISREG(seen[0]):
        raise Forbidden(f"save_as: {plain(path)} is not a regular file and was not changed", hint="choose another file")
    if not overwrite:
        raise Conflict(f"save_as: {plain(path)} already exists", hint="ask the user; overwrite=true replaces a spec")
    if not is_ours(_text(_open(name, at, path), path)):
        raise Forbidden(
            f"save_as: {plain(path)} is not a spec; only a valid spec can be replaced",
            hint="choose another file, or ask the user",
        )


def _seen(name: str, at: int) -> tuple[int, ...] | None:
    """Return what identifies a file's current version; None if there is none."""
    try:
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def _opened(base: Path, steps: tuple[str, ...], path: str, *, make: bool = False) -> Iterator[int]:
    """Open a folder component by component. Raises NotFound or Invalid."""
    at = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for step in steps:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(step, dir_fd=at)
            inner = os.open(step, _FOLDER, dir_fd=at)
            os.close(at)
            at = inner
        yield at
    except FileNotFoundError:
        raise NotFound(f"there is no {plain(path)} below {base}", hint=_GIVE_TEXT) from None
    except OSError as error:
        raise _not_opened(path, error) from None
    finally:
        os.close(at)


def _open(name: str, at: int, path: str) -> int:
    try:
        return os.open(name, _FILE, dir_fd=at)
    except FileNotFoundError:
        raise NotFound(f"there is no file {plain(path)}", hint=_GIVE_TEXT) from None
    except OSError as error:
        raise _not_opened(path, error) from None


def _not_opened(path: str, error: OSError) -> Invalid:
    return Invalid(
        f"cannot open {plain(path)}: {error.strerror}; links are not followed, and only regular files are opened",
        hint="use a regular file below the server's directory",
    )


def _text(opened: int, path: str) -> str:
    """Read an open file. Raises Invalid."""
    with open(opened, "rb") as file:
        told = os.fstat(opened)
        if not stat.S_ISREG(told.st_mode) or told.st_size > MOST_BYTES:
            raise Invalid(f"{plain(path)} is not a regular file of at most {MOST_BYTES >> 20} MiB", hint=_GIVE_TEXT)
        try:
            return file.read(MOST_BYTES).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"cannot read {plain(path)}: {error}", hint=_GIVE_TEXT) from None
