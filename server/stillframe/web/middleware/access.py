"""Stands before every route and every WebSocket: lets in who may ask, and says who it is.

Knows no route but those that anybody may ask; reads no body. What a caller may do is the routes' question (`require`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as ASGIScope

from stillframe.errors import RequestError, TooMany, Unauthorized
from stillframe.web.http.problems import problem_response
from stillframe.web.middleware.addresses import address_of
from stillframe.web.middleware.auth import ANONYMOUS, NOBODY, Caller, Callers, Scope, require
from stillframe.web.middleware.origins import Origins
from stillframe.web.middleware.rate_limit import Rates
from stillframe_client.wire import POLICY

REFUSED_COST = 10.0  # requests that one counts as more if it is refused: it cost more than it gave
REFUSED = frozenset({400, 401, 403, 404, 405, 413, 422, 503})
REST_S = 0.25  # until one that asks too often is told so: a flood stays with its sender
TOKEN = "token:"  # noqa: S105 (before a token's name, which could look like an address)
HEALTH_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/health"})  # a probe has no token


class Gate:
    """ASGI middleware, inside the envelope. A refusal is a problem; a WebSocket gets it instead of the upgrade."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        callers: Callers,
        origins: Origins,
        requests: Rates | None = None,
        open_paths: Collection[str] = HEALTH_PATHS,
    ):
        """`requests`: how often one caller may ask anything, None: any number; who is not let in counts by address."""
        self._app = app
        self._callers = callers
        self._origins = origins
        self._requests = requests or Rates()
        self._open_paths = open_paths

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Pass on what is let in, with its caller beside it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        try:
            self._admit(scope)
        except RequestError as error:
            if isinstance(error, TooMany):
                await asyncio.sleep(REST_S)
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, _Charging(send, self._requests, scope["state"]["share"]))

    def _admit(self, scope: ASGIScope) -> None:
        """Write down who asks, and whose share of what is shared that is. Raises RequestError."""
        address = address_of(peer_of(HTTPConnection(scope)))
        try:
            caller = self._identified(scope)
        except RequestError:
            self._requests.allow((address,))
            self._requests.charge((address,), REFUSED_COST)
            raise
        share = address if caller in (ANONYMOUS, NOBODY) else f"{TOKEN}{caller.name}"
        self._requests.allow((share,))
        scope.setdefault("state", {}).update(caller=caller, share=share)

    def _identified(self, scope: ASGIScope) -> Caller:
        """Return who asks, or raise Forbidden, Unauthorized or BadRequest."""
        headers = Headers(scope=scope)
        self._origins.check(scope, headers)
        if scope["type"] == "http" and scope["path"] in self._open_paths:
            return NOBODY
        return self._callers.identify(headers)


async def pace(error: RequestError, requests: Rates, share: str) -> None:
    """Charge a caller of a stream for a message that was refused; leave it unread a while where it asks too often."""
    if error.status in REFUSED:
        requests.charge((share,), REFUSED_COST)
    if isinstance(error, TooMany):
        await asyncio.sleep(REST_S)


class _Charging:
    """A `send` that charges a caller for what it was refused, an upgrade in particular."""

    def __init__(self, send: Send, requests: Rates, share: str):
        self._send, self._requests, self._share = send, requests, share

    async def __call__(self, message: Message) -> None:
        kind, status = message["type"], message.get("status")
        if kind == "websocket.http.response.start" or (kind == "http.response.start" and status in REFUSED):
            self._requests.charge((self._share,), REFUSED_COST)
        await self._send(message)


def caller_of(connection: HTTPConnection) -> Caller:
    """Return who asks: a request or a WebSocket that came through the gate."""
    caller: Caller = connection.state.caller
    return caller


def actor_of(connection: HTTPConnection) -> Caller:
    """Return who asks, if they may have a robot moved; raise Forbidden."""
    caller = caller_of(connection)
    require(caller, Scope.ACT)
    return caller


def share_of(connection: HTTPConnection) -> str:
    """Return whose share of what callers share a request takes of: its token's, or without one its address'."""
    share: str = connection.state.share
    return share


def peer_of(connection: HTTPConnection) -> str:
    """Return the address of the other end."""
    return connection.client.host if connection.client else ""


async def _refuse(error: RequestError, scope: ASGIScope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": POLICY})  # a server that can say no more than 403
        return
    response = problem_response(error, Request({**scope, "type": "http"}))  # of an upgrade: an HTTP request as well
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    await response(scope, receive, send)
