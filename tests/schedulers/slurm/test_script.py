"""Batch scripts: what users wrote is data, what we need stands last, and a shell can read them."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.errors import Invalid
from torc.schedulers.slurm.request import SlurmRequest
from torc.schedulers.slurm.script import ScriptFacts, job_name, left_out, mark_of, render

FACTS = ScriptFacts(
    3,
    7,
    "torc-wf3-al7-5f6a7b8c",
    ("/opt/torc/bin/torc",),
    "/home/ada/my sweep",
    "/home/ada/my sweep/out",
    {"TORC_API_URL": "https://login1:8443", "TORC_TOKEN_FILE": "/home/ada/my sweep/out/.torc-token-wf3"},
)
EVIL = 'x\'; touch /tmp/evil; echo $(id) `id` "$HOME" #'


def options(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]


def test_a_script_asks_for_what_the_request_says() -> None:
    request = SlurmRequest(
        "sweep",
        5400,
        num_nodes=2,
        account="climate",
        partition="gpu",
        qos="high",
        cpus_per_node=16,
        memory_bytes_per_node=(64 << 30) + 1,
        gpus_per_node=2,
        gpu_type="a100",
        exclude=("n7", "n8"),
        scheduler="gpu nodes",
        max_parallel_jobs=4,
        extra="--reservation=maintenance --requeue",
        options=(("licenses", "abaqus:2"), ("hold", None), ("comment", "cost=7")),
    )
    script = render(request, FACTS)
    found = options(script)
    assert found[:4] == ["--licenses=abaqus:2", "--hold", "--comment=cost=7", "--reservation=maintenance"], (
        "before ours"
    )
    assert found[-1] == "--no-requeue"
    assert {
        "--time=01:30:00",
        "--nodes=2",
        "--account=climate",
        "--partition=gpu",
        "--qos=high",
        "--cpus-per-task=16",
        "--mem=65537M",
        "--gres=gpu:a100:2",
        "--exclude=n7,n8",
        "--licenses=abaqus:2",
        "--hold",
        "--signal=B:TERM@120",
        "--job-name=sweep.torc-wf3-al7-5f6a7b8c",
        '--chdir="/home/ada/my sweep"',
        '--output="/home/ada/my sweep/out/slurm_output_wf3_sl%j.o"',
    } <= set(found)
    (started,) = [line for line in script.splitlines() if line.startswith("srun")]
    words = shlex.split(started.removesuffix(" &"))
    assert {"--nodes=2", "--ntasks=2", "--wait=0", "--kill-on-bad-exit=0", "--overlap", "--scheduler=gpu nodes"} <= set(
        words
    )
    assert words[words.index("run-node") :] == [
        "run-node",
        "3",
        "--allocation=7",
        "--scheduler=gpu nodes",
        "--max-parallel-jobs=4",
        "--output-dir=/home/ada/my sweep/out",
    ]
    assert mark_of(job_name(request, FACTS.mark)) == FACTS.mark


def test_one_runner_for_all_nodes_and_gpus_by_their_own_option() -> None:
    request = SlurmRequest("x", 60, num_nodes=3, gpus_per_node=1, gpu_option="gpus", start_one_worker_per_node=False)
    script = render(request, FACTS)
    assert "--gpus-per-node=1" in options(script) and "--exclusive" in options(script) and "--mem=0" in options(script)
    assert "--nodes=1 --ntasks=1" in script and not any("signal" in line for line in options(script)), (
        "too short for a warning"
    )


texts = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=40)


@given(texts, texts, texts)
def test_what_users_wrote_is_never_read_by_a_shell(name: str, scheduler: str, path: str) -> None:
    facts = ScriptFacts(1, 2, "mark", ("torc", path), f"/{path}", f"/{path}", {"TORC_DB": path})
    request = SlurmRequest(name, 600, scheduler=scheduler, account=name, partition=path)
    script = render(request, facts)
    lines = [line for line in script.splitlines() if line.startswith(("srun", "export"))]
    assert shlex.split(lines[0]) == ["export", f"TORC_DB={path}"]
    words = shlex.split(lines[1].removesuffix(" &"))
    assert f"--scheduler={scheduler}" in words and path in words
    code = [line for line in script.splitlines() if not line.startswith("#")]
    assert (
        len(code)
        == len(
            [
                line
                for line in render(SlurmRequest("x", 600, scheduler="s"), FACTS).splitlines()
                if not line.startswith("#")
            ]
        )
        - 1
    )


@pytest.mark.usefixtures("processes")
def test_a_shell_takes_the_script_as_it_is_meant() -> None:
    facts = ScriptFacts(1, 2, "mark", ("torc",), "/", EVIL, {"TORC_API_URL": EVIL})
    script = render(SlurmRequest(EVIL, 600, scheduler=EVIL), facts)
    shown = "srun() { printf '%s\\n' \"$@\"; printf '%s\\n' \"$TORC_API_URL\"; }; " + script
    done = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True)
    assert done.stdout.count(EVIL) == 3 and not done.stderr
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", job_name(SlurmRequest(EVIL, 1), "mark"))


@pytest.mark.parametrize(
    "fields",
    [{"account": "a\nb"}, {"extra": "--x\nrm -rf ~"}, {"scheduler": "a\x1bb"}, {"options": (("bad name", None),)}],
)
def test_what_no_line_can_hold_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        render(SlurmRequest("x", 600, **fields), FACTS)  # type: ignore[arg-type]


def test_a_line_break_at_the_end_is_no_part_of_a_name() -> None:
    for options in ((("reservation\n", "x"),), (("reservation", "x\n"),)):
        with pytest.raises(Invalid):
            render(SlurmRequest("n", 60, options=options), FACTS)
    with pytest.raises(Invalid):
        render(SlurmRequest("n", 60), replace(FACTS, variables={"NAME\n": "x"}))


def test_a_comment_is_the_users() -> None:
    assert "comment" not in render(SlurmRequest("n", 600), FACTS)


def test_nodes_that_users_exclude_stay_excluded_beside_those_that_failed() -> None:
    for extra, defaults in (
        ("--exclude=n[2-3]", None),
        ("-x n[2-3]", None),
        ("--exclud n2", "n3"),
        (None, "n2,n3"),
        ("-xn2,n3", "n2"),
    ):
        options_ = () if defaults is None else (("exclude", defaults),)
        request = SlurmRequest("n", 600, extra=extra, options=options_, exclude=("n7", "n3"))
        found = [line for line in options(render(request, FACTS)) if "exclude" in line or "-x" in line]
        (option,) = found
        assert sorted(option.removeprefix("--exclude=").split(",")) == ["n2", "n3", "n7"], (extra, defaults)
    with pytest.raises(Invalid, match="not a file"):
        render(SlurmRequest("n", 600, extra="--exclude=./bad_nodes"), FACTS)


@pytest.mark.parametrize(
    ("extra", "defaults", "words"),
    [
        ("--array=0-3", (), "num_allocations"),
        ("-a0-3", (), "num_allocations"),
        ("--arr 0-3", (), "num_allocations"),
        (None, (("array", "0-3"),), "num_allocations"),
        ("--wrap=hostname", (), "Torc writes"),
        ("-W", (), "torc watch"),
        ("-Hn 4", (), "one runner"),
        ("--mem-per-cpu=1G", (), "`mem` of the scheduler"),
        ("--nice=5 : -p gpu", (), "heterogeneous"),
        ("--comment='open", (), "extra"),
        ("hostname", (), "is not an option"),
    ],
)
def test_options_that_would_break_torc_are_refused(
    extra: str | None, defaults: tuple[tuple[str, str | None], ...], words: str
) -> None:
    with pytest.raises(Invalid) as refused:
        render(SlurmRequest("n", 600, extra=extra, options=defaults), FACTS)
    assert words in f"{refused.value.message} {refused.value.hint}"


def test_what_does_not_hold_is_said() -> None:
    request = SlurmRequest(
        "n",
        60,
        partition="gpu",
        cpus_per_node=2,
        extra="--signal=B:USR1@30 -p debug --nice=5 --time 10 --mem-per-cpu=1G",
        options=(("requeue", None), ("comment", "cost=7"), ("partition", "gpu")),
    )
    said = left_out(request)
    assert [line.split("`")[1] for line in said] == [
        "--requeue",
        "--signal=B:USR1@30",
        "--partition=debug",
        "--time=10",
    ]
    assert "supports_termination" in said[1] and "--partition=gpu" in said[2]
    script = render(request, FACTS)
    assert "USR1" not in script and "debug" not in script and "--requeue" not in script
    assert {"--nice=5", "--mem-per-cpu=1G", "--comment=cost=7"} <= set(options(script))


def test_what_the_environment_of_the_job_is_does_not_hide_the_server_from_the_runners() -> None:
    script = render(SlurmRequest("n", 60, options=(("export", "NONE"),)), FACTS)
    (started,) = [line for line in script.splitlines() if line.startswith("srun")]
    assert "--export=ALL" in shlex.split(started)
