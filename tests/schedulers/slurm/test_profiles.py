"""Which cluster plans are for: the real one, built-in and own profiles, and what they say about jobs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.program import Program
from tests.support.slurm import Slurm
from torc.errors import Invalid, NotFound, Unavailable
from torc.schedulers.slurm import discovery, profiles
from torc.schedulers.slurm.output_parser import parse_scontrol
from torc.schedulers.slurm.profile_files import read_profiles, write_profile

GIB = 1 << 30
OWN = """
[home]
detect_env = { HOME_CLUSTER = "yes" }
charge_factor_cpu = 2.5
[[home.partitions]]
name = "debug"
cpus_per_node = 8
memory_mb = 1024
requires_explicit_request = true
"""


def test_the_real_cluster_tells_what_it_has(slurm: Slurm) -> None:
    cluster = profiles.live_cluster()
    debug = cluster.partition("debug")
    assert debug is not None and cluster.name == "sandbox" and cluster.default_account is not None
    assert (debug.num_nodes, debug.cpus_per_node, debug.gpus_per_node, debug.is_default) == (3, 4, 2, True)
    assert (debug.memory_bytes_per_node, debug.max_walltime_seconds) == (4000 << 20, 86400)
    assert cluster.partition("short") == replace(
        debug, name="short", is_default=False, max_walltime_seconds=300, default_walltime_seconds=60
    )
    assert {found.account for found in discovery.associations()} >= {"demo"}
    slurm.call("scontrol", "update", f"nodename={slurm.nodes[0]}", "state=drain", "reason=test")
    drained = profiles.live_cluster().partition("debug")
    assert drained is not None and drained.num_nodes == 2


def test_a_generated_profile_is_the_cluster_and_adds_to_it_what_it_does_not_tell(slurm: Slurm, tmp_path: Path) -> None:
    program = Program(tmp_path)
    printed = program("hpc", "generate").stdout
    (profile,) = read_profiles(printed, "printed")
    assert profile.cluster == profiles.live_cluster()
    program("hpc", "generate", "--save")
    assert "--force" in program("hpc", "generate", "--save", code=4).stderr
    saved = tmp_path / ".config/torc/hpc/sandbox.toml"
    saved.write_text(
        saved.read_text().replace("[sandbox]", '[sandbox]\ngpu_option = "gpus"\ncharge_factor_cpu = 3.0', 1)
    )
    told = program("hpc", "show", "-f", "json").json
    assert (told["gpu_option"], told["charge_factor_cpu"]) == ("gpus", 3.0)
    assert program("hpc", "detect", "-f", "json").json["profile"] == "sandbox"
    (mine,) = [item for item in program("hpc", "list", "-f", "json").json if item["name"] == "sandbox"]
    assert mine["here"] and mine["origin"] == str(saved) and mine["partitions"] == 3
    listed = program("hpc", "partitions").stdout.splitlines()
    assert listed[1].split()[:3] == ["debug*", "3", "4"] and len(listed) == 4
    matched = program("hpc", "match", "--gpus", 3, code=4, TORC_FORMAT="json").json
    assert matched["nearest"] == "debug" and "num_gpus 2" in matched["hint"]
    fits = program("hpc", "match", "--walltime", "2m", "--memory", "2g", "-f", "json").json
    assert fits["fits"] == ["debug", "short", "low"] and fits["chosen"] == "debug"


def test_built_in_profiles_have_the_facts() -> None:
    kestrel, dane = profiles.named("kestrel", {}), profiles.named("dane", {})
    assert (len(kestrel.partitions), kestrel.charge_factor_gpu, len(dane.partitions)) == (15, 100.0, 6)
    gpu, hbw = kestrel.partition("gpu-h100"), kestrel.partition("hbw")
    assert gpu is not None and (gpu.gpus_per_node, gpu.gpu_type, gpu.gpu_memory_bytes) == (4, "h100", 80 * GIB)
    assert hbw is not None and (hbw.min_nodes_per_job, hbw.requires_explicit_request, hbw.is_shared) == (2, True, False)
    for cluster in (kestrel, dane):
        assert read_profiles(write_profile(cluster), "again")[0].cluster == cluster


def test_the_environment_tells_where_we_are(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    detected = profiles.detect({**home, "NREL_CLUSTER": "kestrel"})
    assert detected is not None and detected.cluster.name == "kestrel"
    assert profiles.detect(home) is None and profiles.detect({**home, "CLUSTER": "other"}) is None
    by_slurm = profiles.detect(home, "dane")
    assert by_slurm is not None and by_slurm.cluster.display_name == "LLNL Dane"


def test_own_profiles_win_and_mistakes_in_them_are_named(tmp_path: Path) -> None:
    folder = tmp_path / ".config/torc/hpc"
    folder.mkdir(parents=True)
    (folder / "home.toml").write_text(OWN + OWN.replace("home", "kestrel"))
    environ = {"HOME": str(tmp_path), "HOME_CLUSTER": "yes"}
    detected = profiles.detect({**environ, "KESTREL_CLUSTER": "yes"})
    assert detected is not None and detected.origin.endswith("home.toml")
    assert len(profiles.named("kestrel", environ).partitions) == 1
    with pytest.raises(NotFound, match="did you mean `home`"):
        profiles.named("hom", environ)
    for wrong, said in {
        OWN.replace("memory_mb", "memory"): "did you mean `memory_mb`",
        OWN.replace("= 8", "= 0"): r"home.partitions.0.cpus_per_node",
        OWN + '[[home.partitions]]\nname = "debug"\ncpus_per_node = 1\nmemory_mb = 1\n': "two partitions",
        "[home": "no TOML",
        "": "has no profile",
    }.items():
        with pytest.raises(Invalid) as error:
            read_profiles(wrong, "home.toml")
        assert said in f"{error.value.message} {error.value.hint}"


@pytest.mark.usefixtures("processes")
def test_without_slurm_a_profile_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no cluster is here"):
        profiles.current({"HOME": str(tmp_path)})
    found = profiles.current({"HOME": str(tmp_path), "CLUSTER": "dane"})
    assert found.cluster.name == "dane" and "not to be had" in found.source
    program = Program(tmp_path)
    assert program("hpc", "match", "--profile", "kestrel", "--memory", "900g", "-f", "json").json["fits"] == [
        "medmem",
        "bigmem",
        "bigmeml",
    ]
    refused = program("hpc", "match", "--profile", "kestrel", "--gpus", 2, "--walltime", "20d", code=4).stderr
    assert "nearest is gpu-h100l" in refused
    assert program("hpc", "detect", code=3, PATH=os.fspath(tmp_path)).stdout == ""


NODES = """\
NodeName=a1 CPUEfctv=60 CPUTot=64 AvailableFeatures=ib,amd Gres=(null) RealMemory=256000 MemSpecLimit=6000 State=IDLE Partitions=main,all
NodeName=a2 CPUTot=60 AvailableFeatures=ib,amd Gres=(null) RealMemory=250000 State=MIXED Partitions=main,all
NodeName=a3 CPUTot=64 AvailableFeatures=ib,amd Gres=(null) RealMemory=256000 State=IDLE+DRAIN Partitions=main,all
NodeName=a4 CPUTot=64 Gres=(null) RealMemory=256000 State=DOWN* Partitions=main,all
NodeName=g1 CPUTot=128 OS=Linux 6.1 #1 SMP AvailableFeatures=(null) Gres=gpu:h100:4(S:0-3) RealMemory=512000 State=ALLOCATED Partitions=gpu,all
"""
PARTITIONS = """\
PartitionName=main AllowAccounts=ALL AllowQos=ALL Default=YES DefaultTime=NONE MaxNodes=16 MaxTime=2-00:00:00 MinNodes=0 OverSubscribe=EXCLUSIVE State=UP MaxMemPerNode=UNLIMITED MaxCPUsPerNode=UNLIMITED
PartitionName=gpu AllowAccounts=physics,chem AllowQos=high Default=NO DefaultTime=01:00:00 MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=1 OverSubscribe=NO State=UP MaxMemPerNode=128000 MaxCPUsPerNode=96
PartitionName=all AllowAccounts=ALL Default=NO MaxTime=1-00:00:00 State=DOWN
PartitionName=empty AllowAccounts=ALL Default=NO MaxTime=1-00:00:00 State=UP
"""


def test_what_a_large_cluster_tells() -> None:
    cluster = discovery.cluster_from({"ClusterName": "big"}, parse_scontrol(PARTITIONS), parse_scontrol(NODES))
    assert [partition.name for partition in cluster.partitions] == ["main", "gpu"]
    main, gpu = cluster.partitions
    assert main.other_nodes == gpu.other_nodes == ()
    assert (main.num_nodes, main.cpus_per_node, main.memory_bytes_per_node) == (2, 60, 250000 << 20)
    assert (main.is_shared, main.max_nodes_per_job, main.features) == (False, 16, {"ib", "amd"})
    assert (gpu.num_nodes, gpu.cpus_per_node, gpu.memory_bytes_per_node) == (1, 96, 128000 << 20)
    assert (gpu.gpus_per_node, gpu.gpu_type, gpu.max_walltime_seconds) == (4, "h100", None)
    assert (gpu.allowed_accounts, gpu.allowed_qos) == ({"physics", "chem"}, {"high"})


def test_nodes_of_a_partition_that_differ_are_told_apart_and_kept_in_profiles() -> None:
    nodes = "\n".join(
        f"NodeName=n{at} CPUTot={cpus} Gres={gres} RealMemory={memory} AvailableFeatures={feature} State=IDLE Partitions=all"
        for at, (cpus, memory, gres, feature) in enumerate(
            [
                (64, 256000, "(null)", "plain"),
                (64, 256000, "(null)", "plain"),
                (64, 1024000, "(null)", "fat"),
                (64, 256000, "gpu:a100:4(S:0-1)", "fast"),
                (64, 256000, "gpu:h100:4", "fast"),
            ]
        )
    )
    text = "PartitionName=all AllowAccounts=ALL MaxTime=1-00:00:00 State=UP MaxMemPerNode=900000"
    cluster = discovery.cluster_from({"ClusterName": "big"}, parse_scontrol(text), parse_scontrol(nodes))
    (all_,) = cluster.partitions
    assert (all_.num_nodes, all_.memory_bytes_per_node, all_.features) == (2, 256000 << 20, {"plain"})
    assert [(kind.num_nodes, kind.memory_bytes_per_node >> 20, kind.gpu_type) for kind in all_.other_nodes] == [
        (1, 900000, None),
        (1, 256000, "h100"),
        (1, 256000, "a100"),
    ]
    assert read_profiles(write_profile(cluster), "again")[0].cluster == cluster
