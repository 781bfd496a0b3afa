"""What `torc run` shows while it runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torc.api.base import Torc
from torc.api.workflows import GetWorkflow, Workflow
from torc.cli import rendering
from torc.cli.session import SESSION
from torc.cli.terminal import live_display
from torc.display_text import visible_line
from torc.errors import TorcError
from torc.workflow.states import FINISHED, State

_PLAIN_SECONDS = 5.0
_MOST_RUNNING = 8
_RATE_SECONDS = 10.0


@contextmanager
def display(opened: Torc, workflow: Workflow, *, quiet: bool) -> Iterator[Callable[[Any], None] | None]:
    """Return what the runner is to call with its views."""
    if quiet:
        yield None
    elif sys.stderr.isatty() and SESSION.color:
        with _rich(opened, workflow) as update:
            yield update
    else:
        print(
            f"running workflow {workflow.id} ({workflow.name}): {rendering.plural(workflow.counts.total, 'job')}",
            file=sys.stderr,
        )
        yield _Plain(opened, workflow).update


class ProgressPoll:
    """Counts, rate and time left, asked of the store no more often than is cheap."""

    def __init__(self, opened: Torc, workflow: Workflow) -> None:
        self.opened, self.workflow = opened, workflow
        #: an earlier run may have finished some, which says nothing about the rate of this one
        self.began = (time.monotonic(), self.finished)
        self.history: list[tuple[float, int]] = [self.began]

    def look(self) -> Workflow:
        """Ask the store; where it does not answer, what it said last is shown. The loop says what is wrong."""
        try:
            self.workflow = self.opened.send(GetWorkflow(workflow_id=self.workflow.id))
        except TorcError:
            return self.workflow
        now = time.monotonic()
        self.history.append((now, self.finished))
        while len(self.history) > 2 and now - self.history[0][0] > _RATE_SECONDS:
            self.history.pop(0)
        return self.workflow

    @property
    def finished(self) -> int:
        """Jobs that have finished."""
        return sum(count for state, count in self.workflow.counts.by_state.items() if state in FINISHED)

    @property
    def rate(self) -> float:
        """Jobs finished a second, lately."""
        (first, was), (last, done) = self.history[0], self.history[-1]
        return max(0.0, (done - was) / (last - first)) if last > first else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the rate since it began; None: nobody knows."""
        since, was = self.began
        rate = (self.finished - was) / max(time.monotonic() - since, 0.001)
        left = self.workflow.counts.total - self.finished
        return left / rate if rate > 0 and left else None


class _Plain:
    """A line now and then."""

    def __init__(self, opened: Torc, workflow: Workflow) -> None:
        self.progress = ProgressPoll(opened, workflow)
        self.next = time.monotonic() + _PLAIN_SECONDS

    def update(self, view: Any) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + _PLAIN_SECONDS
        workflow = self.progress.workflow if view.unreachable_seconds else self.progress.look()
        failed = workflow.counts[State.FAILED] + workflow.counts[State.TERMINATED]
        left = self.progress.seconds_left
        print(
            f"{time.strftime('%H:%M:%S')} {self.progress.finished}/{workflow.counts.total} finished, {failed} failed, "
            f"{len(view.running)} running, {self.progress.rate:.1f} jobs/s"
            + (f", about {rendering.duration(left)} left" if left else "")
            + (f", the store does not answer for {view.unreachable_seconds:.0f}s" if view.unreachable_seconds else ""),
            file=sys.stderr,
        )


@contextmanager
def _rich(opened: Torc, workflow: Workflow) -> Iterator[Callable[[Any], None]]:
    from rich.console import Console
    from rich.live import Live

    progress = ProgressPoll(opened, workflow)
    with (
        live_display(lambda file: Console(file=file, stderr=True)) as console,
        Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False) as live,
    ):

        def update(view: Any) -> None:
            if not view.unreachable_seconds:
                progress.look()
            live.update(_panel(progress, view, console.width, console.height), refresh=True)

        yield update


def _panel(progress: ProgressPoll, view: Any, width: int, height: int) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    workflow = progress.workflow
    assert workflow is not None
    total = max(workflow.counts.total, 1)
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(no_wrap=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, justify="right")
    left = progress.seconds_left
    bar.add_row(
        Text(visible_line(workflow.name)[:30], style="bold"),
        ProgressBar(total=total, completed=progress.finished),
        f"{progress.finished:,}/{total:,}  {progress.rate:,.1f}/s"
        + (f"  {rendering.duration(left)} left" if left else ""),
    )
    counts = Text(no_wrap=True, overflow="ellipsis")
    for state, style in _STYLES:
        if workflow.counts[state]:
            counts.append(f"{workflow.counts[state]:,} {state}  ", style=style)
    parts: list[Any] = [bar, counts]
    room = min(_MOST_RUNNING, max(0, height - 5))
    if view.running and room:
        parts.append(_running(view.running, room))
    if view.unreachable_seconds:
        parts.append(Text(f"the store does not answer for {view.unreachable_seconds:.0f}s; jobs go on", style="yellow"))
    return Group(*parts)


_STYLES = (
    (State.COMPLETED, "green"),
    (State.RUNNING, "cyan"),
    (State.PENDING, "cyan dim"),
    (State.READY, "blue"),
    (State.BLOCKED, "dim"),
    (State.FAILED, "red"),
    (State.TERMINATED, "yellow"),
    (State.CANCELED, "magenta"),
    (State.PENDING_FAILED, "red"),
    (State.DISABLED, "dim"),
)


def _running(running: Any, room: int) -> Any:
    from rich.table import Table
    from rich.text import Text

    shown = sorted(running, key=lambda job: -job[2])
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for job_id, name, elapsed, memory in shown[:room]:
        table.add_row(Text(f"  {job_id} {visible_line(name)}"), rendering.duration(elapsed), rendering.memory(memory))
    if len(shown) > room:
        table.add_row(Text(f"  and {len(shown) - room} more", style="dim"), "", "")
    return table
