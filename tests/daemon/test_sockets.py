from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from stillframe.daemon.certificates import check_tls
from stillframe.daemon.config import DaemonConfig, load_config
from stillframe.daemon.sockets import HEAD_BYTES, BoundSocket, bind_sockets, uvicorn_config
from stillframe.errors import ConfigError
from stillframe.web.middleware.listeners import Listener, listener_of

WAIT_S = 60.0  # bounds what has to happen


def config(**values: object) -> DaemonConfig:
    """A configuration on a free port."""
    return load_config(None, {"checkpoint": Path("nowhere"), "port": 0} | values)


async def echo(websocket: WebSocket) -> None:
    """Repeat every message."""
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        await websocket.send_bytes(message["bytes"])


def app(listeners: Mapping[int, Listener]) -> Starlette:
    """Says whence a request came and through which listening; repeats what a WebSocket sends."""

    async def whence(request: Request) -> Response:
        return JSONResponse(
            {"peer": request.client and request.client.host, "profile": listener_of(request, listeners).profile}
        )

    return Starlette(routes=[Route("/", whence), WebSocketRoute("/", echo)])


@contextmanager
def running(served: DaemonConfig) -> Iterator[tuple[list[BoundSocket], uvicorn.Server]]:
    """Serve the app above as the daemon is served."""
    sockets = bind_sockets(served)
    server = uvicorn.Server(uvicorn_config(app({listening.port: listening.listener for listening in sockets}), served))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening.socket for listening in sockets]})
    thread.start()
    try:
        until(lambda: server.started)
        yield sockets, server
    finally:
        server.should_exit = True
        thread.join(WAIT_S)


def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition, not for ever."""
    give_up_s = time.monotonic() + WAIT_S
    while not is_so() and time.monotonic() < give_up_s:
        time.sleep(0.005)
    assert is_so()


@pytest.fixture(scope="module")
def daemon() -> Iterator[tuple[list[BoundSocket], uvicorn.Server]]:
    """Two sockets, a body of at most 64 KiB."""
    with running(config(max_body_mib=1 / 16, listeners=[{"port": 0, "profile": "cogact"}])) as up:
        yield up


def test_a_reply_does_not_wait_for_the_next(daemon: tuple[list[BoundSocket], uvicorn.Server]) -> None:
    """Connections that the daemon accepts have Nagle's delay off: asyncio does so where the listener names TCP."""
    sockets, server = daemon
    with socket.create_connection(sockets[0].socket.getsockname()[:2], timeout=WAIT_S) as ours:
        until(lambda: any(theirs.client == ours.getsockname() for theirs in server.server_state.connections))
        (accepted,) = (one for one in server.server_state.connections if one.client == ours.getsockname())
        nodelay = accepted.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert sockets[0].socket.proto == socket.IPPROTO_TCP
    assert nodelay != 0


def test_the_second_daemon_on_a_port_is_refused() -> None:
    """Even while the first has not begun to accept: both could bind, but only one can listen."""
    (listening,) = bind_sockets(config())
    with listening.socket, pytest.raises(ConfigError) as caught:
        bind_sockets(config(port=listening.port))

    assert str(caught.value).startswith(f"cannot listen on 127.0.0.1:{listening.port}: ")
    assert str(caught.value).endswith("in use; choose another --port")


def test_a_taken_port_of_a_listener_is_named_and_the_others_are_let_go() -> None:
    """The error is about that port, and whoever tries again finds the first one free."""
    (taken,) = bind_sockets(config())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    with taken.socket, pytest.raises(ConfigError, match=rf"127.0.0.1:{taken.port}: .*; choose another port$"):
        bind_sockets(config(port=free, listeners=[{"port": taken.port}]))
    (again,) = bind_sockets(config(port=free))

    with again.socket:
        assert again.port == free


def test_an_address_that_is_not_ours_is_refused() -> None:
    """The address is in the error, and that it is the address and not the port."""
    with pytest.raises(
        ConfigError, match=r"cannot listen on 192\.0\.2\.1:0: '192\.0\.2\.1' is no address of this machine"
    ):
        bind_sockets(config(host="192.0.2.1", allow_anonymous=True))


def test_a_host_that_there_is_not_is_named() -> None:
    """A name that resolves to nothing is not mended by another port."""
    with pytest.raises(
        ConfigError, match=r"there is no host 'robot\.invalid'.*use an address of this machine"
    ) as caught:
        bind_sockets(config(host="robot.invalid", allow_anonymous=True))

    assert "port" not in str(caught.value)


def test_the_daemon_listens_on_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with colons is an IPv6 address, and has brackets where it is shown."""
    bound: list[object] = []
    monkeypatch.setattr(socket.socket, "bind", lambda self, address: bound.append((self.family, address)))
    monkeypatch.setattr(socket.socket, "listen", lambda _self, _backlog: None)
    monkeypatch.setattr(socket.socket, "getsockname", lambda _self: ("::1", 8000, 0, 0))
    (listening,) = bind_sockets(config(host="::1"))

    with listening.socket:
        assert bound == [(socket.AF_INET6, ("::1", 0))]
        assert listening.address == "http://[::1]:8000"


def test_each_socket_is_what_its_listener_configures() -> None:
    """The daemon's own first, native; the others with profile, session and host of their own."""
    listeners = [
        {"port": 0, "profile": "cogact", "session": "arm"},
        {"port": 0, "host": "0.0.0.0", "profile": "openpi"},  # noqa: S104 -- bound for a moment, nothing accepted
    ]
    sockets = bind_sockets(config(allow_anonymous=True, listeners=listeners))
    with ExitStack() as opened:
        for listening in sockets:
            opened.enter_context(listening.socket)

        assert [listening.listener for listening in sockets] == [
            Listener("native", None, loopback=True),
            Listener("cogact", "arm", loopback=True),
            Listener("openpi", None, loopback=False),
        ]
        assert [listening.address for listening in sockets] == [
            f"http://{host}:{listening.port}"
            for host, listening in zip(["127.0.0.1", "127.0.0.1", "0.0.0.0"], sockets, strict=True)  # noqa: S104 -- compared
        ]


def test_the_app_knows_on_which_port_a_request_came(daemon: tuple[list[BoundSocket], uvicorn.Server]) -> None:
    """By the port of the socket that took it."""
    answers = [httpx.get(listening.address, trust_env=False).json()["profile"] for listening in daemon[0]]

    assert answers == ["native", "cogact"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_forwarding_headers_are_not_trusted(daemon: tuple[list[BoundSocket], uvicorn.Server], header: str) -> None:
    """The other end of the connection counts: a header that anybody can write does not."""
    answer = httpx.get(daemon[0][0].address, headers={header: "for=192.0.2.7"}, trust_env=False)

    assert answer.json()["peer"] == "127.0.0.1"


def test_a_head_has_a_limit(daemon: tuple[list[BoundSocket], uvicorn.Server]) -> None:
    """A request line or headers without end are refused, and the next client is served."""
    sockets, _ = daemon
    with socket.create_connection(sockets[0].socket.getsockname()[:2], timeout=WAIT_S) as endless:
        endless.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Filler: " + b"x" * (HEAD_BYTES + 1))
        answer = endless.recv(4096)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert httpx.get(sockets[0].address, trust_env=False).status_code == 200


def test_a_websocket_message_is_bounded_like_a_body(daemon: tuple[list[BoundSocket], uvicorn.Server]) -> None:
    """As long as a body may be: repeated; a byte more: the connection is closed with 1009."""
    with connect(f"ws://127.0.0.1:{daemon[0][0].port}/", proxy=None, max_size=None) as client:
        client.send(bytes(2**16))
        kept = client.recv(WAIT_S)
        client.send(bytes(2**16 + 1))
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(WAIT_S)

    assert len(kept) == 2**16
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


def test_a_websocket_is_not_compressed(daemon: tuple[list[BoundSocket], uvicorn.Server]) -> None:
    """The client offers it, the daemon does not take it up; pings are answered."""
    with connect(f"ws://127.0.0.1:{daemon[0][0].port}/", proxy=None, compression="deflate") as client:
        assert "deflate" in client.request.headers["Sec-WebSocket-Extensions"]
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        assert client.ping().wait(WAIT_S)


def test_a_websocket_is_pinged_with_patience() -> None:
    """Every 20 s, and a robot whose link hangs has a minute to answer."""
    made = uvicorn_config(app({}), config())

    assert (made.ws_ping_interval, made.ws_ping_timeout) == (20, 60)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Files made for this run: a self-signed certificate for loopback and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the program `openssl` is not installed, and nothing else here makes a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = SimpleNamespace(**{name: folder / f"{name}.pem" for name in ("cert", "key")})
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2")
    curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    openssl("genpkey", *curve, "-out", made.key)
    openssl("req", "-x509", "-key", made.key, "-out", made.cert, *subject)
    return made


def openssl(*words: object) -> None:
    """Run one command of OpenSSL's."""
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=WAIT_S)


async def echoed(url: str, trusting: ssl.SSLContext, message: bytes) -> str | bytes:
    """What the other end says to a message."""
    async with asyncio.timeout(WAIT_S), connect_async(url, ssl=trusting, proxy=None) as client:
        await client.send(message)
        return await client.recv()


def test_tls_carries_requests_and_websockets(pem: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    """With a certificate both protocols are encrypted on every port; connections that end leave no error behind.

    The client is asyncio's: the threads' reads and writes one TLS connection from two threads at once, which Python
    before 3.13 does not guard, and now and then its first bytes get lost.
    """
    served = config(tls_cert=pem.cert, tls_key=pem.key, listeners=[{"port": 0}])
    check_tls(served)
    trusting = ssl.create_default_context(cafile=str(pem.cert))
    with running(served) as (sockets, _):
        answers = [httpx.get(listening.address, verify=trusting, trust_env=False).status_code for listening in sockets]
        repeated = asyncio.run(echoed(f"wss://127.0.0.1:{sockets[0].port}/", trusting, b"frame"))

    assert [record for record in caplog.records if record.name == "asyncio"] == []
    assert [listening.address.partition(":")[0] for listening in sockets] == ["https", "https"]
    assert (answers, repeated) == ([200, 200], b"frame")


def test_without_tls_nothing_is_encrypted() -> None:
    """The default is plain HTTP."""
    assert uvicorn_config(app({}), config()).is_ssl is False


def test_an_other_end_that_is_gone_without_a_word_is_noticed(daemon: tuple[list[BoundSocket], uvicorn.Server]) -> None:
    """TCP's own signs of life are on for accepted connections, after a minute and not the system's two hours."""
    sockets, server = daemon
    with socket.create_connection(sockets[0].socket.getsockname()[:2], timeout=WAIT_S) as ours:
        until(lambda: any(theirs.client == ours.getsockname() for theirs in server.server_state.connections))
        (accepted,) = (one for one in server.server_state.connections if one.client == ours.getsockname())
        theirs = accepted.transport.get_extra_info("socket")
        on = theirs.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        after_s = theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) if hasattr(socket, "TCP_KEEPIDLE") else 60

    assert on != 0
    assert after_s == 60
