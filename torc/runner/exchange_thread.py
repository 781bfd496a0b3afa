"""Exchanges with the store on a separate thread, so that a slow store never delays starting or stopping a job."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading

from torc.api.base import Torc
from torc.api.runs import Exchange, ExchangeReply
from torc.errors import NotFound, StoreLost, TorcError, Unauthorized, Unavailable
from torc.runner.state import Replied, Unreachable

_LOG = logging.getLogger(__name__)
_JOIN_SECONDS = 15.0
Answer = Replied | Unreachable | BaseException


class ExchangeThread:
    """Runs one exchange at a time; `fileno` becomes readable when there is an answer."""

    def __init__(self, torc: Torc) -> None:
        self._torc = torc
        self._requests: queue.SimpleQueue[Exchange | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._read, self.wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._is_unreachable = False  # the store
        self._thread = threading.Thread(target=self._talk, name="torc-exchange", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._read

    def submit(self, request: Exchange) -> None:
        """Queue a request behind those not yet answered."""
        self._requests.put(request)

    def wake(self) -> None:
        """Make `fileno` readable; callable from any thread, and from a signal handler through `wake_fd`."""
        with contextlib.suppress(BlockingIOError):
            os.write(self.wake_fd, b"x")

    def drain(self) -> None:
        """Drain the wake-up pipe."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass

    def answers(self) -> list[Answer]:
        """Return the answers received since the last call."""
        found: list[Answer] = []
        while True:
            try:
                found.append(self._answers.get_nowait())
            except queue.Empty:
                return found

    def close(self) -> None:
        """Stop the thread once it has its answer."""
        self._requests.put(None)
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():  # otherwise it may still write to the pipe
            os.close(self._read)
            os.close(self.wake_fd)

    def _talk(self) -> None:
        while (request := self._requests.get()) is not None:
            self._answers.put(self._ask(request))
            self.wake()

    def _ask(self, request: Exchange) -> Answer:
        _LOG.debug(
            "exchange: %d started, %d finished, %d released; requests %d jobs and %d ahead",
            len(request.started),
            len(request.finished),
            len(request.released),
            request.limit,
            request.claim_ahead,
        )
        try:
            reply: ExchangeReply = self._torc.send(request)
        except StoreLost:  # the store itself gives the reason
            _LOG.error("no more jobs will start; running jobs may finish; press Ctrl-C to end them now")
            return Unreachable(request, for_good=True)
        except (Unavailable, Unauthorized) as error:  # a token may be renewed
            if not self._is_unreachable:
                _LOG.warning("the store does not answer; running jobs continue: %s (%s)", error.message, error.hint)
            self._is_unreachable = True
            return Unreachable(request)
        except NotFound:  # the workflow was deleted
            return Replied(ExchangeReply(done=True, lease_seconds=0.0, runner_is_lost=True), is_gone=True)
        except TorcError as error:
            return error
        except BaseException as error:  # noqa: BLE001 - raised again by the loop
            return error
        if self._is_unreachable:
            _LOG.warning("the store answers again")
        self._is_unreachable = False
        if reply.runner_is_lost:
            _LOG.warning(
                "this runner was given up (its allocation ended or its lease expired): ending its jobs, which other runners will run"
            )
        _LOG.debug(
            "received %d jobs, %d to cancel, %d actions", len(reply.assignments), len(reply.cancel), len(reply.actions)
        )
        return Replied(reply)
