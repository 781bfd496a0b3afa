"""The real program as a subprocess."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: as the installed program does, without what lies in the working directory
PROGRAM = [sys.executable, "-P", "-m", "torc.cli.main"]


@dataclass(frozen=True)
class Done:
    """How a call of the program ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What was printed, as data."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Program:
    """The program in a directory."""

    directory: Path
    url: str | None = None  # of a server that it is to ask
    token_file: Path | None = None  # that holds what the server wants to be shown

    def environ(self, **more: str) -> dict[str, str]:
        """The environment of a call: nothing of the caller's settings of Torc."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TORC_")}
        root = str(Path(__file__).resolve().parents[2])
        reached = {"TORC_API_URL": self.url} if self.url else {}
        if self.token_file is not None:
            reached["TORC_TOKEN_FILE"] = str(self.token_file)
        return {**inherited, "PYTHONPATH": root, "HOME": str(self.directory), **reached, **more}

    def __call__(self, *arguments: object, stdin: str | None = None, code: int | None = 0, **environ: str) -> Done:
        """Call it; `code` is the exit code to expect (None: any)."""
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            cwd=self.directory,
            env=self.environ(**environ),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        result = Done(done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in result.stdout + result.stderr, result
        assert code is None or result.code == code, result
        return result

    def on_terminal(self, *arguments: object, stdin: bytes = b"", **environ: str) -> tuple[int, str]:
        """Call it on a terminal of 120 columns; returns the exit code and all that the terminal was sent."""
        ours, its = pty.openpty()
        os.set_blocking(ours, True)
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        if stdin:
            os.write(ours, stdin)
        with subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            cwd=self.directory,
            env=self.environ(**{"TERM": "xterm-256color", **environ}),
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        ) as process:
            os.close(its)
            found = b""
            with contextlib.suppress(OSError):  # EIO: the last one who had it open is gone
                while part := os.read(ours, 1 << 16):
                    found += part
            os.close(ours)
            code = process.wait(120)
        return code, found.decode("utf-8", "surrogateescape")

    def in_shell(self, command: str, **environ: str) -> Done:
        """Run a shell command in which `$TORC` is the program."""
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=self.directory,
            env=self.environ(TORC=shlex.join(PROGRAM), **environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stdout + done.stderr, done
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: object, **environ: str) -> subprocess.Popen[str]:
        """Start it in the background, in a session of its own."""
        return subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            cwd=self.directory,
            env=self.environ(**environ),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def write(self, name: str, text: str) -> str:
        """Write a file in its directory and give its name."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name
