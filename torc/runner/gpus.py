"""What NVIDIA GPUs do while jobs have them: their load and memory, by one `nvidia-smi` that reports at an interval.

A process of its own, because a driver that hangs holds up whoever asks it; where there is none, nothing is known and nothing
else changes. Not for finding GPUs (`hardware`).
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
    """What one or several GPUs do: how many are busy (0.5: one, half of the time), and the memory in use on them."""

    busy: float = 0.0
    memory_bytes: int = 0


class Gpus:
    """Knows the load of the GPUs of this node. A context of its own costs some tens of MB, so it begins when a job has GPUs."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval = max(1.0, interval_seconds)
        self._process: subprocess.Popen[bytes] | None = None
        self._has_tried = False
        self._rest = b""
        self._loads: dict[str, GpuLoad] = {}  # by index and by UUID

    @property
    def pids(self) -> set[int]:
        """Return the processes that this runs."""
        return {self._process.pid} if self._process else set()

    def load(self, names: Sequence[str]) -> GpuLoad | None:
        """Return what the GPUs of these names do together; None when nothing is known of any."""
        self._begin()
        self._take()
        found = [self._find(name) for name in names]
        known = [load for load in found if load is not None]
        return GpuLoad(sum(each.busy for each in known), sum(each.memory_bytes for each in known)) if known else None

    def close(self) -> None:
        """End the process."""
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
        """Take in what has been reported, without waiting."""
        if self._process is None or self._process.stdout is None:
            return
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._process.stdout.fileno(), _CHUNK):
                *lines, self._rest = (self._rest + part).split(b"\n")
                for line in lines:
                    self._loads |= loads_in(line.decode("ascii", "replace"))
            self.close()  # end of file: it has ended

    def _find(self, name: str) -> GpuLoad | None:
        """Find a GPU by index, or by its UUID or a beginning of that, as CUDA_VISIBLE_DEVICES allows."""
        known = self._loads.get(name)
        if known is None and name.startswith("GPU-"):
            known = next((load for uuid, load in self._loads.items() if uuid.startswith(name)), None)
        return known


def loads_in(line: str) -> dict[str, GpuLoad]:
    """Read a line of nvidia-smi: index, UUID, load in percent, MiB in use. What it cannot tell (`[N/A]`) counts as none."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 4 or not fields[0].isdigit():
        return {}
    index, uuid, percent, used = fields
    load = GpuLoad(int(percent) / 100 if percent.isdigit() else 0.0, int(used) * _MIB if used.isdigit() else 0)
    return {index: load, uuid: load}
