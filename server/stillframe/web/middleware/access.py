"""Access control before every route and WebSocket: origin check, authentication, rate limit.

Knows no route but those that need no token; reads no body. Scopes are checked by the routes (`require`).
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as ASGIScope

from stillframe.domain import TokenScope
from stillframe.errors import RequestError, Unauthorized
from stillframe.web.http.problems import problem_response
from stillframe.web.middleware.addresses import client_network
from stillframe.web.middleware.auth import ANONYMOUS, UNIDENTIFIED, Authenticator, Caller, require
from stillframe.web.middleware.origins import HostOriginCheck
from stillframe.web.middleware.rate_limit import RateLimiter, throttle
from stillframe_client.wire import POLICY

REFUSED_COST = 10.0  # further requests that a refused one is charged as
REFUSED_STATUSES = frozenset({400, 401, 403, 404, 405, 413, 422, 503})
TOKEN_PREFIX = "token:"  # noqa: S105 (a prefix of a token's name, which could look like an address)
HEALTH_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/health"})  # a probe has no token


class AccessMiddleware:
    """ASGI middleware, inside RequestIdMiddleware. A refusal is answered with a problem, an upgrade's too."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticator: Authenticator,
        origins: HostOriginCheck,
        request_limiter: RateLimiter | None = None,
        open_paths: Collection[str] = HEALTH_PATHS,
    ):
        """`request_limiter`: of each caller's requests of any kind, None: no limit; unauthenticated ones by address."""
        self._app = app
        self._callers = authenticator
        self._origins = origins
        self._request_limiter = request_limiter or RateLimiter()
        self._open_paths = open_paths

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Pass an admitted request on, with its caller in the scope's state."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        try:
            self._admit(scope)
        except RequestError as error:
            await throttle(error)
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, _ChargingSend(send, self._request_limiter, scope["state"]["share"]))

    def _admit(self, scope: ASGIScope) -> None:
        """Put the caller and its share key into the scope's state. Raises RequestError."""
        address = client_network(peer_of(HTTPConnection(scope)))
        try:
            caller = self._authenticate(scope)
        except RequestError:
            self._request_limiter.acquire((address,))
            self._request_limiter.charge((address,), REFUSED_COST)
            raise
        share = address if caller in (ANONYMOUS, UNIDENTIFIED) else f"{TOKEN_PREFIX}{caller.name}"
        self._request_limiter.acquire((share,))
        scope.setdefault("state", {}).update(caller=caller, share=share)

    def _authenticate(self, scope: ASGIScope) -> Caller:
        """Return the caller. Raises Forbidden, Unauthorized or BadRequest."""
        headers = Headers(scope=scope)
        self._origins.check(scope, headers)
        if scope["type"] == "http" and scope["path"] in self._open_paths:
            return UNIDENTIFIED
        return self._callers.authenticate(headers)


async def penalize(error: RequestError, request_limiter: RateLimiter, share: str) -> None:
    """Charge a stream's caller for a refused message; leave the stream unread a while where it is over its rate."""
    if error.status in REFUSED_STATUSES:
        request_limiter.charge((share,), REFUSED_COST)
    await throttle(error)


class _ChargingSend:
    """A `send` that charges a caller for a refused request or upgrade."""

    def __init__(self, send: Send, request_limiter: RateLimiter, share: str):
        self._send, self._request_limiter, self._share = send, request_limiter, share

    async def __call__(self, message: Message) -> None:
        kind, status = message["type"], message.get("status")
        if kind == "websocket.http.response.start" or (kind == "http.response.start" and status in REFUSED_STATUSES):
            self._request_limiter.charge((self._share,), REFUSED_COST)
        await self._send(message)


def caller_of(connection: HTTPConnection) -> Caller:
    """Return the caller of a request or WebSocket that AccessMiddleware admitted."""
    caller: Caller = connection.state.caller
    return caller


def actor_of(connection: HTTPConnection) -> Caller:
    """Return the caller if it has the scope `act`; raise Forbidden."""
    caller = caller_of(connection)
    require(caller, TokenScope.ACT)
    return caller


def session_manager_of(connection: HTTPConnection) -> Caller:
    """Return the caller if it may see and end sessions: with the scope `admin` or `act`. Raises Forbidden.

    Opening, resetting and sending frames need `act`: they move a robot.
    """
    caller = caller_of(connection)
    if not caller.may(TokenScope.ADMIN):
        require(caller, TokenScope.ACT)
    return caller


def owner_visible(caller: Caller) -> str | None:
    """Return the owner whose sessions a caller may see: its own name; None: any owner's, to an admin."""
    return None if caller.may(TokenScope.ADMIN) else caller.name


def owner_asked(connection: HTTPConnection, caller: Caller) -> str | None:
    """Return the owner of the session that is asked for: the caller; of an admin the one in ?owner=, or None: any."""
    return connection.query_params.get("owner") if caller.may(TokenScope.ADMIN) else caller.name


def share_of(connection: HTTPConnection) -> str:
    """Return the key under which a caller's share of common resources is counted: its token, else its address."""
    share: str = connection.state.share
    return share


def peer_of(connection: HTTPConnection) -> str:
    """Return the address of the other end."""
    return connection.client.host if connection.client else ""


async def _refuse(error: RequestError, scope: ASGIScope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": POLICY})  # this server can only answer 403
        return
    response = problem_response(error, Request({**scope, "type": "http"}))  # an upgrade is an HTTP request too
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    await response(scope, receive, send)
