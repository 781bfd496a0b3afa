"""Identifies the runner behind a job's token, with and without accounts.

The runner of a token never changes, so it is cached; whether the token is still valid is checked in the database each time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from torc.client.embedded import Embedded
from torc.operations import tokens
from torc.server.caller import digest_of
from torc.store.engine import Store
from torc.workflow.access import Caller

_MOST_REMEMBERED = 10_000


class JobTokens:
    """Looks up tokens of jobs, on the given threads."""

    def __init__(self, store: Store, threads: ThreadPoolExecutor | None = None) -> None:
        self._embedded = Embedded(store, "server")
        self._threads = threads or ThreadPoolExecutor(1, "torc-job-token")
        self._known: OrderedDict[bytes, int] = OrderedDict()

    async def find(self, shown: str, address: str) -> Caller | None:
        """Return the job that uses a token; None if it is not a valid token of a job."""
        read = tokens.read_job_token(shown)
        if read is None:
            return None
        runner_id, shown_hash = read
        digest = digest_of(shown)
        if digest not in self._known:
            look = partial(tokens.is_job_token, runner_id=runner_id, shown_hash=shown_hash)
            ask = partial(self._embedded.transact, look, None, writes=False)
            if not await asyncio.get_running_loop().run_in_executor(self._threads, ask):
                return None
            self._known[digest] = runner_id
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return Caller(f"job:runner {runner_id}", address, runner_id=runner_id)
