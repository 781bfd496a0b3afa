"""The commands of an action, one after the other, like a job but outside of the accounts."""

from __future__ import annotations

import signal

from torc.api.runs import ActionAssignment
from torc.runner import launch


class ActionRun:
    """An action being carried out; stops at the first command that fails."""

    def __init__(self, action: ActionAssignment, output_dir: str, workflow_id: int, run_id: int) -> None:
        self.firing_id = action.firing_id
        self.return_code = 0
        self.detail: str | None = None
        self.pid = 0
        self._is_stopped = False
        self._commands = list(enumerate(action.commands))
        self._stem = f"{output_dir}/job_stdio/action_wf{workflow_id}_a{action.action_id}_r{run_id}_f{action.firing_id}"
        self._child: launch.Child | None = None
        self._command = ""

    def start_next(self, environ: launch.Environ) -> int | None:
        """Start the next command and give its pidfd; None when there is none, or when one has failed."""
        if self.return_code or not self._commands:
            return None
        if self._is_stopped:
            self.return_code, self.detail = -signal.SIGTERM, "the runner was stopped before its last command"
            return None
        number, self._command = self._commands.pop(0)
        files = launch.Files(f"{self._stem}_{number}.o", f"{self._stem}_{number}.e")
        try:
            self._child = launch.spawn(["/bin/sh", "-c", self._command], files, environ)
        except (OSError, ValueError) as error:
            self.return_code, self.detail = 126, f"cannot start `{self._command[:200]}`: {error}"
            return None
        self.pid = self._child.pid
        return self._child.pidfd

    def reap(self) -> None:
        """Take the exit of the command that ran."""
        assert self._child is not None
        self.return_code, _ = launch.reap(self._child)
        if self.return_code:
            tail = launch.tail(self._child.files.stderr)
            last = tail.splitlines()[-1][:500] if tail else "no message"
            self.detail = f"`{self._command[:200]}` ended with {self.return_code}: {last}"
        self._child = None

    def stop(self, *, for_good: bool) -> None:
        """End the command that runs; no other one follows it."""
        self._is_stopped = True
        if self._child is not None:
            launch.stop(self._child.pid, for_good=for_good)
