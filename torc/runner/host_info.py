"""What a runner reports about where it runs: versions, system, environment. Reads a few small files; starts no program.

The values of environment variables are hashed together and never sent: they may hold secrets.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from torc import __version__
from torc.api.provenance import Environment, Surroundings
from torc.planning.scheduler_types import SCHEDULER_TYPES

#: vary between logins or between cluster jobs without affecting what programs compute
_PASSING = re.compile(
    r"(_|PWD|OLDPWD|SHLVL|SHELL_SESSION_ID|WINDOWID|DISPLAY|WAYLAND_DISPLAY|COLUMNS|LINES|TERM|TERM_.*|COLORTERM|COLORFGBG|TTY|"
    r"TMUX.*|STY|SSH_.*|XDG_(SESSION|RUNTIME|SEAT|VTNR).*|DBUS_.*|INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_.*|MEMORY_PRESSURE_.*|"
    + "".join(f"{prefix}.*|" for each in SCHEDULER_TYPES.values() for prefix in each.variables)
    + r"PMI.*|TORC_.*|LS_COLORS|PS1|PROMPT.*|HISTFILE|HISTSIZE|MAIL|LOGNAME|KRB5CCNAME|"
    r"TMPDIR|CUDA_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|ROCR_VISIBLE_DEVICES|PYTEST_.*|COVERAGE_.*)"
)
_MOST_PACKAGES = 2000
_DISTRIBUTION = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.(?:dist-info|egg-info)")
_CONDA = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-[^-]+\.json")
_CONTAINERS = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")


def surroundings(environ: Mapping[str, str], output_dir: Path) -> Surroundings:
    """Collect the facts about this host. `environ` is what jobs inherit."""
    return Surroundings(environment=_environment(environ), output_dir=str(output_dir), cpu=_cpu(), gpus=_gpus())


def _environment(environ: Mapping[str, str]) -> Environment:
    folder = environ.get("VIRTUAL_ENV") or environ.get("CONDA_PREFIX")
    return Environment(
        torc=__version__,
        python=platform.python_version(),
        system=f"{_system()} {platform.machine()}",
        kernel=platform.release(),
        variables_sha256=_hashed(environ),
        modules=[module for module in environ.get("LOADEDMODULES", "").split(":") if module],
        packages_of=Path(folder).name if folder else None,
        packages=_packages(Path(folder)) if folder else {},
        container=next((Path(environ[name]).name for name in _CONTAINERS if environ.get(name)), None),
    )


def _hashed(environ: Mapping[str, str]) -> str:
    lines = sorted(f"{name}={value}" for name, value in environ.items() if not _PASSING.fullmatch(name))
    return hashlib.sha256("\0".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _packages(folder: Path) -> dict[str, str]:
    """Return the packages of a virtual or conda environment, from the names of their metadata files."""
    found: dict[str, str] = {}
    for parent, form in ((folder / "conda-meta", _CONDA), *((path, _DISTRIBUTION) for path in _site_packages(folder))):
        for name in _names(parent):
            match = form.fullmatch(name)
            if match is not None and len(found) < _MOST_PACKAGES:
                found.setdefault(match["name"], match["version"])
    return dict(sorted(found.items()))


def _site_packages(folder: Path) -> list[Path]:
    return [folder / "lib" / name / "site-packages" for name in _names(folder / "lib") if name.startswith("python")]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _cpu() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            head = file.read(4096)
    except OSError:
        return None
    found = re.search(r"^(?:model name|Model|cpu)\s*:\s*(.+)$", head, re.MULTILINE)
    return found[1].strip() if found else None


def _gpus() -> list[str]:
    """Return the models of the NVIDIA GPUs, from the driver's files in /proc."""
    models = []
    for name in _names(Path("/proc/driver/nvidia/gpus")):
        try:
            told = Path("/proc/driver/nvidia/gpus", name, "information").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found = re.search(r"^Model:\s*(.+)$", told, re.MULTILINE)
        models.append(found[1].strip() if found else "unknown")
    return models
