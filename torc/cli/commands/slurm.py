"""`torc slurm`: commands about allocations on a Slurm cluster. Each file of commands gives a table; none is written here."""

from __future__ import annotations

from torc.cli.app import App
from torc.cli.commands import slurm_accounting, slurm_allocations, slurm_generate, slurm_run_node, submit

app = App("Submit, follow, cancel and account for the allocations of workflows on a Slurm cluster.")
_TABLES = (
    slurm_generate.COMMANDS,
    submit.COMMANDS,
    slurm_allocations.COMMANDS,
    slurm_accounting.COMMANDS,
    slurm_run_node.COMMANDS,
)
for _name, _function in (entry for table in _TABLES for entry in table.items()):
    app.command(_name)(_function)
