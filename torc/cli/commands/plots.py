"""`torc plot-resources`: a run drawn, for a browser or for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.commands.run import output_folder
from torc.cli.commands.status import Which
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION


def plot_resources(
    workflow: Which = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .html (default), .svg or .png.")
    ] = None,
    run: Annotated[int | None, typer.Option("--run", "--run-id", help="The run; default: the current one.")] = None,
    job: Annotated[
        str | None, typer.Option("--job", "-j", help="Only jobs whose name matches this pattern, with *.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", help="Folder with the runners' time series; default: as for `torc run`."),
    ] = None,
    dark: Annotated[
        bool, typer.Option("--dark", help="Use dark colors in a picture; a page follows the reader's setting.")
    ] = False,
) -> None:
    """Plot a run: timeline, CPU and memory over time compared with the requests, and their distribution in each class.

    Example: torc plot-resources 3 -o run.png
    """
    from torc.errors import Invalid
    from torc.reports.plots import SUFFIXES

    if output is not None and output.suffix.lower() not in SUFFIXES:  # before all the work
        raise Invalid(f"cannot tell what kind of file {output} is", hint=f"the name ends in {', '.join(SUFFIXES)}")
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        _plot(opened, number, output_folder(output_dir), (output, run, job, dark))


def plot_at_the_end(opened: Torc, number: int, folder: Path) -> None:
    """Plot a run that has ended, as its spec wants it; what is in the way of that is no fault of the run."""
    from torc.errors import TorcError

    path = folder / f"resources_wf{number}.html"
    try:
        _plot(opened, number, folder, (path, None, None, False))
    except TorcError as error:
        rendering.note(f"no plots were made: {error}")


def _plot(opened: Torc, number: int, folder: Path, chosen: tuple[Path | None, int | None, str | None, bool]) -> None:
    from torc.files import write_whole
    from torc.reports.plots import plots, rendered

    output, run, job, dark = chosen
    made = plots(opened, number, folder.absolute(), run, job)
    path = output or Path(f"resources_wf{number}.html")
    write_whole(path, rendered(made, path.suffix.lower(), dark=dark))
    if SESSION.json:
        rendering.show_json({"path": str(path), "num_attempts": made.num_attempts, "num_series": made.num_series})
    else:
        attempts = rendering.plural(made.num_attempts, "attempt")
        rendering.note(f"wrote {path}: {attempts}, {made.num_series:,} of them with samples")
