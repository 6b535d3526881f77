from __future__ import annotations

from starlette.requests import Request
from starlette.websockets import WebSocket

from stillframe.web.middleware.listeners import Listener, listener_of

OPENPI = Listener("openpi", "arm", loopback=False)


async def nothing(*_: object) -> None:
    """Neither receive nor send."""


def test_a_connection_is_known_by_the_port_it_came_in_on() -> None:
    """A request, a WebSocket or the bare scope."""
    http = {"type": "http", "server": ("10.0.0.1", 9000)}
    websocket = {"type": "websocket", "server": ("10.0.0.1", 9000)}
    found = [
        listener_of(connection, {9000: OPENPI})
        for connection in (http, Request(http), WebSocket(websocket, receive=nothing, send=nothing))  # type: ignore[arg-type]  # never used
    ]

    assert found == [OPENPI] * 3


def test_a_port_that_nobody_configured_is_native() -> None:
    """So is a connection that says no port: a test's, or a socket of the file system."""
    connections = [{"server": ("h", 1)}, {"server": ("/run/x", None)}, {"server": None}, {}]

    assert [listener_of(connection, {9000: OPENPI}) for connection in connections] == [Listener()] * 4
