"""What srun prints about steps, as Slurm 22.05 to 24 print it."""

from __future__ import annotations

import pytest

from torc.schedulers.slurm.step.messages import exit_code, gist, is_transient, state_of, was_not_created


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("srun: error: f1: task 0: Out Of Memory\n", "OUT_OF_MEMORY"),
        (
            "slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=4.0. Some of your processes may have been killed",
            "OUT_OF_MEMORY",
        ),
        (
            "slurmstepd: error: Detected 1 oom_kill event in StepId=4.0. Some of the step tasks have been OOM Killed.",
            "OUT_OF_MEMORY",
        ),
        ("slurmstepd: error: StepId=4.0 exceeded memory limit (600 > 200), being killed", "OUT_OF_MEMORY"),
        ("slurmstepd: error: *** STEP 4.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***", "TIMEOUT"),
        ("slurmstepd: error: *** STEP 4.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO PREEMPTION ***", "PREEMPTED"),
        (
            "slurmstepd: error: *** STEP 4.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***",
            "NODE_FAIL",
        ),
        ("slurmstepd: error: *** STEP 7.3 ON f1 CANCELLED AT 2026-11-26T11:53:03 ***", "CANCELLED"),
        ("srun: forcing job termination", "CANCELLED"),
        ("srun: error: n1: task 0: Exited with exit code 3", None),
        ("", None),
    ],
)
def test_the_end_of_a_step_is_told_where_it_did_not_end_by_itself(words: str, state: str | None) -> None:
    assert state_of(words) == state
    assert not was_not_created(words)


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        ("srun: error: Unable to create step for job 9: Memory required by task is not available", False),
        ("srun: error: Unable to create step for job 9: More processors requested than permitted", False),
        ("srun: error: Unable to create step for job 9: Invalid generic resource (gres) specification", False),
        (
            "srun: Job 9 step creation temporarily disabled, retrying (Requested nodes are busy)\nsrun: error: Unable to create step for job 9: Job/step already completing or completed",
            True,
        ),
        ("srun: error: Unable to create step for job 9: Socket timed out on send/recv operation", True),
        (
            "srun: error: Unable to confirm allocation for job 9: Unable to contact slurm controller (connect failure)",
            True,
        ),
        ("srun: error: Task launch for StepId=9.4 failed on node n2: Communication connection failure", True),
    ],
)
def test_a_step_that_did_not_come_to_be_may_another_time_or_never(words: str, passes: bool) -> None:
    assert was_not_created(words) and is_transient(words) == passes


def test_of_several_lines_that_is_told_which_says_why_and_of_several_tasks_the_first_that_failed() -> None:
    words = (
        "srun: Job 9 step creation temporarily disabled, retrying (Requested nodes are busy)\n"
        "srun: error: Unable to create step for job 9: Memory required by task is not available\n"
    )
    assert gist(words) == "Unable to create step for job 9: Memory required by task is not available"
    assert gist("\n") == "srun printed nothing"
    assert exit_code("srun: error: n2: task 1: Exited with exit code 7\nsrun: error: n1: task 0: Terminated") == 7
    assert exit_code("srun: error: n1: task 0: Terminated") is None
