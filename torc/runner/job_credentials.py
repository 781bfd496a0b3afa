"""How jobs reach the store: variables that hold no secret, and files that only their user can read.

With a server, the token of a runner's jobs grants access to the runner's workflow only, and only while the runner lives: the
store knows its hash (`RegisterRunner`). With a password-protected database, a libpq password file holds the password.
Credentials that grant more stay with the runner.
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

#: select the store or are meant for whoever starts runners: a job gets its own values, or none
NOT_FOR_JOBS = ("TORC_TOKEN", "TORC_TOKEN_FILE", "TORC_WORKER_TOKEN", "TORC_DB", "TORC_API_URL", "TORC_SERVER_FILE")
_URL, _DB, _TOKEN_FILE = "TORC_API_URL", "TORC_DB", "TORC_TOKEN_FILE"


class JobCredentials:
    """How the jobs of one runner reach the store. `store_variables`: how the runner itself reaches it."""

    def __init__(self, output_dir: Path, store_variables: Mapping[str, str]) -> None:
        self._output_dir, self._given = output_dir, store_variables
        self._secret = secrets.token_urlsafe(32) if _URL in store_variables else None
        self._folder: Path | None = None

    @property
    def token_hash(self) -> str | None:
        """Return the hash of the job token to register with the store; None: the store needs none."""
        return None if self._secret is None else hashlib.sha256(self._secret.encode()).hexdigest()

    def open(self, workflow_id: int, runner_id: int) -> dict[str, str]:
        """Write the files and return the variables for jobs. Raises Unavailable."""
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
                hint="free some space in the output directory",
            ) from None
        return variables

    def close(self) -> None:
        """Remove the files: the token is no longer valid."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def without_password(database: str) -> tuple[str, str | None]:
    """Remove the password from a database URL, before the host or in its parameters; return the URL and the password."""
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
        elif "password" not in name:  # passwords of keys and of other services: no file can hold those
            kept.append((name, value))
    netloc = f"{user}@{host}" if user else host
    return parts._replace(netloc=netloc, query=urlencode(kept, safe="/", quote_via=quote)).geturl(), password


def clean(output_dir: Path, workflow_id: int, runner_id: int) -> None:
    """Remove the files left by a runner that was killed."""
    with contextlib.suppress(OSError):
        for found in output_dir.glob(f"{_prefix(workflow_id, runner_id)}*"):
            if found.lstat().st_uid == os.geteuid() and not found.is_symlink():
                shutil.rmtree(found, ignore_errors=True)


def _prefix(workflow_id: int, runner_id: int) -> str:
    return f".torc-jobs-wf{workflow_id}-n{runner_id}-"
