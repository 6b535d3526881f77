"""Walks one posted frame over the web floor: body, fields, frame, policy, reply.

Knows no engine: it awaits an answer, and the event loop stays free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from stillframe.errors import TooMany
from stillframe.metrics import Outcome
from stillframe.stopwatch import Stopwatch
from stillframe.web.dialects.base import Answer, Dialect
from stillframe.web.dialects.select import Choose
from stillframe.web.http.body import read_body
from stillframe.web.http.codecs import Codec, codec_of
from stillframe.web.http.decode_pool import Unpacking
from stillframe.web.http.paths import segment
from stillframe.web.http.reply_metadata import report_headers
from stillframe.web.http.session_fields import Addressed, addressed
from stillframe.web.middleware.access import REST_S, actor_of, share_of
from stillframe.web.middleware.listeners import Listeners, listener_of
from stillframe.web.middleware.rate_limit import Key, Rates
from stillframe.web.service.frame_parser import Frame, Reader
from stillframe.web.service.inference import Acting

CLIENT_GONE = 499  # nobody reads it

T = TypeVar("T")


@dataclass(frozen=True)
class Act:
    """The routes that take frames, and what they need."""

    acting: Acting
    unpacking: Unpacking
    rates: Rates
    listeners: Listeners

    def route(self, choose: Choose) -> Callable[[Request], Awaitable[Response]]:
        """The handler of a route where `choose` tells the dialect."""

        async def act(request: Request) -> Response:
            """Answer one frame with its action."""
            return await self._walk(request, choose)

        return act

    async def _walk(self, request: Request, choose: Choose) -> Response:
        metrics, lifecycle = self.acting.metrics, self.acting.lifecycle
        with metrics.frame(request.scope["route"].path) as end:
            watch = Stopwatch()
            caller, share, policy = actor_of(request), share_of(request), lifecycle.ready_policy()
            terms = listener_of(request.scope, self.listeners).terms
            head = addressed(
                request,
                path_id=segment(request, "session_id"),
                fallback=listener_of(request.scope, self.listeners).session,
            )
            await self._paced((share, head.path_id or next(iter(head.ids), "")))
            reader = Reader(terms.over(policy.info), self.acting.limits)
            frame, codec = await self._frame(request, reader, head, choose, watch)
            session = self.acting.session(frame.named, caller.name, share) if frame.named else None
            answer = await unless_gone(request, self.acting.answer(frame, session, watch, end, share))
            if answer is None:
                end.outcome = Outcome.ABANDONED
                return Response(status_code=CLIENT_GONE)
            return _reply(answer, frame.dialect, codec)

    async def _paced(self, key: Key) -> None:
        """Raise TooMany for more frames than may be, after a while: so that a flood stays with its sender."""
        try:
            self.rates.allow(key)
        except TooMany:
            await asyncio.sleep(REST_S)
            raise

    async def _frame(
        self, request: Request, reader: Reader, head: Addressed, choose: Choose, watch: Stopwatch
    ) -> tuple[Frame, Codec]:
        content_type = request.headers.get("content-type", "")
        codec = codec_of(content_type)
        share = share_of(request)
        with self.unpacking.intake.room(share) as take:
            body = await read_body(request, reader.limits, take)
            watch.lap("receive")
            frame = await self.unpacking.run(share, _read, body, content_type, codec, reader, head, choose)
            watch.lap("unpack")
            return frame, codec


def _read(body: bytes, content_type: str, codec: Codec, reader: Reader, head: Addressed, choose: Choose) -> Frame:
    """Off the event loop: everything between the bytes and the frame."""
    fields = codec.read(body, content_type, reader.limits)
    dialect, fields = choose(fields, codec, reader.limits.max_json_parts)
    return reader.read(fields, dialect, head, blake2b(body, digest_size=16).digest())


def _reply(answer: Answer, dialect: Dialect, codec: Codec) -> Response:
    headers = {"Server-Timing": _server_timing(answer), **report_headers(answer.report)}
    if answer.replayed:
        headers["X-Stillframe-Replayed"] = "true"
    return Response(codec.write(dialect.write(answer)), headers=headers, media_type=codec.media_type)


def _server_timing(answer: Answer) -> str:
    parts = [f"{name};dur={duration_ms}" for name, duration_ms in answer.timing_ms.items()]
    return ", ".join([*parts, "late"] if answer.late else parts)


async def unless_gone(request: Request, answer: Coroutine[None, None, T]) -> T | None:
    """Await `answer`, but cancel it and return None as soon as the client has closed the connection."""
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    finally:
        answering.cancel()
        leaving.cancel()


async def _departure(request: Request) -> None:
    """Until the client of a request whose body was read has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
