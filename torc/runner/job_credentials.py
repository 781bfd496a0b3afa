"""What jobs are given to reach the store: variables that hold no secret, and files that their user alone can read.

At a server, the token of a runner's jobs opens the runner's workflow and nothing else, and only while the runner lives: the store
knows its hash (`RegisterRunner`). For a database with a password, a file for libpq holds it. What opens more stays with the runner.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from torc.errors import TorcError, Unavailable
from torc.files import write_whole

#: what reaches the store, or is for whoever starts runners: a job gets its own, or none
NOT_FOR_JOBS = ("TORC_TOKEN", "TORC_TOKEN_FILE", "TORC_WORKER_TOKEN", "TORC_DB", "TORC_API_URL", "TORC_SERVER_FILE")
_URL, _DB, _TOKEN_FILE = "TORC_API_URL", "TORC_DB", "TORC_TOKEN_FILE"


class JobCredentials:
    """How the jobs of one runner reach the store. `store_variables`: how the runner itself does."""

    def __init__(self, output_dir: Path, store_variables: Mapping[str, str]) -> None:
        self._output_dir, self._given = output_dir, store_variables
        self._secret = secrets.token_urlsafe(32) if _URL in store_variables else None
        self._folder: Path | None = None

    @property
    def token_hash(self) -> str | None:
        """Return what the store is to know of the token; None: it wants none."""
        return None if self._secret is None else hashlib.sha256(self._secret.encode()).hexdigest()

    def open(self, workflow_id: int, runner_id: int) -> dict[str, str]:
        """Write the files, and return the variables of jobs. Raises Unavailable."""
        variables = {name: value for name, value in self._given.items() if name not in {"TORC_TOKEN", _TOKEN_FILE}}
        database, password = without_password(variables[_DB]) if _DB in variables else ("", None)
        if self._secret is None and password is None:
            return variables
        try:
            made = tempfile.mkdtemp(prefix=_prefix(workflow_id, runner_id), dir=self._output_dir)
            self._folder = folder = Path(made).absolute()
            if self._secret is not None:
                variables[_TOKEN_FILE] = str(folder / "token")
                write_whole(folder / "token", f"torcjob_{runner_id}_{self._secret}\n".encode(), 0o600)
            if password is not None:
                escaped = password.replace("\\", "\\\\").replace(":", "\\:")
                write_whole(folder / "pgpass", f"*:*:*:*:{escaped}\n".encode(), 0o600)
                between = "&" if "?" in database else "?"
                variables[_DB] = f"{database}{between}{urlencode({'passfile': str(folder / 'pgpass')})}"
        except (OSError, TorcError) as error:
            self.close()
            raise Unavailable(
                f"cannot write the file that jobs need to reach the store: {error}",
                hint="free some space for the output directory",
            ) from None
        return variables

    def close(self) -> None:
        """Remove the files: they open nothing any more."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def without_password(database: str) -> tuple[str, str | None]:
    """Take the password out of the URL of a database, whether it stands before the host or among the parameters."""
    if "://" not in database:
        return database, None
    parts = urlsplit(database)
    user, _, host = parts.netloc.rpartition("@")
    user, colon, shown = user.partition(":")
    password = unquote(shown) if colon else None
    kept = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "password":
            password = value
        elif "password" not in name:  # of keys and of other services: no file can hold those
            kept.append((name, value))
    netloc = f"{user}@{host}" if user else host
    return parts._replace(netloc=netloc, query=urlencode(kept, safe="/", quote_via=quote)).geturl(), password


def clean(output_dir: Path, workflow_id: int, runner_id: int) -> None:
    """Remove what a runner that was killed has left."""
    with contextlib.suppress(OSError):
        for found in output_dir.glob(f"{_prefix(workflow_id, runner_id)}*"):
            if found.lstat().st_uid == os.geteuid() and not found.is_symlink():
                shutil.rmtree(found, ignore_errors=True)


def _prefix(workflow_id: int, runner_id: int) -> str:
    return f".torc-jobs-wf{workflow_id}-n{runner_id}-"
