"""The pages' files, read once and served by exact name: no path of a request reaches the disk.

Knows files and headers; not what the pages show. Everything comes from here: the pages load nothing from elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PAGES = {"/": "live.html", "/live": "live.html", "/docs": "docs.html"}  # at one level, so that relative URLs agree


@dataclass(frozen=True)
class StaticFile:
    """One file, in memory."""

    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        """Changes with the content."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    async def answer(self, request: Request) -> Response:
        """Answer with it, or 304 where the browser has it."""
        headers = HEADERS | {"ETag": self.etag}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)


@cache
def load_pages() -> Mapping[str, StaticFile]:
    """Read all files, once in a process; path of the URL -> file. None of them holds anything of a deployment."""
    files = {
        file.name: StaticFile(file.read_bytes(), MEDIA_TYPES[file.suffix])
        for file in sorted(FOLDER.iterdir())
        if file.suffix in MEDIA_TYPES
    }
    parts = {f"/live/static/{name}": file for name, file in files.items() if not name.endswith(".html")}
    return MappingProxyType({path: files[name] for path, name in PAGES.items()} | parts)
