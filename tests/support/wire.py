"""A proxy of the tests' own between a client and a server, which can be cut, held up, and made whole again."""

from __future__ import annotations

import contextlib
import socket
import threading


class Wire:
    """Passes bytes on in both directions. `cut` drops all connections and takes no new ones; `hold` keeps bytes back."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._pairs: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False
        self.num_accepted = 0
        self._goes_on = threading.Event()
        self._goes_on.set()
        #: how many bytes of answers may still pass before the wire is cut in the middle of them; None: all
        self.answers_left: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop everything, and refuse from now on."""
        self._is_cut = True
        with self._lock:
            for end in self._pairs:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()

    def mend(self) -> None:
        """Let new connections through."""
        self._is_cut, self.answers_left = False, None
        self._goes_on.set()

    def hold(self) -> None:
        """Pass nothing on, and say nothing: a network that swallows."""
        self._goes_on.clear()

    def close(self) -> None:
        """End."""
        self.mend()
        self.cut()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self._is_cut:
                near.close()
                continue
            self.num_accepted += 1
            try:
                far = socket.create_connection(self.target, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._pairs |= {near, far}
            threading.Thread(target=self._pass_on, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._goes_on.wait()
                if is_answer and self.answers_left is not None:
                    data = data[: self.answers_left]
                    self.answers_left -= len(data)
                    if self.answers_left <= 0:
                        sink.sendall(data)
                        self.cut()
                        return
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._pairs.discard(end)
            end.close()
