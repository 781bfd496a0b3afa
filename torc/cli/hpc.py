"""`torc hpc`: what clusters offer, and a cluster of one's own to try things."""

from __future__ import annotations

from torc.cli.app import App
from torc.cli.sandbox import sandbox

hpc = App("What clusters offer, and a cluster of your own to try things.")
hpc.add_typer(sandbox, name="sandbox")
