"""Load and memory of the NVIDIA GPUs that jobs use, from one `nvidia-smi` process that reports at an interval.

It is a separate process because a hanging driver blocks whoever queries it. Without `nvidia-smi` nothing is known and nothing
else changes. Finding GPUs is in `hardware`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

_QUERY = "--query-gpu=index,uuid,utilization.gpu,memory.used"
_MIB = 1 << 20
_CHUNK = 1 << 16
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """Load of one or more GPUs: the number of busy GPUs (0.5: one GPU, half of the time), and their memory in use."""

    busy: float = 0.0
    memory_bytes: int = 0


class Gpus:
    """Samples the GPUs of this node. A driver context costs some tens of MB, so sampling starts with the first job that has GPUs."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval = max(1.0, interval_seconds)
        self._process: subprocess.Popen[bytes] | None = None
        self._has_tried = False
        self._rest = b""
        self._loads: dict[str, GpuLoad] = {}  # by index and by UUID

    @property
    def pids(self) -> set[int]:
        """Return the processes started here."""
        return {self._process.pid} if self._process else set()

    def load(self, names: Sequence[str]) -> GpuLoad | None:
        """Return the combined load of the named GPUs; None when nothing is known about any of them."""
        self._begin()
        self._take()
        found = [self._find(name) for name in names]
        known = [load for load in found if load is not None]
        return GpuLoad(sum(each.busy for each in known), sum(each.memory_bytes for each in known)) if known else None

    def close(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the driver
                self._process.wait(_PATIENCE_SECONDS)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def _begin(self) -> None:
        if self._has_tried:
            return
        self._has_tried = True
        program = shutil.which("nvidia-smi")
        if program is None:
            return
        command = [program, _QUERY, "--format=csv,noheader,nounits", f"--loop-ms={round(self._interval * 1000)}"]
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            if self._process.stdout is not None:
                os.set_blocking(self._process.stdout.fileno(), False)

    def _take(self) -> None:
        """Parse what has been reported so far, without waiting."""
        if self._process is None or self._process.stdout is None:
            return
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._process.stdout.fileno(), _CHUNK):
                *lines, self._rest = (self._rest + part).split(b"\n")
                for line in lines:
                    self._loads |= loads_in(line.decode("ascii", "replace"))
            self.close()  # end of file: the process has exited

    def _find(self, name: str) -> GpuLoad | None:
        """Find a GPU by index, UUID or UUID prefix, as CUDA_VISIBLE_DEVICES allows."""
        known = self._loads.get(name)
        if known is None and name.startswith("GPU-"):
            known = next((load for uuid, load in self._loads.items() if uuid.startswith(name)), None)
        return known


def loads_in(line: str) -> dict[str, GpuLoad]:
    """Parse a line of nvidia-smi: index, UUID, load in percent, MiB in use. Unknown values (`[N/A]`) count as zero."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 4 or not fields[0].isdigit():
        return {}
    index, uuid, percent, used = fields
    load = GpuLoad(int(percent) / 100 if percent.isdigit() else 0.0, int(used) * _MIB if used.isdigit() else 0)
    return {index: load, uuid: load}
