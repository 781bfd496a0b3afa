"""What Slurm's commands print, read: values of every kind, and text that nobody ever printed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc.schedulers.slurm import fields, output_parser, queue_position
from torc.schedulers.slurm.fields import JobId

LINES = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.text("0123456789_[]+.-|%@;:=, nTKMG()", max_size=120),
        st.builds("|".join, st.lists(st.text("0123456789-:TKMGn[],?NA ", max_size=12), min_size=10, max_size=24)),
    ),
    max_size=6,
).map("\n".join)


@given(LINES)
def test_no_text_breaks_a_parser(text: str) -> None:
    output_parser.parse_squeue(text)
    output_parser.parse_sacct(text)
    output_parser.parse_scontrol(text)
    output_parser.parse_submitted(text)
    output_parser.parse_test_only(text)
    queue_position.parse(text)


@given(st.text("0123456789-:.TKMGPcn?+[](),_@;abgpu=%\u0661\u00b2", max_size=40))
def test_no_text_breaks_a_field(text: str) -> None:
    for read in (
        fields.job_id,
        fields.state,
        fields.canceled_by,
        fields.exit_code,
        fields.moment,
        fields.duration,
        fields.memory,
        fields.number,
        fields.gpus,
        fields.names,
        fields.nodes,
    ):
        read(text)


@given(st.integers(1, 10**9), st.none() | st.integers(0, 9999), st.sampled_from([None, "batch", "extern", "0", "12"]))
def test_an_id_is_read_as_it_was_written(base: int, task: int | None, step: str | None) -> None:
    text = f"{base}" + ("" if task is None else f"_{task}") + ("" if step is None else f".{step}")
    found = fields.job_id(text)
    assert found == JobId(base, task, step=step)
    assert found.job == text.partition(".")[0]


def test_ids_of_every_kind() -> None:
    assert fields.job_id("39_[3-5%3]") == JobId(39, tasks="3-5%3")
    assert fields.job_id("12+1") == JobId(12, het=1)
    assert fields.job_id("12+0.batch") == JobId(12, het=0, step="batch")
    assert fields.job_id("67108865@west") == JobId(67108865, cluster="west")
    assert fields.job_id("123;cluster") == JobId(123, cluster="cluster")
    assert fields.job_id("39_[1,3,5-9,...") == JobId(39, tasks="1,3,5-9,...")  # squeue cuts long lists
    for text in ("", "JOBID", "-1", "12_", "12.", "abc", "12 13"):
        assert fields.job_id(text) is None


def test_times_and_amounts() -> None:
    seconds = {"1-02:03:04": 93784, "02:03:04": 7384, "03:04": 184, "5:00": 300, "30": 1800, "1-02": 93600, "0:00": 0}
    assert {text: fields.duration(text) for text in seconds} == seconds
    for text in ("UNLIMITED", "infinite", "Partition_Limit", "INVALID", "n/a", "", "NOT_SET"):
        assert fields.duration(text) is None
    sizes = {
        "120832K": 120832 << 10,
        "1.50G": 3 << 29,
        "4000Mc": 4000 << 20,
        "4Gn": 4 << 30,
        "4000": 4000 << 20,
        "0": 0,
    }
    assert {text: fields.memory(text) for text in sizes} == sizes
    assert fields.memory("16?") is None
    assert fields.moment("2026-11-26T11:42:09") == 1795693329.0
    for text in ("Unknown", "N/A", "None", "", "9999-99-99T00:00:00"):
        assert fields.moment(text) is None


def test_states_and_codes() -> None:
    assert fields.state("CANCELLED by 0") == "CANCELLED" and fields.canceled_by("CANCELLED by 1000") == 1000
    assert fields.canceled_by("CANCELLED") is None and fields.state("idle*") == "IDLE"
    assert fields.exit_code("0:125") == (0, 125) and fields.exit_code("9:0") == (9, 0) and fields.exit_code("") is None


def test_nodes_are_written_out() -> None:
    assert fields.nodes("n[1-3,07-09],gpu1") == ("n1", "n2", "n3", "n07", "n08", "n09", "gpu1")
    assert fields.nodes("None assigned") == fields.nodes("(null)") == fields.nodes("") == ()


def test_gpus_of_nodes() -> None:
    assert fields.gpus("gpu:2") == (2, None)
    assert fields.gpus("gpu:a100:4(S:0-1),shard:8") == (4, "a100")
    assert fields.gpus("gpu:a100:2,gpu:v100:2(IDX:0,1)") == (4, None)
    assert fields.gpus("craynetwork:4") == fields.gpus("(null)") == (0, None)


def test_names_that_people_choose_may_have_anything() -> None:
    start = "7|7|PENDING|Priority||1|debug|a|u|2026-11-26T11:42:09|N/A|N/A|10:00|0:00|1|"
    rows = output_parser.parse_squeue(f"{start}a|b | c\n{start}\nslurm_load_jobs error\nCLUSTER: west\n{start}x\n")
    assert [(row.name, row.cluster) for row in rows] == [("a|b | c", None), ("", None), ("x", "west")]


def test_answers_of_sbatch() -> None:
    assert output_parser.parse_submitted("Welcome to our cluster!\n123;west\n") == JobId(123, cluster="west")
    assert output_parser.parse_submitted("123\n") == JobId(123)
    assert output_parser.parse_submitted("Submitted\n") is None
    told = "sbatch: Job 7 to start at 2026-11-26T11:45:11 using 2 processors on nodes dd[1-2] in partition debug\n"
    found = output_parser.parse_test_only(told)
    assert found == output_parser.StartEstimate(1795693511.0, 2, ("dd1", "dd2"), "debug")
    assert output_parser.parse_test_only("allocation failure: Requested node configuration is not available\n") is None


def test_a_place_in_the_queue_is_by_priority_then_age_among_those_that_want_the_same_partition() -> None:
    text = "12|100|debug\n11|100|debug,long\n13|900|long\n14|500|other\n15|0|debug\nnonsense\n16|x|debug\n"
    found = queue_position.ranked(queue_position.parse(text), {11: "11", 12: "12", 15: "15", 99: "99"})
    assert {job: str(place) for job, place in found.items()} == {
        "11": "place 2 of 4 in debug,long",
        "12": "place 2 of 3 in debug",
        "15": "place 3 of 3 in debug",
    }
