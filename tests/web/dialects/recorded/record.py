"""Records what real clients send, a file each: `python tests/web/dialects/recorded/record.py` makes them all again.

Knows sockets and the programs of tests/e2e/clients; not how anything is answered. README.md says what is in the files.
"""

from __future__ import annotations

import contextlib
import re
import runpy
import socketserver
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

HERE = Path(__file__).parent
real = runpy.run_path(str(HERE.parents[2] / "e2e" / "clients" / "real.py"))

PICTURE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)  # no two pixels alike
LEFT, RIGHT = PICTURE[::-1].copy(), PICTURE[:, ::-1].copy()
WORDS = "pick up the red cube"
HTTP = ("json-numpy-2.1.1",)  # names of environments: tests/e2e/clients/real.py
BOTH_HTTP = ("json-numpy-2.1.1", "json-numpy-1.0.1")
OPENPI = ("openpi-client-0.1.2", "openpi-client-0.1.1")
SESSION = {"session_id": "arm-1"}

# What changes from run to run, and what is written in its place.
MASKS: Mapping[bytes, bytes] = {
    rb"(?<=\r\nHost: )[^\r]*": b"127.0.0.1:8000",
    rb"(?<=\r\nSec-WebSocket-Key: )[^\r]*": b"dGhlIHNhbXBsZSBub25jZQ==",
    rb"(?<=\r\nUser-Agent: Python/)[^\r]*": b"3 websockets/0",
    rb"(?<=\r\nUser-Agent: curl/)[^\r]*": b"0",
}
BOUNDARY = b"0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Recording:
    """Which order to which program sends it, alike from every environment."""

    environments: tuple[str, ...]
    program: str
    do: str
    arguments: tuple[Any, ...] = ()
    part: int = -1  # of what the order sent, over a WebSocket: 0 the upgrade's head, then the messages


FRAME = (PICTURE, WORDS)
RECORDINGS: Mapping[str, Recording] = {
    "openvla.http": Recording(BOTH_HTTP, "openvla", "act", FRAME),
    "openvla-key.http": Recording(BOTH_HTTP, "openvla", "key", (*FRAME, "jaco")),
    "openvla-null-key.http": Recording(BOTH_HTTP, "openvla", "key", (*FRAME, None)),
    "openvla-double.http": Recording(HTTP, "openvla_double", "act", FRAME),
    "openvla-oft.http": Recording(BOTH_HTTP, "openvla_oft", "act", FRAME),
    "openvla-oft-aloha.http": Recording(BOTH_HTTP, "openvla_oft", "aloha", (PICTURE, LEFT, RIGHT, WORDS)),
    "auto-eval.http": Recording(BOTH_HTTP, "auto_eval", "act", FRAME),
    "auto-eval-reset.http": Recording(BOTH_HTTP, "auto_eval", "reset"),
    "cogact.http": Recording(HTTP, "cogact", "act", FRAME),
    "curl.http": Recording(HTTP, "curl", "act", FRAME),
    "msgpack-numpy.http": Recording(HTTP, "lebedov", "post", FRAME),
    "msgpack-numpy.msgpack": Recording(HTTP, "lebedov", "act", FRAME),
    "openpi-upgrade.http": Recording(OPENPI, "openpi", "act", FRAME, part=0),
    "openpi-libero.msgpack": Recording(OPENPI, "openpi", "act", FRAME),
    "openpi-droid.msgpack": Recording(OPENPI, "openpi", "act", (*FRAME, "droid")),
    "openpi-aloha.msgpack": Recording(OPENPI, "openpi", "act", (*FRAME, "aloha")),
    "openpi-session.msgpack": Recording(OPENPI, "openpi", "with_keys", (*FRAME, SESSION)),
    "openpi-reset.msgpack": Recording(OPENPI, "openpi", "reset"),
    "openpi-reset-in-frame.msgpack": Recording(OPENPI, "openpi", "with_keys", (*FRAME, {"reset": True})),
    "roboarena-infer.msgpack": Recording(OPENPI, "roboarena", "act", FRAME),
    "roboarena-reset.msgpack": Recording(OPENPI, "roboarena", "reset"),
}


def record(environment: str, program: str, python: Path, programs: Any) -> dict[str, bytes]:
    """Have the client of an environment send its files -> their bytes, with what changes from run to run masked."""
    sent: dict[str, bytes] = {}
    with ears() as (url, heard), programs.robots(python, program, url) as robots:
        for name, recording in RECORDINGS.items():
            if recording.program == program and environment in recording.environments:
                robots.order("robot", recording.do, *recording.arguments)
                sent[name] = masked(heard[recording.part])
    return sent


def masked(heard: bytes) -> bytes:
    """What it says whichever run it is of."""
    head, mark, body = heard.partition(b"\r\n\r\n")
    if not head.startswith((b"POST ", b"GET ")):
        return heard
    for pattern, instead in MASKS.items():
        head = re.sub(pattern, instead, head)
    boundary = re.search(rb"boundary=(\w+)", head)
    return (head + mark + body).replace(boundary[1], BOUNDARY) if boundary else head + mark + body


class Ears(socketserver.ThreadingTCPServer):
    """A server that keeps the requests and messages that it hears."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Ear)
        self.heard: list[bytes] = []


@contextlib.contextmanager
def ears() -> Iterator[tuple[str, list[bytes]]]:
    """A server's URL, and what it has heard so far."""
    with Ears() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", server.heard
        server.shutdown()


class Ear(socketserver.BaseRequestHandler):
    """One connection: every request is answered with an empty list, every message with an empty map."""

    server: Ears

    def handle(self) -> None:
        """Hear it to its end."""
        head, rest = self.head()
        if b"upgrade: websocket" in head.lower():
            self.socket(head)
        elif head:
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            while length and len(rest) < int(length[1]):
                rest += self.request.recv(65536)
            self.server.heard.append(head + rest)
            reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close"
            self.request.sendall(reply + b"\r\n\r\n[]")

    def head(self) -> tuple[bytes, bytes]:
        """The request's head with its blank line, and what came with it of the body; empty if nothing came."""
        heard = b""
        while b"\r\n\r\n" not in heard:
            piece = self.request.recv(65536)
            if not piece:
                return b"", b""
            heard += piece
        head, mark, rest = heard.partition(b"\r\n\r\n")
        return head + mark, rest

    def socket(self, head: bytes) -> None:
        """Upgrade, speak first, then hear the messages."""
        self.server.heard.append(head)
        protocol = ServerProtocol()
        piece = head
        while piece:
            protocol.receive_data(piece)
            for event in protocol.events_received():
                self.answer(protocol, event)
            for data in protocol.data_to_send():
                if data:
                    self.request.sendall(data)
            piece = self.request.recv(65536)

    def answer(self, protocol: ServerProtocol, event: Request | Frame | Any) -> None:
        """The metadata after the upgrade; it asks RoboArena's client for a session's id."""
        if isinstance(event, Request):
            protocol.send_response(protocol.accept(event))
            protocol.send_binary(msgpack.packb({"needs_session_id": True}))
        elif event.opcode is Opcode.BINARY:
            self.server.heard.append(event.data)
            protocol.send_binary(msgpack.packb({}))


if __name__ == "__main__":
    with real["Programs"]() as programs:
        for environment, program in dict.fromkeys((r.environments[0], r.program) for r in RECORDINGS.values()):
            for name, sent in record(environment, program, real["interpreter"](environment), programs).items():
                (HERE / name).write_bytes(sent)
                sys.stdout.write(f"{name}\n")
