"""Finished attempts on disk while the store cannot be reached, so that no result is lost when the runner dies too.

Reports carry (job, attempt) and are applied once, so delivering a journal again is harmless.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pydantic import ValidationError

from torc.api.runs import Exchange


class Journal:
    """One file of one runner; it exists only while something is undelivered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = False

    def keep(self, request: Exchange) -> None:
        """Write what could not be delivered, in place of what was written before. A full disk is borne: memory has it too."""
        if not (request.finished or request.actions_finished):
            return
        temporary = self.path.with_suffix(".new")
        with contextlib.suppress(OSError):
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(
                    request.model_dump_json(
                        include={"workflow_id", "runner_id", "free", "finished", "actions_finished"}
                    )
                )
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
            self.kept = True

    def delivered(self, _request: Exchange) -> None:
        """Forget what was kept: it has been delivered with, or before, this request."""
        if self.kept:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self.kept = False


def path_of(output_dir: Path, workflow_id: int, runner_id: int) -> Path:
    """Name the journal of a runner."""
    return output_dir / f"undelivered_wf{workflow_id}_n{runner_id}.json"


def undelivered(output_dir: Path, workflow_id: int) -> list[tuple[Path, Exchange]]:
    """Read the journals that runners of a workflow left behind; what is no journal is left alone."""
    found = []
    for path in sorted(output_dir.glob(f"undelivered_wf{workflow_id}_n*.json")):
        try:
            found.append((path, Exchange.model_validate_json(path.read_text(encoding="utf-8"))))
        except (OSError, ValidationError):
            continue
    return found
