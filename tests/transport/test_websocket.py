from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from stillframe.transport import websocket
from stillframe.transport.bounds import CONTROL_FRAME_BURST, FRAMES_PER_TURN, MAX_FRAGMENTS

Serve = Callable[..., Any]
WAIT_S = 60.0
TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition, not for ever."""
    give_up_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """A client's frame; its mask is zeros."""
    first = opcode | (0x80 if fin else 0)
    if len(data) < 126:
        head = struct.pack("!BB", first, 0x80 | len(data))
    elif len(data) < 2**16:
        head = struct.pack("!BBH", first, 0x80 | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, len(data))
    return head + bytes(4) + data


class Talk:
    """A WebSocket, frame by frame."""

    def __init__(self, peer: Any):
        self.peer = peer
        key = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        peer.ask("/", *key, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")

    def send(self, *frames: bytes) -> None:
        """Send them in one go."""
        self.peer.send(b"".join(frames))

    def take(self) -> tuple[int, bytes]:
        """The next frame: its opcode and its data."""
        first, length = self._read(2)
        if length == 126:
            (length,) = struct.unpack("!H", self._read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._read(8))
        return first & 0x0F, self._read(length)

    def goodbye(self) -> int:
        """The code with which it is closed, whatever comes before."""
        while True:
            opcode, data = self.take()
            if opcode == CLOSE:
                return int(struct.unpack("!H", data[:2])[0])

    def _read(self, n_bytes: int) -> bytes:
        data = b""
        while len(data) < n_bytes:
            part = self.peer.socket.recv(n_bytes - len(data))
            assert part, "the connection was closed"
            data += part
        return data


def fragments(pieces: list[bytes], opcode: int = BINARY) -> list[bytes]:
    """One message in so many fragments."""
    opcodes = [opcode, *[CONT] * (len(pieces) - 1)]
    return [
        frame(op, piece, fin=n == len(pieces) - 1) for n, (op, piece) in enumerate(zip(opcodes, pieces, strict=True))
    ]


def test_a_message_in_many_fragments_is_taken(serve: Serve) -> None:
    """As many as may be, in one go: byte for byte; and the next message may have as many."""
    served = serve()
    talk = Talk(served.peer())
    pieces = [bytes([n % 251]) for n in range(MAX_FRAGMENTS)]
    for _ in range(2):
        talk.send(*fragments(pieces))
        assert talk.take() == (BINARY, str(MAX_FRAGMENTS).encode())

    assert served.seen == [b"".join(pieces)] * 2


@pytest.mark.parametrize("piece", [b"", b"x"])
def test_a_message_in_too_many_fragments_is_cut(serve: Serve, piece: bytes) -> None:
    """Empty ones count as well; the app never sees it, and the next client is served."""
    served = serve()
    talk = Talk(served.peer())
    talk.send(*fragments([piece] * (MAX_FRAGMENTS + 1)))

    assert talk.goodbye() == 1009
    until(lambda: len(served.seen) == 1)
    assert served.seen == [1009]
    assert served.alive()


def test_one_read_is_not_parsed_in_one_go(serve: Serve) -> None:
    """A request that came after a flood of fragments is answered before the flood has been parsed."""
    served = serve()
    talk, robot = Talk(served.peer()), served.reached()
    loop = next(iter(served.server.server_state.connections)).loop
    ours, theirs = socket.socketpair()  # the loop is held until both have sent
    loop.call_soon_threadsafe(theirs.recv, 1)
    talk.send(*fragments([b"x"] * MAX_FRAGMENTS))
    robot.ask()
    ours.send(b"x")
    assert robot.answer() == (200, b"{}")
    assert talk.take() == (BINARY, str(MAX_FRAGMENTS).encode())
    ours.close()
    theirs.close()

    assert MAX_FRAGMENTS > 10 * FRAMES_PER_TURN
    assert served.order == ["plain", "message"]


def test_a_large_message_and_small_ones_behind_it(serve: Serve) -> None:
    """In one go: each is answered, in its order, and control frames between are."""
    served = serve()
    talk = Talk(served.peer())
    sizes = [300_000, 1, 0, 70_000, 5]
    talk.send(*[frame(BINARY, bytes(size)) for size in sizes], frame(PING, b"there?"), frame(TEXT, "é".encode()))
    answers = [talk.take() for _ in range(7)]

    assert [data for opcode, data in answers if opcode == BINARY] == [str(size).encode() for size in [*sizes, 1]]
    assert [data for opcode, data in answers if opcode == PONG] == [b"there?"]


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_a_flood_of_control_frames_is_cut(serve: Serve, monkeypatch: pytest.MonkeyPatch, opcode: int) -> None:
    """As many as may be at once are answered; one more is too many."""
    monkeypatch.setattr(websocket, "CONTROL_FRAMES_PER_S", 1e-6)
    served = serve()
    fine, flood = Talk(served.peer()), Talk(served.peer())
    capacity = int(CONTROL_FRAME_BURST)
    fine.send(*[frame(opcode)] * capacity, frame(BINARY, b"fine"))
    while (answer := fine.take())[0] == PONG:
        pass
    assert answer == (BINARY, b"4")
    flood.send(*[frame(opcode)] * (capacity + 1))

    assert flood.goodbye() == 1008


def test_a_client_that_never_reads_is_not_read(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pings' answers stop at what the connection takes: what it sends stays with it, and memory with us."""
    monkeypatch.setattr(websocket, "CONTROL_FRAMES_PER_S", 1e9)
    monkeypatch.setattr(websocket, "CONTROL_FRAME_BURST", 1e9)
    served = serve()
    peer = served.peer()
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    talk = Talk(peer)
    peer.socket.settimeout(0.0)
    pings = rest = frame(PING, bytes(125)) * 500
    sent, stalled_s = 0, 0.0
    while stalled_s < 1.0 and sent < 200 * 2**20:
        try:
            taken = peer.socket.send(rest)
            rest = rest[taken:] or pings
            sent, stalled_s = sent + taken, 0.0
        except BlockingIOError:
            time.sleep(0.02)
            stalled_s += 0.02
    (connection,) = (one for one in served.server.server_state.connections if one.client == peer.socket.getsockname())

    assert sent < 200 * 2**20
    assert connection.transport.get_write_buffer_size() < 2**20
    assert served.alive()
    peer.socket.settimeout(WAIT_S)
    assert talk.take() == (PONG, bytes(125))


def test_what_is_in_memory_of_all_messages_is_bounded(serve: Serve) -> None:
    """Messages that have not come whole: over the limit of all the largest is cut, and the others go on."""
    served = serve(max_bytes=300_000)
    small, large = Talk(served.peer()), Talk(served.peer())
    whole = frame(BINARY, bytes(150_000))
    small.send(whole[:50_000])
    large.send(frame(BINARY, bytes(290_000))[:-1])

    assert large.peer.closed
    assert served.table.displaced == 1
    small.send(whole[50_000:])
    assert small.take() == (BINARY, b"150000")


def test_text_that_is_none_ends_the_connection(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """With 1007, in one fragment or several; a character cut by fragments is none of these. It is no error of ours."""
    served = serve()
    cut, broken = Talk(served.peer()), Talk(served.peer())
    cut.send(*fragments([b"\xc3", b"\xa9"], TEXT))
    assert cut.take() == (BINARY, b"1")
    broken.send(*fragments([b"a", b"\xff"], TEXT))

    assert broken.goodbye() == 1007
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def held_by(served: Any) -> Any:
    """The one connection of the table."""
    (connection,) = served.table._open
    return connection


def test_a_websocket_is_one_connection(serve: Serve) -> None:
    """Of its client's address, in the table once while it is open, and not after it."""
    served = serve()
    talk = Talk(served.peer())
    assert len(served.table) == 1
    assert held_by(served).address == "127.0.0.1"
    talk.peer.socket.close()

    until(lambda: len(served.table) == 0)


def test_a_websocket_never_gives_way(serve: Serve) -> None:
    """Where it is all there may be, the newcomer is refused."""
    served = serve(capacity=1)
    talk = Talk(served.peer())

    assert served.peer().problem() == (503, "overloaded")
    talk.send(frame(BINARY, b"four"))
    assert talk.take() == (BINARY, b"4")


def test_fragments_that_have_come_count(serve: Serve) -> None:
    """Until their message has come whole they are in memory, as what is not parsed is."""
    served = serve(max_bytes=100_000)
    talk = Talk(served.peer())
    pieces = fragments([bytes(40_000)] * 4)
    talk.send(*pieces[:2])
    talk.send(frame(PING))
    assert talk.take() == (PONG, b"")
    assert served.table.displaced == 0
    talk.send(pieces[2])

    assert talk.peer.closed
    assert served.table.displaced == 1


def test_a_client_that_reads_again_is_read(serve: Serve) -> None:
    """What it sent meanwhile waits for that, whether it had been received or not."""
    served = serve()
    talk = Talk(served.peer())
    connection = held_by(served)
    connection.loop.call_soon_threadsafe(connection.pause_writing)
    until(lambda: not connection.transport.is_reading())
    talk.send(frame(BINARY, b"four"))
    assert served.alive()
    assert served.seen == []
    connection.loop.call_soon_threadsafe(connection.data_received, frame(BINARY, b"three"))
    assert served.alive()
    assert served.seen == []
    connection.loop.call_soon_threadsafe(connection.resume_writing)

    assert [talk.take(), talk.take()] == [(BINARY, b"5"), (BINARY, b"4")]


def test_what_comes_while_something_is_left_comes_behind_it(serve: Serve) -> None:
    """Two reads before there is a turn for the first: byte for byte in their order."""
    served = serve()
    talk = Talk(served.peer())
    connection = held_by(served)
    whole = b"".join(frame(BINARY, bytes([n]) * n) for n in range(3 * FRAMES_PER_TURN))

    def received() -> None:
        connection.data_received(whole[:-5])
        connection.data_received(whole[-5:])

    connection.loop.call_soon_threadsafe(received)

    assert [talk.take()[1] for _ in range(3 * FRAMES_PER_TURN)] == [str(n).encode() for n in range(3 * FRAMES_PER_TURN)]
    assert served.seen == [bytes([n]) * n for n in range(3 * FRAMES_PER_TURN)]
