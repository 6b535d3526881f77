"""Encoded slashes in a path: '%2F' in a session id does not split the segment.

Knows no session. The server decodes the path before routing; the raw path tells encoded slashes from others.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

_SLASH = "\uffff"  # not a character, so in no id: stands for an encoded slash during routing
_HELD = "stillframe.slashes_held"


class EncodedSlashes:
    """Innermost ASGI middleware."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Replace encoded slashes in the path before routing."""
        raw = (scope.get("raw_path") or b"").partition(b"?")[0].replace(b"%2f", b"%2F")
        if scope["type"] == "http" and b"%2F" in raw and _SLASH not in scope["path"]:
            held = "".join(part + _SLASH for part in map(_decoded, raw.split(b"%2F")))[: -len(_SLASH)]
            scope = {**scope, "path": held, _HELD: True}
        await self._app(scope, receive, send)


def path_parameter(request: Request, name: str) -> str | None:
    """Return a path parameter, with its slashes."""
    said: str | None = request.path_params.get(name)
    return said.replace(_SLASH, "/") if said is not None and request.scope.get(_HELD) else said


def display_path(request: HTTPConnection, longest: int) -> str:
    """Return the beginning of a request's path, percent-encoded."""
    path = quote(request.url.path[:longest])
    return path.replace(quote(_SLASH), "%2F") if request.scope.get(_HELD) else path


def _decoded(part: bytes) -> str:
    return unquote(part.decode("latin-1"))
