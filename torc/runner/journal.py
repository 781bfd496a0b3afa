"""Finished attempts on disk while the store cannot be reached, so that no result is lost when the runner dies too.

Reports carry (job, attempt) and are applied once, so delivering a journal again is harmless.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pydantic import ValidationError

from torc.api.runs import Exchange, NodeCapacity
from torc.files import open_to_append, read_trusted
from torc.runner.state import Reports

_NOTHING = NodeCapacity(num_cpus=0, memory_bytes=0)


class Journal:
    """One file of one runner; it exists only while something is undelivered."""

    def __init__(self, output_dir: Path, workflow_id: int, runner_id: int) -> None:
        self.path = output_dir / f"undelivered_wf{workflow_id}_n{runner_id}.json"
        self.is_kept = False
        self.is_whole = True  # false: something could not even be written here
        self._workflow_id, self._runner_id = workflow_id, runner_id

    def keep(self, reports: Reports) -> None:
        """Write what could not be delivered, a line a time. A full disk is borne: memory has the reports too.

        No fsync, as SQLite does none at a commit here: what is written outlives this process, not a power cut.
        """
        request = Exchange(
            workflow_id=self._workflow_id,
            runner_id=self._runner_id,
            finished=list(reports.finished),
            actions_finished=list(reports.actions_finished),
            free=_NOTHING,
        )
        line = request.model_dump_json(exclude_defaults=True).encode() + b"\n"
        try:
            with open(open_to_append(self.path), "ab") as file:
                self.is_kept = True
                file.write(line)
        except OSError:
            self.is_whole = False

    def delivered(self) -> None:
        """Forget what was kept: the store has it."""
        if self.is_kept:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self.is_kept = False


def undelivered(output_dir: Path, workflow_id: int, runner_id: int) -> tuple[Path, list[Exchange]]:
    """Read the journal that a runner left behind, where it did; a line that was cut off is no report."""
    path = Journal(output_dir, workflow_id, runner_id).path
    found = []
    try:
        lines = read_trusted(path).splitlines()
    except OSError:
        return path, []
    for line in lines:
        with contextlib.suppress(ValidationError):
            found.append(Exchange.model_validate_json(line))
    return path, found
