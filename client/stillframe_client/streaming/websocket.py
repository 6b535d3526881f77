"""Opens WebSockets with any supported release of `websockets`, and maps its errors to PolicyErrors.

Knows no message. Releases from 13 on have a new asyncio client; 11 and 12 have what they now call the legacy one.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import ssl
from dataclasses import replace
from typing import Any, Dict, Mapping, Optional, Union

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from stillframe_client.arguments import STREAM_PATH, daemon_url
from stillframe_client.errors import BadReply, PolicyError, Problem, Unreachable, WireError, refusal
from stillframe_client.http.tls import untrusted
from stillframe_client.replies import read_problem
from stillframe_client.streaming.incoming import Close
from stillframe_client.wire import MSGPACK_PROTOCOL, PackLimits, read_json

MAX_ANSWER_BYTES = 4 * 2**20  # an action has some hundred bytes, a model's card some thousand
PING_EVERY_S = 20.0
PING_TIMEOUT_S = 60.0  # a daemon whose every thread computes may be that slow to answer
CLOSE_TIMEOUT_S = 1.0

POLICY_STATUS = 403  # also of a path that has no stream: the servers' word for it

_BY_STATUS: Mapping[int, Problem] = {
    401: Problem(401, "unauthorized", "The daemon wants a token, and this is none of its own: pass token=."),
    403: Problem(403, "forbidden", "The daemon does not let this client in."),
    429: Problem(429, "rate-limited", "The daemon has too many connections from here."),
    503: Problem(503, "not-ready", "The daemon is not ready."),
}


class Dropped(Exception):
    """The connection is gone. Never raised to callers."""

    def __init__(self, close: Close):
        super().__init__(str(close))
        self.close = close


class Socket:
    """An open WebSocket, of any release."""

    def __init__(self, connection: Any):
        self._connection = connection

    async def send(self, data: bytes) -> None:
        """Send one binary message. Raises Dropped."""
        try:
            await self._connection.send(data)
        except ConnectionClosed as error:
            raise Dropped(_close_of(error)) from error

    async def receive(self) -> Union[bytes, str]:
        """Wait for the next message. Raises Dropped."""
        try:
            data: Union[bytes, str] = await self._connection.recv()
        except ConnectionClosed as error:
            raise Dropped(_close_of(error)) from error
        return data

    async def close(self) -> None:
        """Close handshake within CLOSE_TIMEOUT_S, then abort."""
        try:
            with contextlib.suppress(asyncio.TimeoutError, ConnectionClosed, OSError):
                await asyncio.wait_for(self._connection.close(), CLOSE_TIMEOUT_S)
        finally:
            self._connection.transport.abort()  # else it would wait for a peer that does not read, for ever


async def dial(url: str, *, headers: Mapping[str, str], trust: Optional[ssl.SSLContext], timeout_s: float) -> Socket:
    """Open a WebSocket. Raises Unreachable where another try may help, else the Refused or BadReply that it is."""
    connect, options = _client()
    options["extra_headers" if "extra_headers" in options else "additional_headers"] = dict(headers)
    if trust is not None:
        options["ssl"] = trust
    try:
        return Socket(await connect(url, open_timeout=timeout_s, **options))
    except InvalidHandshake as error:
        raise _refused(error, url) from error
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise Unreachable(f"No connection to {url} within {timeout_s} s: check the address.") from error
    except ssl.SSLError as error:
        raise Unreachable(untrusted(error, url)) from error
    except (OSError, EOFError, ConnectionClosed) as error:
        message = f"Nothing answers at {url}: is the daemon running (`stillframe serve`), is the port right?"
        raise Unreachable(message) from error
    except Exception as error:
        raise unreadable(error) from error


def unreadable(error: Exception) -> BadReply:
    """BadReply for input that the library or Python rejected."""
    return BadReply(f"What answers there sent what cannot be read as a stream ({type(error).__name__}).")


def _client() -> Any:
    """The installed release's connect, and its options."""
    try:
        client: Any = importlib.import_module("websockets.asyncio.client").connect
    except ImportError:
        client = importlib.import_module("websockets.legacy.client").connect
    options: Dict[str, Any] = {
        "subprotocols": [MSGPACK_PROTOCOL],
        "compression": None,  # pictures do not compress, and it costs CPU on the robot
        "max_size": MAX_ANSWER_BYTES,
        "ping_interval": PING_EVERY_S,
        "ping_timeout": PING_TIMEOUT_S,
        "close_timeout": CLOSE_TIMEOUT_S,
    }
    known = inspect.signature(client.__init__).parameters
    if "proxy" in known:  # from 15 on: no proxy from the environment
        options["proxy"] = None
    if "extra_headers" in known:
        options["extra_headers"] = {}

    class Straight(client):  # type: ignore[misc]  # a class of whichever release
        """Follows no redirect: the token and the pictures are for the address that was given."""

        def process_redirect(self, error: Exception) -> Exception:
            return error

        def handle_redirect(self, uri: str) -> None:  # noqa: ARG002 (the legacy client's method)
            raise InvalidHandshake("a redirect")

    return Straight, options


def _refused(error: InvalidHandshake, url: str) -> PolicyError:
    """The error for an upgrade that was refused."""
    response = getattr(error, "response", None)  # the legacy client's error has the status itself, and no body
    status = getattr(response, "status_code", None) or getattr(error, "status_code", None)
    if status is None:
        tls = "; if it speaks TLS, use wss:// or https://" if url.startswith("ws://") else ""
        return Unreachable(f"The connection to {url} broke before it was one: is the daemon up, is that its port{tls}?")
    problem = _problem(status, getattr(response, "body", None))
    if problem is not None:
        return refusal(problem)
    known = _BY_STATUS.get(status)
    if known is None:
        return BadReply(
            f"HTTP {status} instead of a stream at {url}: is that a stillframe daemon's address?{_path(url)}"
        )
    return refusal(replace(known, detail=known.detail + _path(url)) if status == POLICY_STATUS else known)


def _path(url: str) -> str:
    """A hint where the address has a path that may not belong there."""
    path = httpx.URL(url).path
    if path == STREAM_PATH:
        return ""
    return f" There may be no stream at {path!r}: give the daemon's own address, such as {daemon_url(url)!r}."


def _problem(status: int, body: Optional[bytes]) -> Optional[Problem]:
    """The problem document in a response, if there is one."""
    try:
        document = read_json(body or b"", PackLimits(), dict)
    except WireError:
        return None
    if not isinstance(document, dict) or not isinstance(document.get("code"), str):
        return None
    request_id = document.get("request_id")
    return read_problem(document, status, request_id if isinstance(request_id, str) else None, None)


def _close_of(error: ConnectionClosed) -> Close:
    """The close frame of the end that closed first."""
    by_us = error.rcvd is None or error.rcvd_then_sent is False
    frame = error.sent if by_us else error.rcvd
    return Close() if frame is None else Close(int(frame.code), frame.reason, by_us=by_us)
