"""The process that starts jobs, which ends itself at its n-th start. A program of its own, started as `spawner` is.

The folder in TORC_TEST_CRASH_SPAWNER holds the number of the start: odd ones end it before, even ones after the start.
"""

import fcntl
import importlib.util
import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_FOLDER = Path(os.environ["TORC_TEST_CRASH_SPAWNER"])

_spec = importlib.util.spec_from_file_location("spawner", _ROOT / "torc/runner/spawner.py")
assert _spec is not None and _spec.loader is not None
spawner = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(spawner)
_posix_spawn = os.posix_spawn


def _pass() -> None:
    """Count a point, of all spawners together, and end this process at the one that was chosen."""
    with open(_FOLDER / "spawned", "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b"x")
        file.flush()
        passed = file.tell()
    if passed == int((_FOLDER / "spawner_crashes").read_text()):
        (_FOLDER / "spawner_crashed").touch()
        os._exit(1)


def _counted(*arguments, **named):  # type: ignore[no-untyped-def]
    _pass()
    pid = _posix_spawn(*arguments, **named)
    _pass()
    return pid


os.posix_spawn = _counted
spawner.main(int(sys.argv[1]), int(sys.argv[2]))
