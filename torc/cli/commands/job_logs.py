"""`torc jobs logs`: print what a job wrote, and follow it to its end, over all its attempts."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from torc.api.base import Torc
from torc.api.jobs import GetJob, Job
from torc.api.workflows import GetWorkflow
from torc.cli import rendering
from torc.cli.commands.run import output_folder
from torc.cli.connection import torc
from torc.cli.terminal import must_be_heard, out
from torc.errors import Invalid, NotFound
from torc.workflow.states import FINISHED

_FOLLOW_SECONDS = 0.2
#: a job is asked after once in so many looks at its files
_LOOKS_PER_QUESTION = 5


def logs(  # noqa: PLR0913, PLR0917 - options of a command
    job_id: int,
    stderr: Annotated[bool, typer.Option("--stderr", "-e", help="Only standard error.")] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Only standard output.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the output until the last attempt of the job ends.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", "-a", min=1, help="The attempt; default: the last one.")
    ] = None,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, help="Only the last lines, this many.")] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Folder with the logs; default: where the job's runner wrote them."),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Print the bytes unchanged even on a terminal, including escape sequences."),
    ] = False,
) -> None:
    """Print the output of a job. On a terminal, colors and other escape sequences are removed.

    Example: torc jobs logs 12 --stderr --tail 50
    """
    if stderr and stdout:
        raise Invalid("only standard error, and only standard output: that is nothing", hint="leave one of them out")
    wanted = ".o" if stdout else ".e" if stderr else ".o.e"
    with torc(create=False) as opened:
        reader = _LogPrinter(opened, job_id, wanted, tail, output_dir, _Printer(raw=raw or not sys.stdout.isatty()))
        job = opened.send(GetJob(job_id=job_id))
        if follow:
            reader.follow(job, attempt)
            return
        number = attempt or job.attempt
        if not number:
            raise NotFound(
                f"job {job_id} ({job.name}) has not run yet",
                hint=f"`torc jobs explain {job_id}` says why; `torc jobs logs {job_id} -f` waits for it",
            )
        reader.print(job, number)


class _Printer:
    """Prints parts of logs: bytes as they are, or text that no terminal obeys."""

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw

    def copy(self, stream: BinaryIO) -> bytes:
        """Print the rest of a stream; returns its last byte, or nothing when there was nothing."""
        last = b""
        while block := stream.read(1 << 16):
            self._print(block)
            last = block[-1:]
        must_be_heard()
        return last

    def end_line(self) -> None:
        """Begin a new line."""
        self._print(b"\n")

    def _print(self, block: bytes) -> None:
        from torc.redaction import without_escapes

        if self._raw:
            out().write_bytes(block)
        else:
            text = without_escapes(block.decode("utf-8", "surrogateescape"))
            sys.stdout.write(text.replace("\r\n", "\n").replace("\r", "\n"))


class _LogPrinter:
    """Prints the logs of a job."""

    def __init__(
        self, opened: Torc, job_id: int, wanted: str, tail: int | None, output_dir: Path | None, printer: _Printer
    ) -> None:
        self._opened, self._job_id, self._wanted, self._tail = opened, job_id, wanted, tail
        self._output_dir = output_dir
        self._printer = printer

    def print(self, job: Job, attempt: int) -> None:
        """Print what is there of an attempt. Raises NotFound."""
        paths = self._paths(job, attempt)
        if not paths:
            raise self._missing(job, attempt)
        streams = self._open(paths)
        last = b""
        for path, stream in zip(paths, streams, strict=True):
            if last not in (b"", b"\n"):  # its last line has no end: the other stream begins on one of its own
                self._printer.end_line()
            if len(paths) > 1 and sys.stdout.isatty():
                rendering.note(f"==> {'standard error' if path.suffix == '.e' else 'standard output'}")
            last = self._printer.copy(stream) or last
            stream.close()
        if not last and self._tail != 0:
            rendering.note(f"job {job.id} ({job.name}), attempt {attempt}, has written nothing")

    def follow(self, job: Job, attempt: int | None) -> None:
        """Print an attempt as it goes on and, where none was asked for, those after it. Raises NotFound."""
        told_to_wait = False
        number = attempt or job.attempt
        while not number or (job.state not in FINISHED and not self._paths(job, number)):
            if job.state in FINISHED:
                raise NotFound(
                    f"job {job.id} ({job.name}) is {job.state} and has not run",
                    hint=f"`torc jobs explain {job.id}` says why",
                )
            if not told_to_wait and job.attempt == 0:
                rendering.note(f"job {job.id} ({job.name}) is {job.state}: waiting for it to begin")
                told_to_wait = True
            elif not told_to_wait and (found := self._elsewhere(job, number)) is not None:
                raise found
            time.sleep(_FOLLOW_SECONDS)
            job = self._opened.send(GetJob(job_id=job.id))
            number = attempt or job.attempt
        while True:
            job = self._follow_one(job, number)
            if attempt is not None or job.attempt == number:
                return
            number = job.attempt
            rendering.note(f"==> attempt {number}")

    def _follow_one(self, job: Job, number: int) -> Job:
        """Follow an attempt to its end; returns the job as it is then. Raises NotFound."""
        paths = self._paths(job, number)
        if not paths and job.attempt == number:
            raise self._missing(job, number)
        streams = self._open(paths)
        try:
            looks = 0
            while True:
                if looks % _LOOKS_PER_QUESTION == 0:
                    job = self._opened.send(GetJob(job_id=job.id))
                has_ended = job.state in FINISHED or job.attempt != number
                for stream in streams:
                    self._printer.copy(stream)
                if has_ended:
                    return job
                looks += 1
                time.sleep(_FOLLOW_SECONDS)
        finally:
            for stream in streams:
                stream.close()

    def _paths(self, job: Job, attempt: int) -> list[Path]:
        from torc.reports import log_files

        workflow = self._opened.send(GetWorkflow(workflow_id=job.workflow_id))
        folders = log_files.folders(self._opened, workflow, self._output_dir, output_folder())
        run = log_files.run_of(self._opened, job, attempt, workflow.run_id)
        found = log_files.of_attempt(folders, workflow.id, job.id, attempt, run)
        return [log.path for log in found if log.path.suffix in self._wanted]

    def _missing(self, job: Job, attempt: int) -> NotFound:
        elsewhere = self._elsewhere(job, attempt)
        if elsewhere is not None:
            return elsewhere
        last = f"it has run {job.attempt} times" if job.attempt != 1 else "it has run once"
        if attempt > job.attempt:
            return NotFound(f"job {job.id} ({job.name}) has no attempt {attempt}", hint=last)
        place = self._output_dir or "the folders where its runners wrote"
        return NotFound(
            f"there are no logs of job {job.id} ({job.name}), attempt {attempt}, in {place}",
            hint="name the folder with --output-dir",
        )

    def _elsewhere(self, job: Job, attempt: int) -> NotFound | None:
        """Say on which other machine the logs are, if they are."""
        from torc.reports.log_files import where_else

        found = where_else(self._opened, job.workflow_id, job.id, attempt, socket.gethostname(), job.runner_id)
        if found is None:
            return None
        host, folder = found
        return NotFound(
            f"job {job.id} ({job.name}), attempt {attempt}, ran on {host}, and its logs are there{f', in {folder}' if folder else ''}",
            hint=f"look there, or bring them here: torc remote collect-logs {job.workflow_id} -o logs, then --output-dir logs",
        )

    def _open(self, paths: Sequence[Path]) -> list[BinaryIO]:
        from torc.files import open_log
        from torc.reports.log_files import place_of_last_lines

        streams: list[BinaryIO] = []
        for path in paths:
            try:
                streams.append(open_log(path))
            except OSError as error:
                raise NotFound(f"cannot read {path}: {error.strerror}", hint="its owner can let you read it") from None
        if self._tail is not None:
            for stream in streams:
                stream.seek(place_of_last_lines(stream, self._tail))
        return streams
