"""A small app behind the daemon's own connections, on a port of its own; and sockets that speak to it byte by byte."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from stillframe.daemon.config import load_config
from stillframe.daemon.sockets import bind_sockets, uvicorn_config
from stillframe.transport.connections import ConnectionTable

WAIT_S = 60.0  # bounds what has to happen


def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition, not for ever."""
    give_up_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


class Peer:
    """The other end of a connection, byte by byte."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)

    def send(self, data: bytes) -> None:
        """Send it all."""
        self.socket.sendall(data)

    def ask(self, path: str = "/", *headers: str, body: bytes = b"", method: str = "GET") -> None:
        """Send a request."""
        head = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
        self.send("\r\n".join([*head, "", ""]).encode() + body)

    def answer(self) -> tuple[int, bytes]:
        """Read one response with a length: its status and its body. Responses of 1xx are passed over."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, f"the connection was closed after {head!r}"
            head += byte
        status = int(head.split(b" ", 2)[1])
        if 100 <= status < 200:
            return self.answer()
        (length,) = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        body = b""
        while len(body) < int(length):
            body += self.socket.recv(int(length) - len(body))
        return status, body

    def problem(self) -> tuple[int, str]:
        """Read one response that is a problem: its status and its code."""
        status, body = self.answer()
        return status, json.loads(body)["code"]

    @property
    def closed(self) -> bool:
        """Wait for something to read; whether that is the end."""
        try:
            return self.socket.recv(65536) == b""
        except ConnectionResetError:
            return True


@dataclass
class Served:
    """What serves, and what its app has seen."""

    port: int
    table: ConnectionTable
    server: uvicorn.Server
    held: asyncio.Event = field(default_factory=asyncio.Event)  # lets /held answer
    seen: list[Any] = field(default_factory=list)  # by /body: bytes, or that the client had gone; by /: messages
    order: list[str] = field(default_factory=list)  # what reached the app: "plain", "body", "message"
    waiting: int = 0  # requests at /held
    gone: int = 0  # of them, those whose client went
    peers: list[Peer] = field(default_factory=list)

    def peer(self) -> Peer:
        """One more connection."""
        self.peers.append(Peer(self.port))
        return self.peers[-1]

    def reached(self) -> Peer:
        """One more connection, which the server has accepted."""
        before = len(self.server.server_state.connections)
        peer = self.peer()
        until(lambda: len(self.server.server_state.connections) > before)
        return peer

    def alive(self) -> bool:
        """Whether the next client is served."""
        peer = self.peer()
        peer.ask()
        return peer.answer() == (200, b"{}")


def app_of(served: Served) -> Starlette:
    """/ answers, /body reads, /held waits, / as a WebSocket repeats."""

    async def plain(_: Request) -> Response:
        served.order.append("plain")
        return JSONResponse({})

    async def body(request: Request) -> Response:
        try:
            served.seen.append(await request.body())
            served.order.append("body")
        except ClientDisconnect:
            served.seen.append(ClientDisconnect)
        return JSONResponse({})

    async def held(request: Request) -> Response:
        served.waiting += 1
        tasks = [asyncio.ensure_future(served.held.wait()), asyncio.ensure_future(_departure(request))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        served.gone += tasks[1].done()
        for task in tasks:
            task.cancel()
        return JSONResponse({"held": True})

    async def repeat(websocket: WebSocket) -> None:
        await websocket.accept()
        while (message := await websocket.receive())["type"] == "websocket.receive":
            data = message.get("bytes")
            served.seen.append(message["text"] if data is None else data)
            served.order.append("message")
            await websocket.send_bytes(str(len(served.seen[-1])).encode())
        served.seen.append(message.get("code"))

    return Starlette(
        routes=[
            Route("/", plain),
            Route("/body", body, methods=["POST"]),
            Route("/held", held, methods=["GET", "POST"]),
            WebSocketRoute("/", repeat),
        ]
    )


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Serve the app while the test lasts: `serve(most=2)` lets two connections in."""
    running: list[tuple[Served, threading.Thread]] = []

    def start(**table: Any) -> Served:
        config = load_config(None, {"checkpoint": Path("nowhere"), "port": 0})
        (door,) = bind_sockets(config)
        served = Served(door.port, ConnectionTable(**table), None)  # type: ignore[arg-type]
        served.server = uvicorn.Server(uvicorn_config(app_of(served), config, served.table))
        thread = threading.Thread(target=served.server.run, kwargs={"sockets": [door.socket]})
        thread.start()
        running.append((served, thread))
        until(lambda: served.server.started)
        return served

    yield start
    for served, thread in running:
        for peer in served.peers:
            peer.socket.close()
        served.server.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive()
