"""The streams on real sockets, behind uvicorn as the daemon runs it: what only a network can do wrong."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from stillframe.daemon import sockets
from stillframe.daemon.config import load_config
from stillframe.daemon.shutdown import DrainingServer
from stillframe.web.http.limits import Limits
from stillframe_client.wire import MSGPACK_PROTOCOL, RESTART, TOO_BIG, pack, unpack

WAIT_S = 60.0
PICTURE = np.zeros((12, 16, 3), np.uint8)


class Server:
    """A desk's app behind a port of its own."""

    def __init__(self, desk: Any, **values: Any):
        config = load_config(None, {"checkpoint": Path("nowhere"), "port": 0} | values)
        self.doors = sockets.bind_sockets(config)
        self.server = DrainingServer(sockets.uvicorn_config(desk.app, config), desk.lifecycle, drain_s=WAIT_S)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.doors[0].socket]})
        self.thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.doors[0].port

    @property
    def connections(self) -> int:
        """How many uvicorn has."""
        return len(self.server.server_state.connections)

    def connect(self, path: str = "/v1/stream", **how: Any) -> ClientConnection:
        """A client of the package that robots use."""
        how = {"compression": None, "proxy": None, "max_size": None, "open_timeout": WAIT_S, "close_timeout": 1} | how
        return connect(f"ws://127.0.0.1:{self.port}{path}", **how)

    def holds(self, session_id: str) -> bool:
        """Whether a connection holds that session."""
        listed = httpx.get(f"http://127.0.0.1:{self.port}/v1/sessions", timeout=WAIT_S, trust_env=False).json()
        return any(session["connected"] for session in listed["sessions"] if session["id"] == session_id)

    def stop(self) -> None:
        """End it, whoever is connected."""
        self.server.should_exit = True
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Serve a desk while the test lasts: `serve(desk, max_body_mib=1)`."""
    served: list[Server] = []

    def start(desk: Any, **values: Any) -> Server:
        served.append(Server(desk, **values))
        return served[-1]

    yield start
    for server in served:
        server.stop()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for it, within reason."""
    give_up_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def hello(client: ClientConnection) -> Any:
    """What the daemon says first."""
    return unpack(client.recv(WAIT_S))


def act(client: ClientConnection, **place: Any) -> Any:
    """One frame and its answer."""
    client.send(pack({"type": "frame", "session_id": "arm", "image": PICTURE, "instruction": "go", **place}))
    return unpack(client.recv(WAIT_S))


def test_frames_over_a_network(desk: Any, serve: Callable[..., Server]) -> None:
    """The sub-protocol is confirmed, hello comes first, frames are answered, and a goodbye is returned."""
    with serve(desk).connect(subprotocols=[MSGPACK_PROTOCOL]) as client:
        assert client.subprotocol == MSGPACK_PROTOCOL
        assert hello(client)["type"] == "hello"
        assert [act(client)["session"]["seq"] for _ in range(3)] == [0, 1, 2]
        client.close()

        assert client.close_code == 1000


@pytest.mark.parametrize("fragments", [1, 30])
def test_too_big_a_message(desk: Any, serve: Callable[..., Server], fragments: int) -> None:
    """It ends its connection with 1009 before it is in memory as a whole, in one piece or in many; others go on."""
    server = serve(desk, max_body_mib=1)
    with server.connect() as big, server.connect() as other:
        assert hello(big)["limits"]["max_message_bytes"] == Limits().max_body_bytes
        hello(other)
        piece = b"\x00" * (2**20 // fragments + 1000)
        with contextlib.suppress(ConnectionClosed):  # while it is sent, or only now
            big.send(piece if fragments == 1 else [piece] * fragments)
        with pytest.raises(ConnectionClosed):
            big.recv(WAIT_S)

        assert big.close_code in (TOO_BIG, 1006)  # 1006: the reset came before we had read why
        assert act(other)["type"] == "action"


def test_too_big_is_said_before_it_came(desk: Any, serve: Callable[..., Server]) -> None:
    """The head of a message that announces too much is answered with 1009; nothing of its body is waited for."""
    server = serve(desk, max_body_mib=1)
    with contextlib.closing(raw(server)) as client:
        client.sendall(b"\x82\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0")

        assert close_code(client) == TOO_BIG


def raw(server: Server, path: str = "/v1/stream") -> socket.socket:
    """A connection that was upgraded by hand, after the first message."""
    client = socket.create_connection(("127.0.0.1", server.port), WAIT_S)
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    client.sendall(f"{head}Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(1)
    first = client.recv(4, socket.MSG_WAITALL)
    length = int.from_bytes(first[2:4], "big") if first[1] == 126 else first[1]
    client.recv(length - (0 if first[1] == 126 else 2), socket.MSG_WAITALL)
    return client


def close_code(client: socket.socket) -> int:
    """The code of a close frame that comes next."""
    kind, _, code = client.recv(1), client.recv(1), client.recv(2, socket.MSG_WAITALL)
    assert kind == b"\x88"
    return int.from_bytes(code, "big")


def masked(data: bytes) -> bytes:
    """A client's binary message, with a mask of zeros."""
    return b"\x82\xff" + len(data).to_bytes(8, "big") + b"\0\0\0\0" + data


def test_who_never_reads_is_cut(
    new_desk: Callable[..., Any], serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that asks much and reads nothing: its session is let go of, and its connection ends though it stays.

    Others are served all the while.
    """
    monkeypatch.setattr(sockets, "UNREAD_S", 1)
    desk = new_desk(Limits(send_timeout_s=0.3, max_ping_bytes=2**20))
    server = serve(desk)
    with server.connect() as other, contextlib.closing(raw(server)) as deaf:
        hello(other)
        deaf.sendall(masked(pack({"type": "open", "session_id": "deaf"})))
        eventually(lambda: server.holds("deaf"))
        ping = masked(pack({"type": "ping", "padding": bytes(2**18)}))
        flooding = threading.Thread(target=flood, args=(deaf, ping))
        flooding.start()
        served = 0
        while server.holds("deaf"):
            assert act(other)["type"] == "action"
            served += 1
        eventually(lambda: server.connections == 1)  # uvicorn's own: nothing of it is left in memory
        flooding.join(WAIT_S)

        assert served > 0
        assert not flooding.is_alive()
        assert act(other)["type"] == "action"


def flood(client: socket.socket, message: bytes) -> None:
    """Send until that fails."""
    client.settimeout(WAIT_S)
    try:
        while True:
            client.sendall(message)
    except OSError:
        pass


@pytest.mark.parametrize("path", ["/v1/stream", "/"])
def test_pings_are_answered_while_it_computes(desk: Any, serve: Callable[..., Server], path: str) -> None:
    """A step that takes long costs nobody the connection: the other end's pings have their pongs."""
    desk.policy.go_on.clear()
    with serve(desk).connect(path) as client:
        client.recv(WAIT_S)
        frame = {"type": "frame", "session_id": "arm", "image": PICTURE, "instruction": "go", "prompt": "go"}
        client.send(pack(frame))
        assert desk.policy.started.wait(WAIT_S)
        pongs = [client.ping().wait(WAIT_S) for _ in range(3)]
        desk.policy.go_on.set()

        assert pongs == [True] * 3
        assert "actions" in unpack(client.recv(WAIT_S))


@pytest.mark.parametrize("path", ["/v1/stream", "/"])
def test_a_network_that_breaks_off(desk: Any, serve: Callable[..., Server], path: str) -> None:
    """A connection that is reset in the middle of a message, or of a step, leaves nothing that waits."""
    desk.policy.go_on.clear()
    server = serve(desk)
    frame = {"type": "frame", "session_id": "arm", "image": PICTURE, "instruction": "go", "prompt": "go"}
    for data in (masked(bytes(2000))[:500], masked(pack(frame))):
        with contextlib.closing(raw(server, path)) as client:
            client.sendall(data)
            if len(data) > 500:
                assert desk.policy.started.wait(WAIT_S)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no goodbye
        eventually(lambda: server.connections == 0)
    eventually(lambda: desk.sample("stillframe_queue_depth") == 0)
    desk.policy.go_on.set()

    assert desk.sample("stillframe_frames_total", outcome="abandoned") == 1


def test_refused_before_the_upgrade(new_desk: Callable[..., Any], serve: Callable[..., Server]) -> None:
    """One connection too many gets an HTTP answer with a problem in it."""
    server = serve(new_desk(Limits(max_streams=1)))
    with server.connect(), pytest.raises(InvalidStatus) as caught:
        server.connect()

    response = caught.value.response
    assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
    assert response.headers["retry-after"] == "5"
    assert json.loads(response.body or b"")["code"] == "overloaded"


def test_told_to_stop(desk: Any, serve: Callable[..., Server]) -> None:
    """What SIGTERM does: goaway, the step in flight answered, 1012, and the server is down before its time is over."""
    desk.policy.go_on.clear()
    server = serve(desk)
    with server.connect() as client, server.connect("/") as robot:
        hello(client), robot.recv(WAIT_S)
        client.send(pack({"type": "frame", "session_id": "arm", "seq": 0, "image": PICTURE, "instruction": "go"}))
        robot.send(pack({"observation/image": PICTURE, "prompt": "go"}))
        assert desk.policy.started.wait(WAIT_S)
        eventually(lambda: desk.sample("stillframe_queue_depth") == 2)
        server.server.handle_exit(15, None)
        goaway = unpack(client.recv(WAIT_S))
        desk.policy.go_on.set()
        answers = [unpack(client.recv(WAIT_S)), unpack(robot.recv(WAIT_S))]
        codes = []
        for connection in (client, robot):
            with pytest.raises(ConnectionClosed) as caught:
                connection.recv(WAIT_S)
            codes.append(caught.value.rcvd and caught.value.rcvd.code)
        server.thread.join(WAIT_S)

        assert goaway["type"] == "goaway"
        assert all("actions" in answer for answer in answers)
        assert codes == [RESTART] * 2
        assert not server.thread.is_alive()
