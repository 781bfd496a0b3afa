"""What sbatch's refusals mean: not now, or not at all and what would help."""

from __future__ import annotations

import pytest

from torc.planning.allocations import again_after_seconds
from torc.schedulers.slurm.refusals import refusal_of

FAILED = "Batch job submission failed: "
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
NOT_NOW = [
    f"AssocMaxSubmitJobLimit; {FAILED}{POLICY}",
    f"AssocGrpSubmitJobsLimit; {FAILED}{POLICY}",
    f"QOSMaxSubmitJobPerUserLimit; {FAILED}{POLICY}",
    f"QOSMaxSubmitJobPerAccountLimit; {FAILED}{POLICY}",
    f"QOSGrpSubmitJobsLimit; {FAILED}{POLICY}",
    f"{FAILED}{POLICY}",
    "Slurm temporarily unable to accept job, sleeping and retrying",
    f"{FAILED}Resource temporarily unavailable",
    f"{FAILED}Required partition not available (inactive or drain)",
    f"{FAILED}Required node not available (down, drained or reserved)",
    f"{FAILED}Reservation not usable now",
    f"{FAILED}Job can not start due to maintenance reservation.",
]
NEVER = [
    (f"QOSMaxWallDurationPerJobLimit; {FAILED}{POLICY}", "walltime"),
    (f"AssocMaxNodePerJobLimit; {FAILED}{POLICY}", "account"),
    (f"{FAILED}Invalid account or account/partition combination specified", "--account"),
    (f"{FAILED}Invalid qos specification", "qos"),
    (f"{FAILED}Invalid partition name specified", "sinfo"),
    (f"{FAILED}Requested reservation is invalid", "reservation"),
    (f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)", "walltime"),
    (f"{FAILED}Requested node configuration is not available", "ask for less"),
    (f"{FAILED}Invalid license specification", "licenses"),
    ("our site wants --comment=PROJECT, put it in and try again", "sbatch(1)"),
]


@pytest.mark.parametrize("words", NOT_NOW)
def test_what_may_be_taken_later_is_asked_for_again(words: str) -> None:
    assert refusal_of(words).is_passing


@pytest.mark.parametrize(("words", "hint"), NEVER)
def test_what_will_never_be_taken_ends_with_what_would_help(words: str, hint: str) -> None:
    found = refusal_of(words)
    assert not found.is_passing
    assert hint in found.hint


def test_the_longer_it_was_refused_the_longer_is_the_pause() -> None:
    pauses = [again_after_seconds(0.0, at) for at in (0.0, 10.0, 60.0, 400.0, 10_000.0)]
    assert pauses == sorted(pauses)
    assert pauses[0] > 0
    assert pauses[-1] == pauses[-2] <= 120.0
