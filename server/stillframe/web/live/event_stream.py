"""A response of server-sent events that goes on until the client leaves or the daemon drains.

Knows ASGI; not what an event says. The next event is made when the last one was taken: a slow client gets fewer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx passes events on as they come
    "X-Content-Type-Options": "nosniff",
}

LAST_EVENT_S = 1.0  # for a client to take the event under way, when all has to end

Events = Callable[[asyncio.Event], AsyncGenerator[bytes]]


def event(name: str, document: Any) -> bytes:
    """One event; `document` is a value, or JSON that is made already."""
    text = document if isinstance(document, str) else json.dumps(document)
    return f"event: {name}\ndata: {text}\n\n".encode()


class EventStream(Response):
    """`admit` is entered while it lasts and may refuse; `events` gets an event that is set when they have to end."""

    media_type = "text/event-stream"

    def __init__(self, admit: Callable[[], AbstractContextManager[asyncio.Event]], events: Events):
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._admit = admit
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's shape)
        """Send events. Raises what `admit` raises, before anything is sent."""
        with self._admit() as draining:
            ended = asyncio.Event()
            stream = asyncio.ensure_future(self._stream(send, ended))
            watches = [asyncio.ensure_future(_departure(receive)), asyncio.ensure_future(draining.wait())]
            try:
                await asyncio.wait([stream, *watches], return_when=asyncio.FIRST_COMPLETED)
                ended.set()
                await asyncio.wait([stream], timeout=LAST_EVENT_S)
                if stream.done():
                    stream.result()
            finally:
                for task in (stream, *watches):
                    task.cancel()

    async def _stream(self, send: Send, ended: asyncio.Event) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._events(ended)) as events:
            async for chunk in events:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
