"""Torc runs computational workflows: on a laptop, on Slurm clusters, on machines over SSH.

The names below are loaded on use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "1.0.0.dev0"

_EXPORTS = {
    "TorcError": "torc.errors",
    "Torc": "torc.api.base",
    "connect": "torc.client.connect",
    "compile_spec": "torc.spec.compiler",
    "run_here": "torc.runner.local_run",
}
__all__ = ["Torc", "TorcError", "__version__", "compile_spec", "connect", "run_here"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'torc' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
