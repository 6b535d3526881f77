"""AsyncPolicyStream for programs without asyncio: a thread of its own runs it.

Knows no message. The thread answers pings and notices a closing daemon while the robot moves.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, Coroutine, Optional, TypeVar

from stillframe_client.errors import PolicyError, TimedOut
from stillframe_client.streaming.stream import LONGEST_GOODBYE_S, AsyncPolicyStream

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from stillframe_client.frames import FrameKeywords, Pictures
    from stillframe_client.replies import ActionReply, ModelInfo

GRACE_S = 1.0  # beyond the loop's own timeout, for a loop that is blocked
Result = TypeVar("Result")


class PolicyStream:
    """A daemon's policy over a WebSocket, as a call. For any thread; calls may overlap.

    Arguments and promises are AsyncPolicyStream's; the calls are PolicyClient's.
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
        self._stream = AsyncPolicyStream(
            url,
            session=session,
            service=service,
            reuse=reuse,
            token=token,
            ca_file=ca_file,
            timeout_s=timeout_s,
            encoding=encoding,
            jpeg_quality=jpeg_quality,
        )
        self._timeout_s = timeout_s
        self._starting = threading.Lock()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._thread: Optional[threading.Thread] = None
        self._closed = False

    @property
    def session_id(self) -> str:
        """The session that this stream's frames belong to."""
        return self._stream.session_id

    def act(self, image: Pictures, instruction: str, **options: Unpack[FrameKeywords]) -> NDArray[np.float64]:
        """Return the action due now, [action_dim] float64; see AsyncPolicyStream.act."""
        return self.act_with_report(image, instruction, **options).action

    def act_with_report(self, image: Pictures, instruction: str, **options: Unpack[FrameKeywords]) -> ActionReply:
        """Like `act`, and return the whole reply."""
        return self._run(self._stream.act_with_report(image, instruction, **options))

    def reset(self) -> int:
        """Begin the next episode and return its number; see AsyncPolicyStream.reset."""
        return self._run(self._stream.reset())

    def info(self) -> ModelInfo:
        """Return what is served: cameras, action names and units, statistics."""
        return self._run(self._stream.info())

    def wait_ready(self, timeout_s: float) -> None:
        """Return as soon as frames can be sent; see AsyncPolicyStream.wait_ready."""
        self._run(self._stream.wait_ready(timeout_s), timeout_s)

    def close(self) -> None:
        """End the session, the connection and the thread. The stream cannot be used afterwards."""
        with self._starting:
            if self._closed:
                return
            self._closed = True
        if self._loop is not None and self._thread is not None:
            self._leave(self._loop, self._thread)

    def __enter__(self) -> PolicyStream:
        return self

    def __exit__(
        self, kind: Optional[type], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self.close()

    def _run(self, call: Coroutine[Any, Any, Result], timeout_s: Optional[float] = None) -> Result:
        """Run it on the thread, and wait."""
        most_s = (timeout_s or self._timeout_s) + GRACE_S
        try:
            future = asyncio.run_coroutine_threadsafe(call, self._running_loop())
        except BaseException:
            call.close()  # it will not run: no warning about that
            raise
        try:
            return future.result(most_s)
        except concurrent.futures.TimeoutError:
            raise TimedOut(f"No answer within {most_s} s: this process had no time to look for one.") from None
        finally:
            future.cancel()  # of no effect on what is done; also when the caller is interrupted

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """The thread's loop, started when it is first needed."""
        with self._starting:
            if self._closed:
                raise PolicyError("This stream is closed; make a new one.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon thread: a stream that was not closed does not keep the program from ending.
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="stillframe", daemon=True)
                self._thread.start()
            return self._loop

    def _leave(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        closing = asyncio.run_coroutine_threadsafe(self._stream.close(), loop)
        try:
            closing.result(4 * LONGEST_GOODBYE_S)
        except concurrent.futures.TimeoutError:
            closing.cancel()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(GRACE_S)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped, then cancel its tasks."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    finally:
        loop.close()
