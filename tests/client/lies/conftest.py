"""A server that lies: on a loopback port it answers whatever it is told to, byte for byte. Knows no HTTP."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

BOUND_S = 20.0
PAUSE_S = 0.02  # between the bytes of a trickle


@dataclass
class Talk:
    """The server's end of one connection."""

    sock: socket.socket
    requests: list[bytes]

    def hear(self) -> bytes:
        """Wait for a whole request and return it. ConnectionAbortedError ends the script: the client has left."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
        while len(body) < length:
            body += self.receive()
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def receive(self) -> bytes:
        """Wait for some bytes. ConnectionAbortedError: none come any more."""
        if not (part := self.sock.recv(65536)):
            raise ConnectionAbortedError("the client has left")
        return part

    def say(self, data: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(data)

    def trickle(self, data: bytes) -> None:
        """Send them one by one: each comes long before a wait for it alone would end."""
        for byte in data:
            self.say(bytes([byte]))
            time.sleep(PAUSE_S)


Script = Callable[[Talk], None]


@dataclass
class Liar:
    """A running server. The first connection gets the first script, and so on; the last script is for all others."""

    scripts: list[Script]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self.serve)]
        self.threads[0].start()

    def serve(self) -> None:
        """Take connections until closed."""
        while True:
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            script = self.scripts[min(self.connections, len(self.scripts) - 1)]
            self.connections += 1
            self.threads.append(threading.Thread(target=self.talk, args=(script, sock)))
            self.threads[-1].start()

    def talk(self, script: Script, sock: socket.socket) -> None:
        """Run one script; a client that leaves ends it."""
        with sock, contextlib.suppress(OSError):
            sock.settimeout(BOUND_S)
            script(Talk(sock, self.requests))

    def close(self) -> None:
        """Stop, and wait for what is under way."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(BOUND_S)


def reply(body: Any = b"", status: str = "200 OK", *headers: str, length: bool = True) -> bytes:
    """A reply with these header lines; what is not bytes goes as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(data)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


@pytest.fixture
def liar() -> Iterator[Callable[..., Liar]]:
    """Start servers: `liar(script, ...)`, or `liar(b"...")` for one that answers every request with these bytes."""
    running: list[Liar] = []

    def start(*scripts: Script | bytes) -> Liar:
        running.append(Liar([script if callable(script) else answering(script) for script in scripts]))
        return running[-1]

    yield start
    for server in running:
        server.close()


def answering(data: bytes) -> Script:
    """Answer the first request of a connection, and close it."""

    def script(talk: Talk) -> None:
        talk.hear()
        talk.say(data)

    return script


@pytest.fixture
def http_reply() -> Callable[..., bytes]:
    """Writes replies: `http_reply({"actions": ...}, "200 OK", "X-Header: value")`."""
    return reply
