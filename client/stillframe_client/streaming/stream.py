"""Asks a policy daemon for actions over one WebSocket, with asyncio; the robot's session outlives its connections.

Knows no message: see protocol.py. PolicyStream in blocking.py is the same for programs without asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, Optional

from stillframe_client.arguments import bearer, one_of, seconds, stream_url, trust
from stillframe_client.errors import BadReply, PolicyError, Superseded, TimedOut
from stillframe_client.frames import FrameOptions, frame_fields
from stillframe_client.images import check_encoding, pack_picture
from stillframe_client.replies import ActionReply, ModelInfo
from stillframe_client.sessions import session_name
from stillframe_client.streaming.connector import Connector
from stillframe_client.streaming.protocol import StreamProtocol
from stillframe_client.streaming.requests import RequestKind, StreamRequest
from stillframe_client.streaming.websocket import dial

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from stillframe_client.frames import FrameKeywords, Pictures

SERVICES = ("lockstep", "realtime")
LONGEST_GOODBYE_S = 1.0


class AsyncPolicyStream:
    """A daemon's policy over a WebSocket: picture and instruction in, action out. For one event loop.

    `timeout_s` bounds each call as a whole, reconnecting included, and cannot be switched off. A connection that
    breaks is made anew within it, the session is resumed, and the frame under way is sent again as it was: the daemon
    gives the answer it has, or computes it, never a second one. An answer to any other frame than the one asked about
    is never returned.

    `service`: "lockstep" answers every frame in order; in "realtime" the newest frame takes the place of the one that
    waits, whose `act` raises Superseded. `session`, `reuse`, `encoding`, `token` and `ca_file` are as PolicyClient's.
    """

    def __init__(
        self,
        url: str,
        *,
        session: Optional[str] = None,
        service: str = "lockstep",
        reuse: Optional[str] = None,
        token: Optional[str] = None,
        ca_file: Optional[str] = None,
        timeout_s: float = 10.0,
        encoding: str = "raw",
        jpeg_quality: int = 95,
    ):
        self._timeout_s = seconds("timeout_s", timeout_s)
        self._encoding = check_encoding(encoding)
        self._jpeg_quality = jpeg_quality
        self._protocol = StreamProtocol(
            session_name(session), service=one_of("service", service, SERVICES), reuse=reuse
        )
        calling = partial(dial, stream_url(url), headers=bearer(token), trust=trust(ca_file), timeout_s=self._timeout_s)
        self._connector = Connector(self._protocol, calling, timeout_s=self._timeout_s)
        self._closed = False
        self._sent = self._delivered = 0  # frames sent; number of the newest that is settled
        self._newest: Optional[asyncio.Task[ActionReply]] = None  # settled, not yet returned by `newest`
        self._arrived: Optional[asyncio.Event] = None

    @property
    def session_id(self) -> str:
        """The session that this stream's frames belong to."""
        return self._protocol.session_id

    async def act(self, image: Pictures, instruction: str, **options: Unpack[FrameKeywords]) -> NDArray[np.float64]:
        """Return the action due now, [action_dim] float64 in the robot's units; arguments are as PolicyClient.act's.

        A frame older than `max_age_ms` when it could be sent, or sent again, raises DeadlineExceeded like one that is
        too old when its turn comes.
        """
        return (await self.act_with_report(image, instruction, **options)).action

    async def act_with_report(self, image: Pictures, instruction: str, **options: Unpack[FrameKeywords]) -> ActionReply:
        """Like `act`, and return the whole reply."""
        said = FrameOptions(**options)
        write = partial(pack_picture, encoding=said.encoding or self._encoding, jpeg_quality=self._jpeg_quality)
        fields = frame_fields(image, instruction, write, said)
        reply: ActionReply = await self._answer(RequestKind.FRAME, fields)
        return reply

    def send(self, image: Pictures, instruction: str, **options: Unpack[FrameKeywords]) -> asyncio.Task[ActionReply]:
        """Send a frame without waiting; options are act_with_report's. Await what it returns, or `newest`.

        Frames go out in the order they were sent in. In realtime the one that a newer frame overtook raises
        Superseded.
        """
        task = asyncio.ensure_future(self.act_with_report(image, instruction, **options))
        self._sent += 1
        task.add_done_callback(partial(self._deliver, self._sent))
        return task

    async def newest(self) -> ActionReply:
        """Wait for the newest answer to what was sent, and take it; raise what failed instead, but for Superseded.

        Answers that came before and were not taken are passed over. Raises TimedOut after timeout_s without one.
        """
        self._arrived = self._arrived or asyncio.Event()
        try:
            await asyncio.wait_for(self._arrived.wait(), self._timeout_s)
        except asyncio.TimeoutError:
            raise TimedOut(f"Nothing that was sent was answered within {self._timeout_s} s.") from None
        newest, self._newest = self._newest, None
        self._arrived.clear()
        if newest is None:
            raise _closed()
        return newest.result()

    def __aiter__(self) -> AsyncPolicyStream:
        return self

    async def __anext__(self) -> ActionReply:
        """The newest answer; ends when the stream is closed."""
        if self._closed:
            raise StopAsyncIteration
        try:
            return await self.newest()
        except PolicyError:
            if self._closed:
                raise StopAsyncIteration from None
            raise

    async def reset(self) -> int:
        """Begin the next episode: its first frame reuses nothing. Return the episode's number, from 0.

        An episode without a frame is not ended: it is the next one.
        """
        epoch: int = await self._answer(RequestKind.RESET)
        return epoch

    async def info(self) -> ModelInfo:
        """Return what is served: cameras, action names and units, statistics."""
        await self._answer(RequestKind.OPEN)
        if self._protocol.info is None:
            raise BadReply("The daemon did not say what it serves; is it a stillframe daemon?")
        return self._protocol.info

    async def wait_ready(self, timeout_s: float) -> None:
        """Return as soon as frames can be sent; raise TimedOut with the daemon's last word if that takes too long.

        A daemon that is not listening yet counts as not ready.
        """
        await self._answer(RequestKind.OPEN, timeout_s=seconds("timeout_s", timeout_s), patient=True)

    async def close(self) -> None:
        """End the session and the connection. The stream cannot be used afterwards."""
        if self._closed:
            return
        if self._protocol.is_open:
            with contextlib.suppress(PolicyError):  # then the session expires
                await self._answer(RequestKind.CLOSE, timeout_s=min(self._timeout_s, LONGEST_GOODBYE_S))
        self._closed = True
        await self._connector.close()
        self._protocol.fail(_closed())
        if self._arrived is not None:
            self._arrived.set()

    async def __aenter__(self) -> AsyncPolicyStream:
        return self

    async def __aexit__(
        self, kind: Optional[type], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        await self.close()

    async def _answer(
        self,
        kind: RequestKind,
        fields: Optional[Dict[str, Any]] = None,
        *,
        timeout_s: Optional[float] = None,
        patient: bool = False,
    ) -> Any:
        if self._closed:
            raise _closed()
        request: StreamRequest = self._protocol.submit(kind, fields)
        return await self._connector.answer(request, timeout_s or self._timeout_s, patient=patient)

    def _deliver(self, number: int, task: asyncio.Task[ActionReply]) -> None:
        """Keep the newest frame's result for `newest`, which also raises a failure that is not awaited elsewhere."""
        if task.cancelled() or isinstance(task.exception(), Superseded) or number < self._delivered:
            return
        self._newest, self._delivered = task, number
        self._arrived = self._arrived or asyncio.Event()
        self._arrived.set()


def _closed() -> PolicyError:
    return PolicyError("This stream is closed; make a new one.")
