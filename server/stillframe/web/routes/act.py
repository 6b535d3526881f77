"""POST a frame: read the body, parse it, run inference, reply.

Knows no engine: awaits a future, so the event loop stays free.
"""

from __future__ import annotations

import asyncio
import reprlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from stillframe.errors import BadRequest, TooMany
from stillframe.metrics import Outcome
from stillframe.stopwatch import Stopwatch
from stillframe.web.dialects.base import Dialect, Reply
from stillframe.web.dialects.select import Selector, with_whole_chunks
from stillframe.web.http.body import read_body
from stillframe.web.http.codecs import Codec, codec_of
from stillframe.web.http.decode_pool import DecodePool
from stillframe.web.http.paths import path_parameter
from stillframe.web.http.problems import request_id_of
from stillframe.web.http.reply_metadata import report_headers
from stillframe.web.http.session_fields import RequestAddress, read_address
from stillframe.web.middleware.access import actor_of, share_of
from stillframe.web.middleware.listeners import Listeners, listener_of
from stillframe.web.middleware.rate_limit import Key, RateLimiter, throttle
from stillframe.web.service.frame_parser import FrameParser, ParsedFrame
from stillframe.web.service.inference import InferenceService
from stillframe_client.wire import CHUNK_HEADER, WHOLE_CHUNK

CLIENT_GONE = 499  # for logs: the connection is closed

T = TypeVar("T")


@dataclass(frozen=True)
class ActRoute:
    """The routes that take frames, and what they need."""

    inference: InferenceService
    decode_pool: DecodePool
    frame_limiter: RateLimiter
    listeners: Listeners

    def route(self, choose: Selector) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler of a route where `choose` selects the dialect."""

        async def act(request: Request) -> Response:
            """Answer one frame with its action."""
            return await self._act(request, choose)

        return act

    async def _act(self, request: Request, choose: Selector) -> Response:
        route, lifecycle = request.scope["route"].path, self.inference.lifecycle
        with self.inference.frame(route, request.headers, request_id_of(request)) as end:
            watch = Stopwatch()
            caller, share, policy = actor_of(request), share_of(request), lifecycle.ready_policy()
            start_options = listener_of(request.scope, self.listeners).start_options
            head = read_address(
                request,
                path_id=path_parameter(request, "session_id"),
                fallback=listener_of(request.scope, self.listeners).session,
            )
            await self._throttled((share, head.path_id or next(iter(head.ids), "")))
            parser = FrameParser(start_options.apply(policy.info), self.inference.limits)
            frame, codec = await self._frame(request, parser, head, choose, watch)
            fields, registry = frame.session_fields, self.inference.registry
            session = registry.find_or_create(fields.id, owner=caller.name, share=share) if fields else None
            answer = await unless_disconnected(request, self.inference.infer(frame, session, watch, end, share))
            if answer is None:
                end.outcome = Outcome.ABANDONED
                return Response(status_code=CLIENT_GONE)
            return _reply(answer, frame.dialect, codec)

    async def _throttled(self, key: Key) -> None:
        """Apply the frame rate limit. Raises TooMany after a delay, so that a flood slows its sender down."""
        try:
            self.frame_limiter.acquire(key)
        except TooMany as error:
            await throttle(error)
            raise

    async def _frame(
        self, request: Request, parser: FrameParser, head: RequestAddress, choose: Selector, watch: Stopwatch
    ) -> tuple[ParsedFrame, Codec]:
        content_type = request.headers.get("content-type", "")
        codec = codec_of(content_type)
        choose = with_whole_chunks(choose) if _wants_whole_chunk(request) else choose
        share = share_of(request)
        with self.decode_pool.byte_budget.reserve(share) as count:
            body = await read_body(request, parser.limits, count)
            watch.lap("receive")
            frame = await self.decode_pool.run(share, _read, body, content_type, codec, parser, head, choose)
            watch.lap("unpack")
            return frame, codec


def _wants_whole_chunk(request: Request) -> bool:
    """Whether the client reads every action of a chunk. Raises BadRequest for other words than the header's one."""
    said = request.headers.get(CHUNK_HEADER)
    if said not in (None, WHOLE_CHUNK):
        raise BadRequest("bad-field", f"{CHUNK_HEADER} is {reprlib.repr(said)}; expected {WHOLE_CHUNK!r}, or none.")
    return said is not None


def _read(
    body: bytes, content_type: str, codec: Codec, parser: FrameParser, head: RequestAddress, choose: Selector
) -> ParsedFrame:
    """Parse bytes into a frame. Off the event loop."""
    fields = codec.read(body, content_type, parser.limits)
    dialect, fields = choose(fields, codec, parser.limits.max_json_parts)
    return parser.parse(fields, dialect, head, blake2b(body, digest_size=16).digest())


def _reply(answer: Reply, dialect: Dialect, codec: Codec) -> Response:
    headers = {"Server-Timing": _server_timing(answer), **report_headers(answer.report)}
    if answer.replayed:
        headers["X-Stillframe-Replayed"] = "true"
    return Response(codec.write(dialect.write(answer)), headers=headers, media_type=codec.media_type)


def _server_timing(answer: Reply) -> str:
    parts = [f"{name};dur={duration_ms}" for name, duration_ms in answer.timing_ms.items()]
    return ", ".join([*parts, "late"] if answer.late else parts)


async def unless_disconnected(request: Request, answer: Coroutine[None, None, T]) -> T | None:
    """Await `answer`; cancel it and return None as soon as the client has disconnected."""
    answering, disconnect = asyncio.ensure_future(answer), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({answering, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    finally:
        answering.cancel()
        disconnect.cancel()


async def _disconnect(request: Request) -> None:
    """Wait until the client disconnects. The body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
