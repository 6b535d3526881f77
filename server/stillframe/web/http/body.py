"""Read a request's body, within limits of bytes and time.

Knows no codec: bytes out. Never keeps more than the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request

from stillframe.errors import BadRequest, TooLarge
from stillframe.web.http.limits import Limits


async def read_body(request: Request, limits: Limits, count: Callable[[int], None]) -> bytes:
    """Read a request's whole body; `count` is called with each part's bytes.

    Raises TooLarge (body-too-large) from the announced length or as soon as the streamed bytes exceed it, BadRequest
    (bad-codec) for a compressed one, BadRequest (body-timeout) when it trickles or breaks off, and what `count` raises.
    """
    _check_plain(request)
    _check_announced(request, limits.max_body_bytes)
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            return await _collect(request, limits.max_body_bytes, count)
    except TimeoutError as error:
        raise BadRequest("body-timeout", f"The body took over {limits.body_timeout_s:g} s to arrive.") from error
    except ClientDisconnect as error:
        raise BadRequest("body-timeout", "The connection closed before the body was complete.") from error


def _check_plain(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadRequest("bad-codec", "The body is compressed; send it as it is: pictures do not shrink twice.")


def _check_announced(request: Request, max_bytes: int) -> None:
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal():
        raise BadRequest("bad-codec", "Content-Length is not a number of bytes.")
    if len(announced) > 18 or int(announced) > max_bytes:
        raise _too_large(max_bytes)


async def _collect(request: Request, max_bytes: int, count: Callable[[int], None]) -> bytes:
    body = bytearray()
    async for part in request.stream():
        if len(body) + len(part) > max_bytes:
            raise _too_large(max_bytes)
        count(len(part))
        body += part
    return bytes(body)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge("body-too-large", f"The body has more than {max_bytes} bytes; send JPEG or a smaller picture.")
