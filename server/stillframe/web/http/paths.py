"""Lets an id with a slash in it be one segment of a path, as its Location has it: '%2F' there divides nothing.

Knows no session. The server has decoded the path before it is routed; its bytes as they came say which slash is which.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

_SLASH = "\uffff"  # no character, so no id has it: stands for a slash inside a segment while the path is routed
_HELD = "stillframe.slashes_held"


class WholeSegments:
    """ASGI middleware, next to the routes."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold the encoded slashes of a request's path back from its routing."""
        raw = (scope.get("raw_path") or b"").partition(b"?")[0].replace(b"%2f", b"%2F")
        if scope["type"] == "http" and b"%2F" in raw and _SLASH not in scope["path"]:
            held = "".join(part + _SLASH for part in map(_decoded, raw.split(b"%2F")))[: -len(_SLASH)]
            scope = {**scope, "path": held, _HELD: True}
        await self._app(scope, receive, send)


def segment(request: Request, name: str) -> str | None:
    """A parameter of the request's path, with its slashes."""
    said: str | None = request.path_params.get(name)
    return said.replace(_SLASH, "/") if said is not None and request.scope.get(_HELD) else said


def shown(request: HTTPConnection, longest: int) -> str:
    """The beginning of a request's path, as an address."""
    path = quote(request.url.path[:longest])
    return path.replace(quote(_SLASH), "%2F") if request.scope.get(_HELD) else path


def _decoded(part: bytes) -> str:
    return unquote(part.decode("latin-1"))
