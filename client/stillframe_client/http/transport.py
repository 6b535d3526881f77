"""An httpx transport over httpcore with the bounded network backend.

Knows no limit itself. httpx's own transport takes no network backend; this is the part of it that a client needs.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any, Iterator, Optional

import httpcore
import httpx

from stillframe_client.http.limits import CallLimits
from stillframe_client.http.network import BoundedBackend

KEPT_S = 60.0  # an idle connection; daemons keep theirs for longer


class BoundedTransport(httpx.BaseTransport):
    """HTTP/1.1 to one place, kept alive."""

    def __init__(self, limits: CallLimits, trust: Optional[ssl.SSLContext]):
        self._pool = httpcore.ConnectionPool(
            ssl_context=trust, keepalive_expiry=KEPT_S, network_backend=BoundedBackend(limits)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it and return the head of what comes back; the body is read on demand."""
        url = request.url
        asked = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _httpx_names():
            reply = self._pool.handle_request(asked)
        return httpx.Response(
            reply.status, headers=reply.headers, stream=_Body(reply.stream), extensions=reply.extensions
        )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """A body as it comes."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_names():
            yield from self._stream

    def close(self) -> None:
        self._stream.close()


@contextlib.contextmanager
def _httpx_names() -> Iterator[None]:
    """Raise httpcore's errors as httpx's of the same name."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise getattr(httpx, type(error).__name__, httpx.TransportError)(str(error)) from error
