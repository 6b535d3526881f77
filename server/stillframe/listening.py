"""What the daemon listens on: its sockets, TLS, and how far uvicorn trusts what comes in.

Knows the configuration and uvicorn; not what is served.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from stillframe.config import DaemonConfig, ListenerSettings, is_loopback
from stillframe.errors import ConfigError
from stillframe.web.guard.listeners import Listener

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

BACKLOG = 2048  # connections that may wait to be accepted; uvicorn's own figure
LEAVE_S = 1  # what connections get to take the last answers; what is drained has been answered by then
HEAD_BYTES = 16 * 2**10  # of a request's line and headers
INVALID_TEXT = 1007  # RFC 6455, 7.4.1
PING_EVERY_S, PONG_WITHIN_S = 20, 60  # a WebSocket's other end that is silent for both is gone
UNREAD_S = 60  # whoever takes in nothing of what was sent for so long is gone: else who never reads stays for ever


@dataclass(frozen=True)
class Door:
    """One port that is listened on."""

    socket: socket.socket
    port: int  # the one it got, where it asked for any
    address: str  # where clients reach it, for people
    listener: Listener


class WebSockets(WebSocketsSansIOProtocol):
    """uvicorn's, which logs nothing as an error that is only its client's: anybody could fill the log.

    uvicorn 0.54 does so with an upgrade that was refused with a response, which its pull request 3138 mends, and with
    text that is no UTF-8. With a version that does neither, `ws="websockets-sansio"` will do.
    """

    async def send(self, message: ASGISendEvent) -> None:
        """Pass on what the app sends."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True

    def send_receive_event_to_app(self) -> None:
        """Pass on a message that has come whole; text that is none ends the connection."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_text(b"".join(self.frames)):
            self.frames = []
            self.conn.send_close(INVALID_TEXT)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()


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


def uvicorn_config(app: ASGIApp, config: DaemonConfig) -> uvicorn.Config:
    """How uvicorn serves `app`: nothing of a request is believed or unpacked before the app has seen it."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who writes X-Forwarded-For would be whom they like, to the rate limit too
        http="h11",  # whose heads have a limit; `auto` takes what happens to be installed
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws=WebSockets,
        ws_max_size=round(config.max_body_mib * 2**20),
        ws_ping_interval=PING_EVERY_S,
        ws_ping_timeout=PONG_WITHIN_S,  # a robot's link may be slow, and old clients of openpi pause for long
        ws_per_message_deflate=False,  # pictures do not shrink, and what unpacks can be a bomb
        ssl_certfile=config.tls_cert,
        ssl_keyfile=config.tls_key,
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
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; the connections inherit it
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1000)
    try:
        bound.bind((host, port))
        bound.listen(BACKLOG)  # two daemons can bind one port, but not listen on it
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; choose another {remedy}") from error
    return bound


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
