"""Stands before every route and every WebSocket: lets in who may ask, and says who it is.

Knows no route but those that anybody may ask; reads no body. What a caller may do is the routes' question (`require`).
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from stillframe.errors import RequestError, Unauthorized
from stillframe.web.guard.callers import NOBODY, Caller, Callers, Scope, require
from stillframe.web.guard.origins import Origins
from stillframe.web.problems import problem_response
from stillframe_client.wire import POLICY

HEALTH_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/health"})  # a probe has no token


class Gate:
    """ASGI middleware, inside the envelope. A refusal is a problem; a WebSocket gets it instead of the upgrade."""

    def __init__(self, app: ASGIApp, *, callers: Callers, origins: Origins, open_paths: Collection[str] = HEALTH_PATHS):
        self._app = app
        self._callers = callers
        self._origins = origins
        self._open_paths = open_paths

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Pass on what is let in, with its caller beside it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        try:
            caller = self._admitted(scope)
        except RequestError as error:
            await _refuse(error, scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    def _admitted(self, scope: ASGIScope) -> Caller:
        """Return who asks, or raise Forbidden, Unauthorized or BadRequest."""
        headers = Headers(scope=scope)
        self._origins.check(scope, headers)
        if scope["type"] == "http" and scope["path"] in self._open_paths:
            return NOBODY
        return self._callers.identify(headers)


def caller_of(connection: HTTPConnection) -> Caller:
    """Return who asks: a request or a WebSocket that came through the gate."""
    caller: Caller = connection.state.caller
    return caller


def actor_of(connection: HTTPConnection) -> Caller:
    """Return who asks, if they may have a robot moved; raise Forbidden."""
    caller = caller_of(connection)
    require(caller, Scope.ACT)
    return caller


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
