"""Absolute-form request targets: 'GET http://host:8000/livez', as clients behind a proxy send.

Knows no route. Servers must accept this form (RFC 9112, 3.2.2); its authority replaces the header Host.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_ABSOLUTE = re.compile(rb"(?:https?|wss?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


class AbsoluteFormMiddleware:
    """ASGI middleware, outside all that read the path or Host."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on in origin form."""
        if scope["type"] in {"http", "websocket"} and (match := _ABSOLUTE.fullmatch(scope.get("raw_path") or b"")):
            authority, raw_path = match[1], match[2] or b"/"
            headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = {
                **scope,
                "raw_path": raw_path,
                "path": unquote(raw_path.decode("latin-1")),
                "headers": [(b"host", authority), *headers],
            }
        await self._app(scope, receive, send)
