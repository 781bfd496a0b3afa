"""Which cluster plans are made for: the one here as it tells of itself, or one that a profile describes.

Profiles are built in (`data/`), of the machine (/etc/torc/hpc/*.toml) or of the user (~/.config/torc/hpc/*.toml); a later
one of the same name wins. Where a profile describes the cluster that is here, it adds what Slurm does not tell:
what a node-hour costs, which partitions are for those who name them, how GPUs are asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

from torc.errors import Invalid, NotFound, TorcError, Unavailable
from torc.files import config_folder
from torc.schedulers.base import DescribedCluster
from torc.schedulers.partitions import Cluster, Partition
from torc.schedulers.slurm import discovery
from torc.schedulers.slurm.profile_files import Profile, read_profiles

LIVE = "live"
BUILT_IN = "built-in"
_OF_MACHINE = Path("/etc/torc/hpc")
#: how long to wait for a controller before a profile alone must do
_PATIENCE_SECONDS = 10.0


def live_cluster(*, patience: float = 30.0) -> Cluster:
    """Ask the cluster of this machine. Raises Unavailable, or Invalid where there are no Slurm commands."""
    return discovery.live_cluster(patience=patience)


def profiles(environ: Mapping[str, str]) -> dict[str, Profile]:
    """Read all profiles. Raises Invalid for a file that cannot be read."""
    found = {}
    for file in sorted(resources.files("torc.schedulers.slurm").joinpath("data").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            found.update({p.cluster.name: p for p in read_profiles(file.read_text(encoding="utf-8"), BUILT_IN)})
    for folder in (_OF_MACHINE, user_folder(environ)):
        for path in sorted(folder.glob("*.toml")):
            found.update({p.cluster.name: p for p in read_file(path)})
    return found


def read_file(path: Path) -> list[Profile]:
    """Read the profiles of one file. Raises Invalid or NotFound."""
    try:
        return read_profiles(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read {path}: {error}") from None


def user_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the user's own profiles."""
    return config_folder(environ) / "hpc"


def named(name: str, environ: Mapping[str, str]) -> Cluster:
    """Return the cluster of a profile: by name, `live` for the one here, or a path to a file with one. Raises NotFound."""
    if name == LIVE:
        return live_cluster()
    if name.endswith(".toml") or "/" in name:
        return read_file(Path(name))[0].cluster
    return find(name, environ).cluster


def find(name: str, environ: Mapping[str, str]) -> Profile:
    """Return a profile by name. Raises NotFound."""
    known = profiles(environ)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise NotFound(
            f"there is no profile `{name}`" + (f"; did you mean `{near[0]}`?" if near else ""),
            hint=f"there are {', '.join([*known, LIVE])}; your own go to {user_folder(environ)}",
        )
    return known[name]


def detect(environ: Mapping[str, str], cluster_name: str | None = None) -> Profile | None:
    """Find the profile of where we are, by variables, or by what Slurm calls the cluster. The user's own win."""
    name = cluster_name or environ.get("SLURM_CLUSTER_NAME")
    return next((p for p in reversed(profiles(environ).values()) if p.is_here(environ, name)), None)


def here(environ: Mapping[str, str]) -> Profile | None:
    """Find the profile of where we are; Slurm is asked what it calls the cluster, where it can be."""
    try:
        name = discovery.configuration(patience=_PATIENCE_SECONDS).get("ClusterName")
    except TorcError:
        name = None
    return detect(environ, name)


def current(environ: Mapping[str, str], name: str | None = None) -> DescribedCluster:
    """Find the cluster to plan for: the one that is named, else the one here. Raises NotFound, or Unavailable with what to do.

    What Slurm tells holds over a profile; a profile does alone where Slurm is not to be had.
    """
    if name is not None and name != LIVE:
        return DescribedCluster(named(name, environ), f"profile {name}")
    try:
        alive = live_cluster(patience=_PATIENCE_SECONDS)
    except TorcError as error:
        profile = detect(environ)
        if profile is None or name == LIVE:
            if isinstance(error, Invalid):
                raise Unavailable("no cluster is here: there are no Slurm commands", hint=_NAME_ONE) from None
            raise
        return DescribedCluster(
            profile.cluster, f"profile {profile.cluster.name} ({profile.origin}); Slurm is not to be had here"
        )
    profile = detect(environ, alive.name)
    if profile is None:
        return DescribedCluster(alive, "Slurm")
    return DescribedCluster(
        enriched(alive, profile.cluster), f"Slurm and profile {profile.cluster.name} ({profile.origin})"
    )


_NAME_ONE = "name a profile (`torc hpc list`), go to a login node, or try one here: `torc hpc sandbox start`"


def enriched(alive: Cluster, profile: Cluster) -> Cluster:
    """Add to what Slurm tells what only a profile knows."""
    return replace(
        alive,
        display_name=profile.display_name,
        gpu_option=profile.gpu_option,
        charge_factor_cpu=profile.charge_factor_cpu,
        charge_factor_gpu=profile.charge_factor_gpu,
        default_account=alive.default_account or profile.default_account,
        partitions=tuple(_enriched(partition, profile.partition(partition.name)) for partition in alive.partitions),
    )


def _enriched(alive: Partition, profile: Partition | None) -> Partition:
    if profile is None:
        return alive
    return replace(
        alive,
        requires_explicit_request=alive.requires_explicit_request or profile.requires_explicit_request,
        max_nodes_per_user=alive.max_nodes_per_user or profile.max_nodes_per_user,
        gpu_type=alive.gpu_type or profile.gpu_type,
        gpu_memory_bytes=alive.gpu_memory_bytes or profile.gpu_memory_bytes,
        local_disk_bytes=alive.local_disk_bytes or profile.local_disk_bytes,
    )
