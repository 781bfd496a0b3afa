"""Runs scripts on other machines with OpenSSH as a subprocess, using the caller's configuration, keys, jump hosts and agent.

The remote command is always `exec timeout SECONDS sh -s`; the script, with any secrets in it, is sent on standard input, so that it
appears in no argument list and no remote login shell has to understand our quoting. What a login shell prints before the script
starts is dropped.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from torc.backoff import backoff
from torc.errors import TorcError, Unavailable
from torc.remote import ssh_errors
from torc.ssh_destination import Destination

_CHUNK = 1 << 16
_MOST_ANSWER = 64 << 20
_MOST_GREETING = 1 << 20
_MOST_SAID = 64 << 10
_END_SECONDS = 5.0
_LATER_SECONDS = 5
#: length of a Unix socket path (unix(7): 108), minus what ssh appends while creating it and the 40 characters of %C
_MOST_FOLDER = 107 - 18 - 41
_SSH_FAILED = 255
_MOST_RETRIES = 3
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to call ssh. `config`: a file to use instead of ~/.ssh/config and /etc/ssh/ssh_config."""

    config: Path | None = None
    connect_seconds: int = 15
    persist_seconds: int = 60
    program: str = "ssh"


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """How a remote script ended, and its output."""

    code: int
    output: bytes
    said: str


class OutputStream:
    """The output of a running script. Raises Unavailable if nothing arrives for too long."""

    def __init__(self, to: Destination, process: subprocess.Popen[bytes], idle_seconds: float, end: float) -> None:
        self._to, self._idle, self._end, self._began = to, idle_seconds, end, time.monotonic()
        assert process.stdout is not None
        self._source = process.stdout.fileno()
        self._kept = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._source, selectors.EVENT_READ)

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes, or fewer at the end."""
        parts, missing = [], size
        while missing and (part := self._some(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def skip_past(self, mark: bytes) -> bool:
        """Skip everything up to and including a marker. False: the output ended first, or was a megabyte of something else."""
        found = b""
        while (at := found.find(mark)) < 0:
            more = self._some(_CHUNK)
            if not more or len(found) > _MOST_GREETING:
                return False
            found += more
        self._kept = found[at + len(mark) :]
        return True

    def close(self) -> None:
        """Stop reading."""
        self._selector.close()

    def _some(self, most: int) -> bytes:
        if self._kept:
            given, self._kept = self._kept[:most], self._kept[most:]
            return given
        left = min(self._idle, self._end - time.monotonic())
        if left <= 0 or not self._selector.select(left):
            raise ssh_errors.timed_out(self._to, time.monotonic() - self._began, "the script")
        return os.read(self._source, min(most, _CHUNK))


class Ssh:
    """Connections to machines, which are reused until `close`. Thread-safe."""

    def __init__(self, options: Options = Options()) -> None:
        self._options = options
        program = shutil.which(options.program)
        if program is None:
            raise Unavailable(
                f"`{options.program}` is not installed on this machine", hint="install the OpenSSH client"
            )
        self._program = program
        self._folder = _private_folder()
        self._lock = threading.Lock()
        self._live: set[subprocess.Popen[bytes]] = set()
        self._routes: dict[Destination, _Route] = {}
        self._closing = threading.Event()

    def run(self, to: Destination, script: str, *, seconds: float) -> ScriptResult:
        """Run a script with `sh`. Raises Unavailable or Forbidden, with the kind of ssh failure in `details["kind"]`.

        A machine that accepts no more connections at the moment is tried again: many may go through one jump host at once.
        """
        for pause in islice(backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS), _MOST_RETRIES):
            try:
                return self._run(to, script, seconds)
            except Unavailable as error:
                if kind_of(error) != "not_taken" or self._closing.wait(pause):
                    raise
        return self._run(to, script, seconds)

    def _run(self, to: Destination, script: str, seconds: float) -> ScriptResult:
        with self.flowing(to, script, idle_seconds=seconds, seconds=seconds) as (flow, ending):
            output = flow.read(_MOST_ANSWER)
            if flow.read(1):
                raise Unavailable(
                    f"{to}: a script prints more than {_MOST_ANSWER >> 20} MiB",
                    hint="check the machine",
                    kind="script_failed",
                    host=str(to),
                )
        return ScriptResult(ending.code, output, ending.said)

    @contextlib.contextmanager
    def flowing(
        self, to: Destination, script: str, *, idle_seconds: float, seconds: float
    ) -> Iterator[tuple[OutputStream, ScriptEnding]]:
        """Run a script and yield its output while it runs; how it ended is known after the block.

        Raises the same errors as `run`; a lost connection is reported at the end of the block.
        """
        mark = f"torc-{uuid.uuid4().hex}\n".encode()
        end = time.monotonic() + seconds
        ending = ScriptEnding()
        with tempfile.TemporaryFile() as said, self._process(to, mark.decode() + script, said, seconds) as process:
            flow = OutputStream(to, process, idle_seconds, end)
            try:
                began = flow.skip_past(mark)
                if began:
                    yield flow, ending
            finally:
                flow.close()
            ending.code = self._wait(to, process, end)
            ending.said = _text(said)
        if ending.code == _SSH_FAILED or ending.code < 0:
            raise ssh_errors.cut(to) if began else ssh_errors.of_ssh(to, self._explained(to, ending.said))
        if not began:
            last = ssh_errors.last_line(ending.said)
            raise Unavailable(
                f"{to}: no shell answers there" + (f": {last}" if last else f" (exit code {ending.code})"),
                hint=f"check that `ssh {ssh_errors.as_ssh_writes(to)} sh -s` runs a script",
                kind="no_shell",
                host=str(to),
            )

    def close(self) -> None:
        """Stop running scripts and close the connections."""
        with self._lock:
            self._closing.set()
            live, shared = list(self._live), [to for to, route in self._routes.items() if route.is_ours]
        for process in live:
            _end(process)
        for to in shared:
            _asked([*self._words(to), "-O", "exit", "--", to.host], _END_SECONDS)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def _process(
        self, to: Destination, marked: str, said: IO[bytes], seconds: float
    ) -> Iterator[subprocess.Popen[bytes]]:
        # a script does not notice when its connection is lost; without a limit, a hanging one would hang forever
        command = f"exec timeout -k 5 {math.ceil(seconds) + _LATER_SECONDS} sh -s"
        words = [*self._words(to), "-T", "--", to.host, command]
        script = _memory_file(_whole(marked))
        try:
            with self._lock:
                if self._closing.is_set():
                    raise Unavailable(f"{to}: given up", hint="start again", kind="given_up", host=str(to))
                # stderr goes to a file: a shared connection may keep it open beyond this call
                process = subprocess.Popen(words, stdin=script, stdout=subprocess.PIPE, stderr=said)
                self._live.add(process)
        finally:
            os.close(script)
        try:
            yield process
        finally:
            _end(process)
            with self._lock:
                self._live.discard(process)

    def _words(self, to: Destination) -> list[str]:
        words = self._plain_words(to)
        if self._folder is not None and self._route(to).is_ours:
            words += ["-o", "ControlMaster=auto", "-o", f"ControlPath={self._folder}/%C"]
            words += ["-o", f"ControlPersist={self._options.persist_seconds}"]
        return words

    def _plain_words(self, to: Destination) -> list[str]:
        words = [self._program, *([] if self._options.config is None else ["-F", str(self._options.config)])]
        words += ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={self._options.connect_seconds}"]
        words += [] if to.user is None else ["-l", to.user]
        return words if to.port is None else [*words, "-p", str(to.port)]

    def _route(self, to: Destination) -> _Route:
        """Ask ssh for the caller's configuration of a machine."""
        with self._lock:
            if to in self._routes:
                return self._routes[to]
        done = _asked([*self._plain_words(to), "-G", "--", to.host], _END_SECONDS)
        settings = dict(line.partition(" ")[::2] for line in done[1].splitlines())
        route = _Route(
            is_ours=done[0] == 0 and settings.get("controlpath", "none") == "none",
            has_proxy=any(settings.get(key, "none") != "none" for key in ("proxyjump", "proxycommand")),
        )
        with self._lock:
            return self._routes.setdefault(to, route)

    def _explained(self, to: Destination, said: str) -> str:
        """Return what ssh prints about a failed connection.

        An ssh that shares connections hides the messages of a jump host: another attempt without sharing shows them.
        """
        route = self._route(to)
        if not (route.is_ours and route.has_proxy):
            return said
        code, _, more = _asked(
            [*self._plain_words(to), "-T", "--", to.host, "exec true"], 2 * self._options.connect_seconds
        )
        return more if code == _SSH_FAILED and more else said

    def _wait(self, to: Destination, process: subprocess.Popen[bytes], end: float) -> int:
        began = time.monotonic()
        try:
            return process.wait(max(_END_SECONDS, end - began))
        except subprocess.TimeoutExpired:
            raise ssh_errors.timed_out(to, time.monotonic() - began, "ssh") from None


@dataclass(frozen=True, slots=True)
class _Route:
    """The caller's configuration of a machine: whether it shares connections in our folder, and goes through a proxy."""

    is_ours: bool  # users with their own ControlPath may have typed a password for it
    has_proxy: bool


@dataclass(slots=True)
class ScriptEnding:
    """How a script ended; set when it has."""

    code: int = -1
    said: str = ""


def kind_of(error: TorcError) -> str:
    """Return the kind of a failure, for programs."""
    return str(error.details.get("kind", error.code))


def _asked(words: list[str], seconds: float) -> tuple[int, str, str]:
    """Run ssh for information about itself; exit code -1 if it takes too long."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return -1, "", ""
    return done.returncode, done.stdout, done.stderr


def _whole(marked: str) -> bytes:
    """Wrap a script so that the shell reads all of it before running any of it: a connection may be lost in the middle."""
    mark, _, script = marked.partition("\n")
    return f"{{\nprintf '%s\\n' {mark}\n{script}\nexit\n}}\n".encode("utf-8", "surrogateescape")


def _memory_file(content: bytes) -> int:
    """Return an anonymous file in memory, positioned at its start."""
    descriptor = os.memfd_create("torc-script", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _private_folder() -> Path | None:
    """Create a folder for the sockets of shared connections; None if its path is too long for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="torc-ssh-"))
    if len(os.fsencode(folder)) <= _MOST_FOLDER:
        return folder
    folder.rmdir()
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process gracefully, because it may have started a proxy; after a while, kill it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _text(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _MOST_SAID))
    return said.read().decode(errors="replace")
