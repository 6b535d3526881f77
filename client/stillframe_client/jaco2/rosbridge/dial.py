"""Opens a WebSocket with the threads' client of any supported release of `websockets`.

Knows no message. Releases differ in their options: keep-alive pings, proxies and the way to ask for one connection came
later than 11, so they are turned off where they exist, and the pings are this room's own (outbox.py).
"""

from __future__ import annotations

import contextlib
import inspect
import socket
from typing import Any, Dict, Tuple
from urllib.parse import urlsplit

from websockets.exceptions import InvalidHandshake
from websockets.sync.client import connect

CLOSE_TIMEOUT_S = 0.5
PORT = 80


class RosbridgeError(Exception):
    """rosbridge_server cannot be reached or refused a call; the text says what was expected and what to do."""


def address(url: str) -> Tuple[str, int]:
    """Host and port of an address. Raises RosbridgeError for one that is no ws:// address."""
    parts = urlsplit(url)
    if parts.scheme == "wss":
        raise RosbridgeError(
            f"arm.url is {url!r}; TLS is not spoken here, since two threads use the connection, which Python before "
            "3.13 does not guard: forward the port instead (ssh -L 9090:127.0.0.1:9090 ROBOT) and take ws://127.0.0.1:9090"
        )
    with contextlib.suppress(ValueError):
        if parts.scheme == "ws" and parts.hostname:
            return parts.hostname, parts.port or PORT
    raise RosbridgeError(f"arm.url is {url!r}; expected the address of rosbridge_server, such as ws://127.0.0.1:9090")


def dial(url: str, timeout_s: float, max_bytes: int) -> Any:
    """An open connection, its socket without Nagle's delay. Raises RosbridgeError."""
    host_port = address(url)
    where = f"rosbridge at {url}"
    try:
        raw = socket.create_connection(host_port, timeout_s)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.settimeout(None)
        return connect(url, sock=raw, **_options(timeout_s, max_bytes))
    except InvalidHandshake as error:
        raise RosbridgeError(f"{where}: what answers is no rosbridge_server ({error}): is that its port?") from error
    except (OSError, EOFError) as error:
        raise RosbridgeError(
            f"{where}: no connection ({error}): is rosbridge_server running, is the port right?"
        ) from (error)
    except Exception as error:
        raise RosbridgeError(f"{where}: no connection ({type(error).__name__}: {error})") from error


def abort(connection: Any) -> None:
    """Break it at once, whatever either side still has to send."""
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


def _options(timeout_s: float, max_bytes: int) -> Dict[str, Any]:
    known = inspect.signature(connect).parameters
    wanted: Dict[str, Any] = {
        "compression": None,  # small messages, and pictures that are compressed already
        "open_timeout": timeout_s,
        "close_timeout": CLOSE_TIMEOUT_S,
        "max_size": max_bytes,
        "ping_interval": None,
        "proxy": None,
        "legacy": True,  # one connection: it is made anew here
    }
    return {name: value for name, value in wanted.items() if name in known}
