"""Standard output and standard error of the program: the one place where text reaches a terminal.

What a terminal would obey is made visible, whoever wrote it; only the codes that `style` makes get through. What cannot be
written is dropped and remembered: the work goes on, and the exit code says so at the end. Closed streams are /dev/null.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torc.display_text import INVISIBLE, escaped_json, visible
from torc.errors import Unavailable

#: the start of our own codes between `style` and the stream: nobody else can know it
_OWN = f"\x1b{os.urandom(12).hex()}["
_TO_CHANGE = re.compile(rf"{re.escape(_OWN)}([0-9;]*)m|[{INVISIBLE}]")
_BUFFER_BYTES = 1 << 16
_ERRORS = "torc-ascii"
_ASCII = {"…": "~", "·": ".", "×": "x", "→": ">", "–": "-", "—": "-", "“": '"', "”": '"', "‘": "'", "’": "'"}  # noqa: RUF001


def style(code: str, text: str) -> str:
    """Wrap text in a code of SGR (ECMA-48, 8.3.117), such as `1` for bold. Ask first whether codes are wanted."""
    if not isinstance(sys.stdout, Stream):  # called from a program that has streams of its own
        return f"\x1b[{code}m{text}\x1b[0m"
    return f"{_OWN}{code}m{text}{_OWN}0m"


def safe(text: str) -> str:
    """Make visible what is no code of ours."""
    return _TO_CHANGE.sub(lambda match: visible(match[0]) if match[1] is None else f"\x1b[{match[1]}m", text)


class _Onlooker(Protocol):
    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


class Stream(io.TextIOBase):
    """A text stream onto a descriptor that no write makes fail; `error` is what went wrong first."""

    def __init__(self, fd: int, encoding: str, buffer: Any, *, is_eager: bool, is_filtered: bool = True) -> None:
        super().__init__()
        self.error: OSError | None = None
        self.is_told = False  # the error
        #: takes the text instead: a live display, which has to move out of the way
        self.onlooker: _Onlooker | None = None
        self._fd, self._codec, self._buffer = fd, encoding, buffer
        self._is_eager, self._is_filtered = is_eager, is_filtered
        self._pending = bytearray()
        self._lock = threading.RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Any text may be written; whoever asks need not work around an old terminal."""
        return "utf-8" if self._is_filtered else self._codec

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    @property
    def buffer(self) -> Any:
        """The stream of bytes below, for a protocol; errors of it are the caller's."""
        self.flush()
        return self._buffer

    @property
    def has_reader(self) -> bool:
        """Whether whoever read the other end of a pipe still does, as far as known."""
        return self.error is None or self.error.errno != errno.EPIPE

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, text: str, /) -> int:
        shown = safe(text) if self._is_filtered else text
        if self.onlooker is not None:
            self.onlooker.write(shown)
        else:
            self._put(shown.encode(self._codec, _ERRORS), is_eager=self._is_eager and "\n" in text)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            while self._pending:
                try:
                    del self._pending[: os.write(self._fd, self._pending)]
                except BlockingIOError:  # somebody shares the terminal with us and wants it so
                    select.select([], [self._fd], [])
                except OSError as error:
                    self.error = self.error or error
                    self._pending.clear()

    def write_bytes(self, data: bytes) -> None:
        """Write what is the whole point of a command. Raises BrokenPipeError or Unavailable, at the latest at the next call."""
        self._put(data, is_eager=False)
        self.must_be_heard()

    def must_be_heard(self) -> None:
        """Stop a command that does nothing but print. Raises BrokenPipeError or Unavailable when that failed."""
        if self.error is not None:
            if not self.has_reader:
                raise BrokenPipeError
            self.is_told = True
            raise Unavailable(
                f"cannot write the output: {self.error.strerror}", hint="free some space, or write it elsewhere"
            )

    def _put(self, data: bytes, *, is_eager: bool) -> None:
        with self._lock:
            if self.has_reader:
                self._pending += data
            if is_eager or len(self._pending) > _BUFFER_BYTES:
                self.flush()


def _to_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what an encoding lacks: our own typography plainly, all else as an escape."""
    if isinstance(error, UnicodeEncodeError) and (plain := _ASCII.get(error.object[error.start])):
        return plain, error.start + 1
    return codecs.backslashreplace_errors(error)


def install() -> None:
    """Take the place of `sys.stdout` and `sys.stderr`, closed ones included."""
    codecs.register_error(_ERRORS, _to_ascii)
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:  # else the next file that is opened, the database say, would be standard output
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the program
    sys.stdout, sys.stderr = _stream(1, sys.stdout), _stream(2, sys.stderr)


def _stream(fd: int, before: Any) -> Stream:
    encoding = sys._xoptions.get("torc_terminal") or getattr(before, "encoding", None) or "utf-8"
    buffer = getattr(before, "buffer", None) or open(fd, "wb", closefd=False)  # noqa: SIM115 - for the life of the program
    return Stream(fd, encoding, buffer, is_eager=fd == 2 or os.isatty(fd))


def finish(code: int) -> int:
    """Write what is left and give the exit code: 5 where all went well and output was lost, unless nobody wanted more of it."""
    if not isinstance(sys.stdout, Stream):
        return code
    sys.stdout.flush()
    if sys.stdout.error is not None and sys.stdout.has_reader and not sys.stdout.is_told:
        print(f"error: cannot write the output: {sys.stdout.error.strerror}", file=sys.stderr)
        code = code or Unavailable.exit_code
    sys.stderr.flush()
    return code


def print_json(text: str) -> None:
    """Print JSON: it stays JSON, and no character of it is one that a terminal obeys."""
    text = escaped_json(text)
    codec = getattr(sys.stdout, "_codec", "utf-8")
    if codecs.lookup(codec).name != "utf-8":
        text = re.sub(r"[^\x00-\x7f]", lambda match: _ascii_json(match[0]), text)
    print(text)


def _ascii_json(character: str) -> str:
    data = character.encode("utf-16-be")
    return "".join(f"\\u{data[at : at + 2].hex()}" for at in range(0, len(data), 2))


def print_document(text: str) -> None:
    """Print a document (a spec, a script) as it is, for a file or a program; on a terminal as all other text."""
    if isinstance(sys.stdout, Stream) and not sys.stdout.isatty():
        sys.stdout.write_bytes(text.encode("utf-8", "surrogateescape"))
    else:
        sys.stdout.write(text)


class BytesOut(io.RawIOBase):
    """Standard output for bytes. Raises as `Stream.write_bytes` does."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        out().write_bytes(data)
        return len(data)

    def flush(self) -> None:
        out().flush()
        out().must_be_heard()


def out() -> Stream:
    """Return standard output."""
    if not isinstance(sys.stdout, Stream):
        raise TypeError("the streams of the program are not installed")
    return sys.stdout


def must_be_heard() -> None:
    """Stop a command that prints without end when nobody reads it. Raises BrokenPipeError or Unavailable."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.flush()
        sys.stdout.must_be_heard()


@contextmanager
def live_display(console_of: Any) -> Iterator[Any]:
    """Return a console on standard error that may move the cursor; what is printed meanwhile goes above what it shows.

    `console_of` makes it from a file.
    """
    from rich.file_proxy import FileProxy

    stream: Any = sys.stderr
    if not isinstance(stream, Stream):
        yield console_of(stream)
        return
    raw: Any = Stream(2, stream._codec, None, is_eager=True, is_filtered=False)
    console = console_of(raw)
    proxy = FileProxy(console, raw)
    others = [each for each in (sys.stdout, stream) if isinstance(each, Stream) and each.isatty()]
    for each in others:
        each.flush()
        each.onlooker = proxy
    try:
        yield console
    finally:
        for each in others:
            each.onlooker = None
        proxy.flush()


def confirmed(question: str, *, default: bool = False) -> bool:
    """Ask on standard error for a yes or no. An end of the input is a no."""
    while True:
        print(f"{question} [{'Y/n' if default else 'y/N'}]: ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:
            return False
        if not answer.strip():
            return default
        if answer.strip().lower() in {"y", "yes", "n", "no"}:
            return answer.strip().lower().startswith("y")


def confirm(question: str) -> None:
    """Ask, and go on only after a yes. Raises KeyboardInterrupt."""
    if not confirmed(question):
        raise KeyboardInterrupt
