"""What the daemon listens on: its sockets, TLS, and how far uvicorn trusts what comes in.

Knows the configuration and uvicorn; not what is served.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from stillframe.daemon.config import DaemonConfig, ListenerSettings, is_loopback
from stillframe.errors import ConfigError
from stillframe.transport.bounds import HEAD_BYTES, KEEP_ALIVE_S
from stillframe.transport.connections import ConnectionTable
from stillframe.transport.file_descriptors import connection_capacity
from stillframe.transport.http1 import HttpConnection
from stillframe.transport.websocket import WebSocketConnection
from stillframe.web.middleware.listeners import Listener

BACKLOG = 128  # connections accepted in one turn of the event loop
LEAVE_S = 1  # for connections to read the last answers, after draining
PING_EVERY_S, PONG_WITHIN_S = 20, 60  # a WebSocket peer that is silent for both is closed
UNREAD_S = 60  # a peer that acknowledges nothing for so long is closed; one that never reads would stay for ever
# TCP keepalive: idle seconds, seconds between probes, probes. A machine that lost power sends no FIN.
ALIVE_AFTER_S, ALIVE_EVERY_S, ALIVE_TRIES = 60, 15, 4


@dataclass(frozen=True)
class BoundSocket:
    """A listening socket and its address."""

    socket: socket.socket
    port: int  # as bound, where 0 was asked for
    address: str  # URL, for people
    listener: Listener


def bind_sockets(config: DaemonConfig) -> list[BoundSocket]:
    """Bind every port before the model loads, so that a taken port fails at once; the daemon's own is the first."""
    wanted = [(ListenerSettings(config.port), "--port"), *((listener, "port") for listener in config.listeners)]
    sockets: list[BoundSocket] = []
    with contextlib.ExitStack() as opened:  # closed again if one of them cannot be bound
        for listener, remedy in wanted:
            sockets.append(_bind_listener(config, listener, remedy))
            opened.callback(sockets[-1].socket.close)
        opened.pop_all()
    return sockets


def track_connections(config: DaemonConfig) -> ConnectionTable:
    """An empty connection table, bounded by the file descriptors that this process may open."""
    most, waiting = connection_capacity()
    return ConnectionTable(
        most, requests_per_s=config.requests_per_s, max_tarpitted=waiting, one_caller=config.one_caller
    )


def uvicorn_config(app: ASGIApp, config: DaemonConfig, connections: ConnectionTable | None = None) -> uvicorn.Config:
    """Configure uvicorn for `app`: it trusts no forwarding header and decompresses nothing."""
    connections = track_connections(config) if connections is None else connections
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a client could name any address in X-Forwarded-For, to the rate limit too
        http=cast("Any", partial(HttpConnection, table=connections)),
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws=cast("Any", partial(WebSocketConnection, table=connections)),
        ws_max_size=round(config.max_body_mib * 2**20),
        ws_ping_interval=PING_EVERY_S,
        ws_ping_timeout=PONG_WITHIN_S,  # a robot's link may be slow, and old openpi clients pause for long
        ws_per_message_deflate=False,  # pictures do not shrink, and compressed messages can be bombs
        ssl_certfile=config.tls_cert,
        ssl_keyfile=config.tls_key,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LEAVE_S,
    )


def _bind_listener(config: DaemonConfig, listener: ListenerSettings, remedy: str) -> BoundSocket:
    host = listener.host or config.host
    bound = _bind(host, listener.port, remedy)
    port = bound.getsockname()[1]
    scheme, shown = "http" if config.tls_cert is None else "https", f"[{host}]" if ":" in host else host
    what = Listener(listener.profile, listener.session, is_loopback(host))
    return BoundSocket(bound, port, f"{scheme}://{shown}:{port}", what)


def _bind(host: str, port: int, remedy: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol has to be named: asyncio switches Nagle's delay off (40 ms a reply) only where it reads TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _set_keepalive(bound)
    try:
        bound.bind((host, port))
        bound.listen(BACKLOG)  # two daemons can bind one port, but not listen on it
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {_bind_error(error, host, remedy)}") from error
    return bound


def _bind_error(error: OSError, host: str, remedy: str) -> str:
    """Explain a bind error: whether host or port is wrong, and what to change."""
    if isinstance(error, socket.gaierror):
        return f"there is no host {host!r} ({error.strerror}); use an address of this machine, such as 127.0.0.1"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host!r} is no address of this machine; use one that is, such as 127.0.0.1, or 0.0.0.0 for all"
    if error.errno == errno.EACCES:
        return f"{error.strerror}: ports below 1024 need a privilege; choose another {remedy}"
    return f"{error.strerror}; choose another {remedy}"


def _set_keepalive(bound: socket.socket) -> None:
    """Enable TCP keepalive and the unread timeout; accepted connections inherit them, on Linux all of them."""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {
        "TCP_USER_TIMEOUT": UNREAD_S * 1000,
        "TCP_KEEPIDLE": ALIVE_AFTER_S,
        "TCP_KEEPINTVL": ALIVE_EVERY_S,
        "TCP_KEEPCNT": ALIVE_TRIES,
    }
    for name, value in wanted.items():
        if hasattr(socket, name):
            bound.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
