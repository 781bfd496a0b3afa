"""`torc slurm`: commands about allocations on a Slurm cluster. Each file of commands gives a table; none is written here."""

from __future__ import annotations

from torc.cli import slurm_accounts, slurm_allocations, slurm_node
from torc.cli.app import App

app = App("Allocations of workflows on a Slurm cluster: submit, follow, cancel and account for them.")
for _name, _function in {**slurm_allocations.COMMANDS, **slurm_accounts.COMMANDS, **slurm_node.COMMANDS}.items():
    app.command(_name)(_function)
