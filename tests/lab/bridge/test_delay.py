"""A network of so many milliseconds, on one machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from stillframe_lab.bridge.delay import delayed

PATIENCE_S = 60.0


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that sends back what it gets; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer:
            while piece := peer.recv(65536):
                peer.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(PATIENCE_S)


def connected(url: str) -> socket.socket:
    """A connection to it."""
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


def received(end: socket.socket, count: int) -> bytes:
    """So many bytes."""
    got = b""
    while len(got) < count:
        piece = end.recv(65536)
        if not piece:
            break
        got += piece
    return got


def test_without_a_delay_there_is_no_proxy(echo: str) -> None:
    """The URL is the server's own."""
    with delayed(echo, 0) as url:
        assert url == echo
        connected(url).close()


def test_an_answer_comes_a_round_trip_later(echo: str) -> None:
    """Half of it on the way there, half on the way back: never less."""
    with delayed(echo, 200) as url, connected(url) as end:
        began_s = time.monotonic()
        end.sendall(b"ping")
        assert received(end, 4) == b"ping"
        assert time.monotonic() - began_s >= 0.2


def test_bytes_keep_their_order(echo: str) -> None:
    """What is sent in many pieces arrives whole, in order."""
    sent = b"".join(index.to_bytes(4, "big") for index in range(100_000))
    with delayed(echo, 20) as url, connected(url) as end:
        threading.Thread(target=end.sendall, args=(sent,)).start()
        assert received(end, len(sent)) == sent


def test_an_end_is_carried_on(echo: str) -> None:
    """A client that hangs up is hung up on in the end, and what was under way arrives before."""
    with delayed(echo, 20) as url, connected(url) as end:
        end.sendall(b"last words")
        end.shutdown(socket.SHUT_WR)
        assert received(end, 10_000) == b"last words"


def test_a_server_that_is_not_there_is_a_closed_connection() -> None:
    """The client sees an end, and the proxy goes on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with delayed(f"http://127.0.0.1:{port}", 20) as url:
        for _ in range(2):
            with connected(url) as end:
                assert received(end, 1) == b""
