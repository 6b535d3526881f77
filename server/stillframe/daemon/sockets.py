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

BACKLOG = 128  # connections that may wait to be accepted: as many are in one turn of the event loop
LEAVE_S = 1  # what connections get to take the last answers; what is drained has been answered by then
PING_EVERY_S, PONG_WITHIN_S = 20, 60  # a WebSocket's other end that is silent for both is gone
UNREAD_S = 60  # whoever takes in nothing of what was sent for so long is gone: else who never reads stays for ever
# TCP's own sign of life, in seconds of silence, seconds between tries, and tries: a machine that lost its power says no
# goodbye.
ALIVE_AFTER_S, ALIVE_EVERY_S, ALIVE_TRIES = 60, 15, 4


@dataclass(frozen=True)
class Door:
    """One port that is listened on."""

    socket: socket.socket
    port: int  # the one it got, where it asked for any
    address: str  # where clients reach it, for people
    listener: Listener


def open_doors(config: DaemonConfig) -> list[Door]:
    """Bind every port before anything loads, so that a taken one is known at once; the daemon's own is the first."""
    wanted = [(ListenerSettings(config.port), "--port"), *((listener, "port") for listener in config.listeners)]
    doors: list[Door] = []
    with contextlib.ExitStack() as opened:  # closed again if one of them cannot be had
        for listener, remedy in wanted:
            doors.append(_door(config, listener, remedy))
            opened.callback(doors[-1].socket.close)
        opened.pop_all()
    return doors


def open_book(config: DaemonConfig) -> ConnectionTable:
    """The book of the connections that there will be, as many as this process can have open."""
    most, waiting = connection_capacity()
    return ConnectionTable(
        most, requests_per_s=config.requests_per_s, max_tarpitted=waiting, one_caller=config.one_caller
    )


def uvicorn_config(app: ASGIApp, config: DaemonConfig, book: ConnectionTable | None = None) -> uvicorn.Config:
    """How uvicorn serves `app`: nothing of a request is believed or unpacked before the app has seen it."""
    book = open_book(config) if book is None else book
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who writes X-Forwarded-For would be whom they like, to the rate limit too
        http=cast("Any", partial(HttpConnection, table=book)),
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws=cast("Any", partial(WebSocketConnection, table=book)),
        ws_max_size=round(config.max_body_mib * 2**20),
        ws_ping_interval=PING_EVERY_S,
        ws_ping_timeout=PONG_WITHIN_S,  # a robot's link may be slow, and old clients of openpi pause for long
        ws_per_message_deflate=False,  # pictures do not shrink, and what unpacks can be a bomb
        ssl_certfile=config.tls_cert,
        ssl_keyfile=config.tls_key,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LEAVE_S,
    )


def _door(config: DaemonConfig, listener: ListenerSettings, remedy: str) -> Door:
    host = listener.host or config.host
    bound = _bound(host, listener.port, remedy)
    port = bound.getsockname()[1]
    scheme, shown = "http" if config.tls_cert is None else "https", f"[{host}]" if ":" in host else host
    what = Listener(listener.profile, listener.session, is_loopback(host))
    return Door(bound, port, f"{scheme}://{shown}:{port}", what)


def _bound(host: str, port: int, remedy: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol has to be named: asyncio switches Nagle's delay off (40 ms a reply) only where it reads TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _watch_the_other_end(bound)
    try:
        bound.bind((host, port))
        bound.listen(BACKLOG)  # two daemons can bind one port, but not listen on it
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {_trouble(error, host, remedy)}") from error
    return bound


def _trouble(error: OSError, host: str, remedy: str) -> str:
    """What is wrong, and whether host or port is to blame."""
    if isinstance(error, socket.gaierror):
        return f"there is no host {host!r} ({error.strerror}); use an address of this machine, such as 127.0.0.1"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host!r} is no address of this machine; use one that is, such as 127.0.0.1, or 0.0.0.0 for all"
    if error.errno == errno.EACCES:
        return f"{error.strerror}: ports below 1024 need a privilege; choose another {remedy}"
    return f"{error.strerror}; choose another {remedy}"


def _watch_the_other_end(bound: socket.socket) -> None:
    """Have the system notice who is gone without a word; the connections inherit it, on Linux all of it."""
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
