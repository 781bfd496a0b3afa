"""Whether a workflow as a whole lets its jobs start."""

from __future__ import annotations

import pytest

from torc.workflow.lifecycle import may_start_jobs, start_block


@pytest.mark.parametrize(
    ("is_archived", "is_canceled", "block"),
    [(False, False, None), (True, False, "archived"), (False, True, "canceled"), (True, True, "archived")],
)
def test_jobs_start_unless_their_workflow_is_archived_or_canceled(
    is_archived: bool, is_canceled: bool, block: str | None
) -> None:
    flags = {"is_archived": is_archived, "is_canceled": is_canceled}
    assert start_block(flags) == block
    assert may_start_jobs(flags) is (block is None)
