"""A relay between a browser and a daemon, whose cable can be cut, or which stands for a proxy with a path prefix.

Knows bytes; of HTTP the line that a request begins with.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

CHUNK_BYTES = 65536


class Relay:
    """Passes connections on. `cut`: those that are open end and new ones are closed; `freeze`: nothing passes."""

    def __init__(self, port: int, prefix: str = "") -> None:
        self._to, self._prefix = port, prefix.encode()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._passes = threading.Event()  # cleared: bytes wait
        self._passes.set()
        self._cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{prefix}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection, and let none in."""
        self._cut = True
        for pair in self._pairs:
            _close(*pair)

    def mend(self) -> None:
        """Let connections in again."""
        self._cut = False
        self._passes.set()

    def freeze(self) -> None:
        """Let nothing pass, as a link that is gone without a word."""
        self._passes.clear()

    def close(self) -> None:
        """End all."""
        self.cut()
        self._passes.set()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._pairs.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink, source is near), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, up: bool) -> None:  # noqa: FBT001 (a thread's argument)
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                self._passes.wait()
                sink.sendall(data.replace(b"GET " + self._prefix, b"GET ", 1) if up and self._prefix else data)
        _close(source, sink)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextlib.contextmanager
def relay(url: str, prefix: str = "") -> Iterator[Relay]:
    """A relay to a daemon while the block runs."""
    made = Relay(int(url.rsplit(":", 1)[1]), prefix)
    try:
        yield made
    finally:
        made.close()
