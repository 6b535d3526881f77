"""Request id, and a plain 500 for an unexpected error.

Knows no route and no problem but `internal`; the traceback goes to the log, never to the client.
"""

from __future__ import annotations

import re
import uuid
from logging import Logger

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stillframe.errors import Internal
from stillframe.web.http.problems import problem_response

_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")  # what has headers
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIdMiddleware:
    """Outermost ASGI middleware."""

    def __init__(self, app: ASGIApp, *, log: Logger):
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a new id, or the client's in X-Request-Id."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _id_from(Headers(scope=scope)) or uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        labelled = _SendWithId(send, request_id)
        if scope["type"] == "websocket":  # its route handles errors
            await self._app(scope, receive, labelled)
            return
        try:
            await self._app(scope, receive, labelled)
        except Exception:
            self._log.exception("request %s failed", request_id)
            if labelled.started:
                raise  # the response has begun: the server has to close the connection
            await _internal_error(Request(scope))(scope, receive, labelled)


class _SendWithId:
    """A `send` that adds X-Request-Id to the response."""

    def __init__(self, send: Send, request_id: str):
        self._send = send
        self._request_id = request_id
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] in _STARTS:
            self.started = True
            message.setdefault("headers", [])
            MutableHeaders(scope=message)["X-Request-Id"] = self._request_id
        await self._send(message)


def _id_from(headers: Headers) -> str | None:
    """Return the client's id, if it is short and safe to log."""
    given = headers.get("x-request-id", "")
    return given if _SAFE_ID.fullmatch(given) else None


def _internal_error(request: Request) -> ASGIApp:
    detail = "The daemon failed on this request; quote its id to the daemon's operator."
    return problem_response(Internal("internal", detail), request)
