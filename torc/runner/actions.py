"""The commands of an action, run one after another: started like jobs, but outside resource accounting."""

from __future__ import annotations

import signal

from torc.api.runs import ActionAssignment
from torc.runner import spawner_client
from torc.workflow.exit_codes import counted


class ActionRun:
    """An action that is running. It stops at the first command that fails."""

    def __init__(self, action: ActionAssignment, output_dir: str, workflow_id: int, run_id: int) -> None:
        self.firing_id = action.firing_id
        self._idempotency_key = action.key
        self.environ: dict[bytes, bytes] = {}  # for the next command
        self.return_code = 0
        self.detail: str | None = None
        self.key = 0  # key of the running command
        self.pid = 0  # once known
        self._is_stopped = False
        self._commands = list(enumerate(action.commands))
        self._stem = f"{output_dir}/job_stdio/action_wf{workflow_id}_a{action.action_id}_r{run_id}_f{action.firing_id}"
        self._files = spawner_client.OutputFiles("", "")
        self._command = ""

    def next(self) -> tuple[list[str], spawner_client.OutputFiles] | None:
        """Return the next program to start and its output files; None when nothing is left or a command failed."""
        if self.return_code or not self._commands:
            return None
        if self._is_stopped:
            self.return_code, self.detail = counted(-signal.SIGTERM), "the runner was stopped before its last command"
            return None
        number, self._command = self._commands.pop(0)
        self.environ = {b"TORC_ACTION_KEY": f"{self._idempotency_key}-{number}".encode()}
        self._files = spawner_client.OutputFiles(f"{self._stem}_{number}.o", f"{self._stem}_{number}.e")
        try:
            return spawner_client.shell(self._command, self._files), self._files
        except (OSError, ValueError) as error:
            self.not_started(str(error))
            return None

    def may_have_begun(self) -> bool:
        return spawner_client.have_begun(self._files)

    def not_started(self, why: str) -> None:
        self.return_code, self.detail = 126, f"cannot start `{self._command[:200]}`: {why}"

    def ended(self, return_code: int) -> None:
        """Record how the running command ended."""
        self.pid, self.return_code = 0, return_code
        if return_code:
            last = spawner_client.last_line(self._files.stderr) or "no message"
            self.detail = f"`{self._command[:200]}` ended with {return_code}: {last[:500]}"

    def stop(self) -> None:
        """Start no further commands."""
        self._is_stopped = True
