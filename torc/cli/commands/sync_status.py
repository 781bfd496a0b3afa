"""`torc workflows sync-status`: find jobs that nobody runs any more, and say so in the store."""

from __future__ import annotations

import time

from torc.api import workflows as api
from torc.cli import rendering
from torc.cli.commands.run import OutputDir
from torc.cli.commands.status import Which
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION


def sync_status(workflow: Which = None, output_dir: OutputDir = None) -> None:
    """Find jobs whose runner is lost: its allocation ended, it died on this machine, or it has been silent for too long.

    Example: torc workflows sync-status 3
    """
    from torc.api.runs import EndRunner, ListRunners
    from torc.cli.allocations import take_in_ends
    from torc.cli.commands.run import output_folder
    from torc.runner import dead_runners, hardware

    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        here = hardware.identity()
        dead_runners.deliver_left(opened, number, here, output_folder(output_dir).absolute())
        ended = take_in_ends(opened, number)
        died = len(dead_runners.give_up_dead_runners(opened, number, here, output_folder(output_dir).absolute()))
        silent = 0
        for runner in opened.send(ListRunners(workflow_id=number, active_only=True, limit=10_000)).items:
            if runner.lease_expires_at < time.time():
                opened.send(EndRunner(workflow_id=number, runner_id=runner.id, reason="lease ended"))
                silent += 1
        found = opened.send(api.GetWorkflow(workflow_id=number))
    if SESSION.json:
        rendering.show_json(found)
        return
    print(f"runners taken off: {ended} of allocations that ended, {died} that died here, {silent} not heard of")
