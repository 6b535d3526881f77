"""What is no request, what is half of one, and what never ends: the others are served, and nothing of it is logged."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stillframe_client import PolicyClient
from stillframe_client.wire import TOO_BIG

WAIT_S = 60.0
CLOSE = 0x88  # the first byte of a close frame
SLOW = 40  # clients that never come to an end
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
POST = "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"


@pytest.fixture(scope="module")
def daemon(new_daemon: Callable[..., Any]) -> Iterator[Any]:
    """One daemon for all noise; at the end its log holds no complaint."""
    started = new_daemon()
    yield started
    assert started.ready() == 200
    assert started.gauge("queue_depth") == 0
    assert started.complaints() == []


@pytest.fixture
def robot(daemon: Any, goldens: Mapping[str, Any], bystanding: Callable[..., Any]) -> Iterator[Any]:
    """A robot that is served all the while."""
    golden = goldens["f0"]
    with PolicyClient(daemon.url, timeout_s=WAIT_S, session="bystander") as client:

        def act() -> None:
            assert np.array_equal(client.act(golden.picture, golden.instruction), golden.action)

        with bystanding(act) as bystander:
            yield bystander
    assert bystander.failures == []


def dial(daemon: Any) -> socket.socket:
    """A connection."""
    return socket.create_connection(("127.0.0.1", daemon.port), WAIT_S)


def said(daemon: Any, data: bytes) -> bytes:
    """Say this and no more, and return what is said back until the daemon hangs up."""
    with dial(daemon) as line:
        return answer(line, data, finish=True)


def streamed(daemon: Any, path: str, data: bytes, *, finish: bool) -> bytes:
    """The same on a WebSocket, once that is open: what is said back after the upgrade."""
    with dial(daemon) as line:
        line.sendall(HANDSHAKE.format(path=path, port=daemon.port).encode())
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += line.recv(1)
        assert heard.startswith(b"HTTP/1.1 101 ")
        return answer(line, data, finish=finish)


def answer(line: socket.socket, data: bytes, *, finish: bool) -> bytes:
    """Say this, and return what is said back until the daemon hangs up, be it rudely."""
    heard = b""
    with contextlib.suppress(ConnectionError):
        line.sendall(data)
        if finish:
            with contextlib.suppress(OSError):  # it has been hung up on already
                line.shutdown(socket.SHUT_WR)
        while part := line.recv(65536):
            heard += part
    return heard


def body(goldens: Mapping[str, Any]) -> bytes:
    """A good frame, as a form-free body of JSON."""
    sink = io.BytesIO()
    Image.fromarray(goldens["f0"].picture).save(sink, "PNG")
    picture = base64.b64encode(sink.getvalue()).decode()
    return f'{{"image": "{picture}", "instruction": "go"}}'.encode()


def client_hello() -> bytes:
    """What a client of TLS says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


NOISE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "TLS": client_hello,
    "HTTP/2": lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "an upgrade to h2c": lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "half a head": lambda: b"POST /act HTTP/1.1\r\nHost: loc",
    "a head without an end": lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 200_000,
    "a thousand headers": lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000,
    "two lengths": lambda: b"POST /act HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length and chunks": lambda: (
        b"POST /act HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET"
    ),
    "a chunk that is none": lambda: (
        b"POST /act HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
    "SSH": lambda: b"SSH-2.0-OpenSSH_9.7\r\n",
    "no version": lambda: b"GET /act\r\n\r\n",
}


@pytest.mark.parametrize("name", list(NOISE))
def test_what_is_no_request(daemon: Any, robot: Any, name: str) -> None:  # noqa: ARG001 (it is served meanwhile)
    """It is hung up on, at the most with a 400 or another refusal."""
    heard = said(daemon, NOISE[name]())

    assert heard == b"" or heard.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200 OK"))
    assert b"Traceback" not in heard


def test_random_bytes(daemon: Any, robot: Any) -> None:  # noqa: ARG001 (it is served meanwhile)
    """Two hundred connections of noise."""
    random = np.random.default_rng(5)
    heard = [said(daemon, random.bytes(int(random.integers(1, 3000)))) for _ in range(200)]

    assert all(answer == b"" or answer.startswith(b"HTTP/1.1 4") for answer in heard)


@pytest.mark.parametrize("kind", ["application/json", "application/msgpack", "multipart/form-data; boundary=b"])
def test_a_body_cut_short(daemon: Any, robot: Any, goldens: Mapping[str, Any], kind: str) -> None:  # noqa: ARG001
    """The connection drops at any place in the body: no frame comes of it."""
    whole = body(goldens)
    head = POST.format(path="/v1/act", port=daemon.port, kind=kind, length=len(whole)).encode()
    before = daemon.get("/metrics").text.count("stillframe_frames_total")
    for cut in np.linspace(0, len(whole) - 1, 20, dtype=int):
        said(daemon, head + whole[:cut])

    assert daemon.get("/metrics").text.count("stillframe_frames_total") == before


@pytest.mark.parametrize("path", ["/v1/stream", "/", "/roboarena"])
def test_websocket_frames_that_are_none(daemon: Any, robot: Any, path: str, waiting: Callable[..., None]) -> None:  # noqa: ARG001
    """Frames cut short, unmasked, with false lengths, of unknown kinds, in pieces without end: the connection ends."""
    random = np.random.default_rng(6)
    whole = b"\x82\xfe\x01\x00" + b"mask" + bytes(256)
    frames = [
        *(whole[:cut] for cut in (1, 2, 3, 6, 100)),  # cut short
        b"\x82\x05hello",  # not masked
        b"\x82\xff" + b"\x7f" + b"\xff" * 7 + b"mask",  # eight exbibytes
        b"\x83\x80mask",  # of no known kind
        b"\xf2\x80mask",  # bits that nobody agreed on
        b"\x89\xfe\x01\x00mask" + bytes(256),  # a long ping
        b"\x01\x80mask" * 50 + b"\x02\x80mask",  # pieces of text, and a binary one between them
        b"\x81\x84mask\xff\xff\xff\xff",  # text that is no UTF-8
        b"\x88\x81mask\x00",  # half a close code
        *(bytes([0x80 | int(random.integers(16))]) + random.bytes(40) for _ in range(30)),
    ]
    heard = [streamed(daemon, path, frame, finish=True) for frame in frames]
    waiting(lambda: daemon.gauge("connections") == 0, "every connection gone")

    assert all(b"Traceback" not in answer for answer in heard)
    assert sum(b"\x03\xea" in answer for answer in heard) > 5  # 1002: against the protocol
    assert sum(b"\x03\xef" in answer for answer in heard) >= 1  # 1007: no text


def test_many_that_never_end(daemon: Any, robot: Any, goldens: Mapping[str, Any]) -> None:
    """Heads, bodies and messages that trickle hold a connection each and nothing else: the robot goes on."""
    whole = body(goldens)
    starts = [
        b"POST /act HTTP/1.1\r\nHost: localh",
        POST.format(path="/act", port=daemon.port, kind="application/json", length=len(whole)).encode() + whole[:40],
        HANDSHAKE.format(path="/v1/stream", port=daemon.port).encode() + b"\x82\xfe\x01",
        b"G",
    ]
    with ExitStack() as lines:
        slow = [lines.enter_context(dial(daemon)) for _ in range(SLOW)]
        for number, line in enumerate(slow):
            line.sendall(starts[number % len(starts)])
        served = robot.answers
        for line in slow:
            line.sendall(b"a")
        with PolicyClient(daemon.url, timeout_s=WAIT_S, stateless=True) as other:
            action = other.act(goldens["f0"].picture, goldens["f0"].instruction)

    assert robot.failures == []
    assert robot.answers >= served
    assert np.array_equal(action, goldens["f0"].action)


@pytest.mark.parametrize("path", ["/v1/stream", "/"])
def test_a_message_too_big(daemon: Any, robot: Any, path: str) -> None:  # noqa: ARG001 (it is served meanwhile)
    """A message that promises to be beyond the limit is not waited for: its connection ends with 1009."""
    length = (17 * 2**20).to_bytes(8, "big")
    heard = streamed(daemon, path, b"\x82\xff" + length + b"mask", finish=False)
    at = heard.rindex(TOO_BIG.to_bytes(2, "big"))

    assert heard[at - 2] == CLOSE
