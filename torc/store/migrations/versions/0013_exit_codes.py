"""Death by a signal is 128 + its number, a timeout 152, and what was killed for its memory 137: older rows have negative numbers."""

from alembic import op

revision = "0013"
down_revision = "0012"
_TODAY = "128 - return_code"


def upgrade() -> None:
    """Go from the version before to this one."""
    of_attempt = f"CASE reason WHEN 'timeout' THEN 152 WHEN 'out_of_memory' THEN 137 ELSE {_TODAY} END"
    last = "SELECT a.return_code FROM attempt a WHERE a.job_id = job.id AND a.attempt = job.attempt"
    op.execute(f"UPDATE attempt SET return_code = {of_attempt} WHERE return_code < 0")
    op.execute(f"UPDATE job SET return_code = coalesce(({last}), {_TODAY}) WHERE return_code < 0")
    op.execute(f"UPDATE firing SET return_code = {_TODAY} WHERE return_code < 0")
